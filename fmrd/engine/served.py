"""What a door sees of a started volume: the file behind it, and what can be asked of that."""

import errno
from uuid import UUID

from fmrd.engine.running import Running
from fmrd.engine.serving import reading, requests
from fmrd.engine.serving.quick import Half, Quick, Rest
from fmrd.errors import Failed


class Served:
    """What a door sees of one started volume."""

    def __init__(self, name: str, running: Running) -> None:
        self._running = running
        self._quick = Quick(running.mirror)
        self.name = name
        self.number = number_of(running.volume.settings.uuid)
        self.closed = False

    @property
    def length_bytes(self) -> int:
        return self._running.volume.geometry.length_bytes

    def opened(self) -> None:
        self._must_be_open()
        self._running.open_count += 1

    def released(self) -> None:
        self._running.open_count -= 1

    def read_now(self, offset: int, buffer: memoryview) -> int | None:
        """Into ``buffer``, if nothing has to be waited for: how many bytes there were. None: ask by ``read``."""
        return None if self.closed else self._quick.read(offset, buffer)

    def write_now(self, offset: int, data: bytes | memoryview, *, by_halves: bool = False) -> bool | Rest | Half:
        """True: done. False: nothing was done, ask by ``write``. Else what is left to be waited for, or with
        ``by_halves`` perhaps what is to be finished before the next checkpoint.
        """
        return False if self.closed else self._quick.write(offset, data, by_halves=by_halves)

    async def read(self, offset: int, length: int) -> bytes:
        self._must_be_open()
        return await requests.read(self._running.mirror, offset, length)

    async def write(self, offset: int, data: bytes) -> None:
        self._must_be_open()
        await requests.write(self._running.mirror, offset, data)

    async def make_zero(self, offset: int, length: int, *, punch: bool) -> None:
        """As a write of zeros; with ``punch`` their blocks are given back where that can be."""
        self._must_be_open()
        await requests.make_zero(self._running.mirror, offset, length, punch=punch)

    async def seek(self, offset: int, *, data: bool) -> int:
        self._must_be_open()
        return await reading.seek(self._running.mirror, offset, data=data)

    async def flush(self) -> None:
        self._must_be_open()
        await requests.flush(self._running.mirror)

    def _must_be_open(self) -> None:
        if self.closed:
            raise Failed("volume_stopped", f"volume {self.name} is stopped", errno=errno.ENODEV)


def number_of(uuid: str) -> int:
    """What a door calls a volume in its inodes: the same through renaming and restarts, and never that of another. 1 is
    the root of the mount.
    """
    return UUID(uuid).node + 2
