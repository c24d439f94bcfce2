"""A record of the DCO, as values: what its parts are."""
