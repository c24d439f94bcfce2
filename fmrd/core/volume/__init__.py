"""This wing holds the truth of one volume, and of a family of them, and the synchronous steps in which it changes. It
never waits and never does I/O: it returns plans and judges outcomes. It imports the values and maps of core.
"""
