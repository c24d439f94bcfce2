"""Backing reads and writes: it makes the only system calls on data. It never knows what a volume is, and decides
nothing. The rest of fmrd sees protocol.py and calls/system_calls.py of it, and the simulation brings a machine of its
own for both. It may import values of core, and errors.
"""
