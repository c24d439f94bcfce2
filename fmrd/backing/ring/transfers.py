"""Reads and writes of a file through a ring, until all of their bytes are there: the kernel may stop short of that."""

import errno
from collections.abc import Callable
from typing import Protocol

from fmrd.backing.ring.abi import error_of
from fmrd.backing.ring.ring import Ring

Over = Callable[[Exception | None], None]


class File(Protocol):
    """What is read and written: a descriptor, and the ring that it is handed to."""

    fd: int
    path: str
    ring: Ring | None
    in_worker: bool

    def ends_too_early(self, at: int, missing: int) -> OSError:
        """The error of a read that came to the end of the file; it may be raised as well."""


class Write:
    """A write, of ``left`` bytes at ``address``, which ``data`` keeps alive."""

    __slots__ = ("address", "data", "file", "left", "offset", "over")

    def __init__(
        self, file: File, offset: int, address: int, left: int, data: bytes | memoryview, over: Over
    ) -> None:  # fmt: skip
        self.file = file
        self.offset = offset
        self.address = address
        self.left = left
        self.data = data
        self.over = over

    def push(self) -> None:
        file = self.file
        ring = file.ring
        assert ring is not None, "nothing begins without one"
        ring.write(file.fd, self.address, self.left, self.offset, self.told, self.data, file.in_worker)

    def told(self, result: int) -> None:
        """By the ring, how far it came."""
        if result == self.left:
            self.over(None)
        elif result > 0:
            self.address, self.offset, self.left = self.address + result, self.offset + result, self.left - result
            self.push()
        elif result == 0:
            self.over(OSError(errno.EIO, f"{self.file.path} took no byte at {self.offset}"))
        else:
            self.over(error_of(result))


class Read(Write):
    """A read, likewise. A worker has it also on a device: to begin it in place could wait for a disk that hangs."""

    __slots__ = ()

    def push(self) -> None:
        file = self.file
        assert file.ring is not None, "nothing begins without one"
        file.ring.read(file.fd, self.address, self.left, self.offset, self.told, self.data, in_worker=True)

    def told(self, result: int) -> None:
        if result:
            super().told(result)
            return
        try:
            error = self.file.ends_too_early(self.offset, self.left)
        except OSError as changed:
            error = changed
        self.over(error)
