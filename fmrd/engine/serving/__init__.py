"""This wing carries out the requests of the application on one open volume: reads, writes, zeros and flushes, and what
keeps them safe. It never runs a verb, and never opens a plex. It imports core, dco, the protocol and system_calls of
backing, and nothing else of the engine.
"""
