"""What of storage may be begun on trio's thread, and tells of its end there by a callback (SystemCalls.begin)."""

from typing import Protocol

from fmrd.backing.calls.system_calls import Began


class BegunBacking(Protocol):
    """The data of one plex, where ``begins``. What is given stays as it is until ``ended`` is called."""

    @property
    def begins(self) -> bool:
        """Tell whether these can be begun, so that no thread waits for them."""

    def begin_pwrite(self, offset: int, data: bytes | memoryview, ended: Began) -> None:
        """Begin a pwrite."""

    def begin_fdatasync(self, ended: Began) -> None:
        """Begin an fdatasync, which covers what has ended by now."""

    def begin_pread_into(self, offset: int, buffer: memoryview, ended: Began) -> None:
        """Begin a pread_into. After a read that was given up, ``buffer`` may be filled yet."""
