"""Whom events reach: clients that listen, the history, the journal, hooks. None of them holds up the daemon."""
