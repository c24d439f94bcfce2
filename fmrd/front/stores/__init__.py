"""Stores as a user declares them and sees them. Never: what is given up in one, which the engine decides."""
