"""Maps for others, at fmrctl's end: ranges, streams, retention."""
