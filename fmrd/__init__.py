"""fmrd serves mirrored volumes with FastResync. Core knows, dco remembers, engine does, front speaks."""
