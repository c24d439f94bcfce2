"""The front speaks: with the kernel (doors/), with who started fmrd and with fmrctl (daemon/), and fmrctl with people
(ctl/). It never holds the state of a volume, and never decides what happens to one: what is behind a handle or a verb
is the engine's. It may import whatever lies below it.
"""
