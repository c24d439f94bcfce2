"""Fmrctl at hand: verbs that take what people type, and do in one word what they would do in three."""
