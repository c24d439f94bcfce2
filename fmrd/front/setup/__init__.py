"""What makes fmrd a part of a machine: manual pages, completion, units in place, volumes as a file declares them."""
