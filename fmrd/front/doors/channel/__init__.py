"""The channel door speaks the kernel's FUSE protocol itself, over /dev/fuse. It never waits for a disk on trio's
thread, and never answers a request twice. It imports what every door does, the supervisor that keeps its mount, and
idle_time.
"""
