"""The FUSE door without a mount: every failure becomes the errno that a program knows, and none ends the door."""

import errno
import logging
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pyfuse3
import pytest

from fmrd.engine.opening.still_opening import Arriving
from fmrd.engine.registry import Registry
from fmrd.engine.served import Served
from fmrd.errors import Failed
from fmrd.front.doors.fusefs import VolumeFiles


class Volume:
    """A Served that fails as it is told."""

    def __init__(self, number: int = 2, length: int = 8192) -> None:
        self.number, self.length_bytes, self.name = number, length, f"v{number}"
        self.failure: Exception | None = None
        self.count = 0
        self.written: list[tuple[int, bytes]] = []

    def opened(self) -> None:
        self._fail()
        self.count += 1

    def released(self) -> None:
        self.count -= 1

    def read_now(self, offset: int, buffer: memoryview, done: Callable[[Any], None]) -> None:
        done(self.failure or b"r" * len(buffer))

    def write_now(self, offset: int, data: bytes, done: Callable[[Any], None]) -> bool:
        """The last byte of the volume is the last that fits."""
        room = self.length_bytes - offset
        too_far = None if room > 0 else Failed("beyond_end", "too far", errno=errno.ENOSPC)
        self.written.append((offset, data[:room]))
        done(self.failure or too_far or min(len(data), room))
        return False

    def flush_now(self, done: Callable[[Any], None]) -> None:
        done(self.failure)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def volume() -> Volume:
    return Volume()


@pytest.fixture
def files(volume: Volume) -> VolumeFiles:
    served = cast(Served, volume)
    arriving = Arriving()
    arriving.found([])
    registry = SimpleNamespace(
        served=lambda: [served], find={volume.name: served}.get, numbered={2: served}.get, arriving=arriving
    )
    return VolumeFiles(cast(Registry, registry))


async def code_of(awaitable: Any) -> int:
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await awaitable
    return int(caught.value.errno)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failed("io_error", "all gone"), errno.EIO),
        (Failed("volume_stopped", "stopped", errno=errno.ENODEV), errno.ENODEV),
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC),
        (OSError("without a number"), errno.EIO),
    ],
)
async def test_failures_become_their_errno(files: VolumeFiles, volume: Volume, failure: Exception, code: int) -> None:
    handle = (await files.open(2, os.O_RDWR, None)).fh
    volume.failure = failure
    assert await code_of(files.read(handle, 0, 10)) == code
    assert await code_of(files.write(handle, 0, b"x")) == code
    assert await code_of(files.fsync(handle, True)) == code
    assert await code_of(files.open(2, os.O_RDWR, None)) == code


async def test_a_bug_is_an_io_error_and_a_log_entry(
    files: VolumeFiles, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    handle = (await files.open(2, os.O_RDWR, None)).fh
    volume.failure = ZeroDivisionError("oops")
    with caplog.at_level(logging.ERROR):
        assert await code_of(files.read(handle, 0, 10)) == errno.EIO
    assert "ZeroDivisionError" in caplog.text


async def test_a_write_is_answered_with_what_was_written(files: VolumeFiles, volume: Volume) -> None:
    handle = (await files.open(2, os.O_RDWR, None)).fh
    assert await files.write(handle, 8190, b"abcd") == 2
    assert volume.written == [(8190, b"ab")]
    assert await files.write(handle, 0, b"abcd") == 4
    assert await code_of(files.write(handle, 8192, b"abcd")) == errno.ENOSPC


async def test_opens_are_counted(files: VolumeFiles, volume: Volume) -> None:
    first = (await files.open(2, os.O_RDONLY, None)).fh
    second = (await files.open(2, os.O_RDONLY, None)).fh
    assert first != second and volume.count == 2
    await files.release(first)
    await files.release(second)
    assert volume.count == 0


async def test_what_is_not_there_is_not_found(files: VolumeFiles) -> None:
    assert await code_of(files.lookup(pyfuse3.ROOT_INODE, b"other", None)) == errno.ENOENT
    assert await code_of(files.lookup(2, b"v2", None)) == errno.ENOENT
    assert await code_of(files.getattr(77)) == errno.ESTALE
    assert await code_of(files.opendir(2, None)) == errno.ENOTDIR
