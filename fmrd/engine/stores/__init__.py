"""Stores at work: room for what instant snapshots keep, and what becomes of them where there is none left.

Never: an original that fails, or waits for longer than a snapshot's disk may take.
"""
