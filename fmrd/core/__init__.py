"""Core knows: it decides what is to be done about a volume, and never does it. There is no I/O, no clock, no chance, no
trio and no log here, so each decision is one synchronous step over values, and is tested in tables. It may import
bitarray, the pure modules of the standard library that ``tests/tidy`` lists, and ``fmrd.errors``.
"""
