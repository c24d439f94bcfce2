"""The engine does: trio lives here, and what is left to it is the order of awaits, which CONCURRENCY.md goes through.
It never makes a system call on data, never writes a byte of the DCO, and never decides: that is backing's, dco's and
core's, which it may import, of backing only the protocol and system_calls.
"""
