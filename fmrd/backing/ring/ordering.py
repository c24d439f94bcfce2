"""Memory is shared with the kernel in an order that both sides rely on.

Two words are shared with the kernel at a time that nobody chooses: the tail of the ends, which it
writes, and their head, which it reads. All others it looks at only within io_uring_enter, which this thread calls
(there is no polling thread in the kernel): what the thread wrote before the call, the call sees, on every machine. The
tail is to be read before the ends that it tells of, and the ends before the head that gives their places back. On
x86-64 (TSO) loads stay in order, and a store never passes an earlier load. On aarch64 they may be exchanged. What plain
Python has there is a lock: to release it is a store-release, behind which nothing earlier may come, and to acquire it a
load-acquire, before which nothing later may come; such a load never passes such a store that precedes it. So a lock
that is held is released and acquired again, in that order (the other way round, an earlier load might still be delayed
to behind the acquire, and a later one be made before the release). Words are read and written by a memoryview of
unsigned ints, each in one piece. They run up to 2^32 and begin again at 0; what is counted here has 32 bits as well.
"""

import platform
import threading
from collections.abc import Callable


def barrier_of(machine: str) -> Callable[[], object] | None:
    if machine in ("x86_64", "AMD64", "i686"):
        return None
    lock = threading.Lock()
    lock.acquire()

    def exchange() -> None:
        lock.release()
        lock.acquire()

    return exchange


barrier = barrier_of(platform.machine())
"""To be called between two accesses that must stay in order; None where they do anyway."""
