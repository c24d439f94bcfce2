"""This wing leads from files to an open volume: a start at home, an import, a new volume. It never serves a request,
and never decides who is on-line (core/decisions). It imports serving/, whose mirror it makes, and the context, below it
dco, core, and backing's protocol and system_calls.
"""
