"""Requests to the kernel's io_uring: many system calls in one, whose ends are read from memory. No library: mmap and
ctypes are all that it takes.

Threads of the kernel's. What cannot be done at once is done by a worker, a thread that the kernel adds to this process.
Workers belong to the thread that hands over, not to the ring: a second ring parts nothing. A request that was tried
first is then bounded (``WORKERS``) and, if it is a write to a plain file, goes into one of 64 rows by its inode, where
one waits for another: a file that hangs holds up one in 64 of all others, whatever disk they lie on (3 of 200 were seen
to wait). One with ``in_worker`` is in no row and not bounded, so that no file holds up another (none of 200), but for
fdatasync, which is bounded. So: ``in_worker`` where a request would not be done at once anyway (buffered writes on
ext4, which cost a quarter less so at 4 KiB), or where it must not be tried: a file that has ``poll`` and does not know
of requests that must not wait, as on FUSE, makes ``submit`` itself wait for the disk. Without it: XFS, where a write is
over within ``submit``.

A process that ends. Requests that workers have begun go on until they end; those that wait for their turn never run.
The thread that handed over does not end before its workers have, and with it all descriptors of the process stay open
and locked, as they do while any thread hangs; those in a table of their own (``owning/locking.py``) are free at once.
It is asleep uninterruptibly then and not marked as exiting; what it sleeps in tells that (``under_way.has_ended``): a
signal leaves a trace in its status (ShdPnd) only where it was sent to the process, not to a thread, or a control group.
Workers have numbers that nobody knows before: what they may still write to is noted for the thread that handed over.

Limits. RLIMIT_MEMLOCK counts the ring itself for who is not privileged: no ring is given then. RLIMIT_NPROC counts
workers for the same: where none can be had, requests end with -ECANCELED, and those in a row may wait until there is
one; nothing here cancels a request, so that number says that a thread was missing. Memory that is short shows as
-EAGAIN. RLIMIT_FSIZE: a short write, then -EFBIG, and no signal.

Tried, and left out. DEFER_TASKRUN: each look at the ends costs a system call, and who waits for the ring's descriptor
is not woken. An eventfd: no cheaper than the ring's own descriptor, which needs no clearing. COOP_TASKRUN and
SINGLE_ISSUER change nothing that can be measured for buffered writes; the first spares interrupts where reads end
asynchronously, the second has the kernel refuse (EEXIST) what another thread hands over.
"""
