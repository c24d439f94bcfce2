"""Every verb of fmrctl is a method here: checked arguments in, JSON out. A verb never awaits a disk by itself, but for
removing files; it has the rooms of the engine do it. It may import all of them, and nothing imports it but front.
"""
