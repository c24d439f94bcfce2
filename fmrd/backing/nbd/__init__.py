"""Plexes and copies of the DCO on NBD servers. Nothing that a server says is believed before it was checked, and what
was sent is never sent again: a session that is lost is a plex that failed (docs/FAR.md).
"""
