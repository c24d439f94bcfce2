"""The DCO remembers: records and map pages are made durable here, in the order of PROTOCOLS, "H first". It never
decides which plexes a write goes to, or when. It may import core, errors, and of backing only the protocol and
system_calls.
"""
