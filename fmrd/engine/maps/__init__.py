"""Maps for others: what changed, marks, and streams that are received."""
