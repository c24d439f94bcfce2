"""Fmrctl at a glance: how a volume is, what has happened to it, and what people type instead of what is meant."""
