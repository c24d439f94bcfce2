"""Requests to the kernel's io_uring: many system calls in one, whose ends are read from memory. No library: mmap and
ctypes are all that it takes.
"""
