"""The copy of the DCO that travels with a plex, before a volume has it."""
