"""The bytes of streams, at fmrctl's end: what docs/STREAM.md says."""
