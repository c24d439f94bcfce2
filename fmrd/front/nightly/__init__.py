"""The night of a volume: a plan of the administrator's, its steps, and nights that were missed."""
