"""These verbs are over maps, for others: what changed, marks, and streams that are received."""
