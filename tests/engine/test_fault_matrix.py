"""The fault matrix: what fails, when, on which of how many plexes -> what the application sees, and what they become.

Each row is played to its end: the fault passes, what was detached comes back by itself, and all copies are the same.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fmrd.errors import FmrdError
from tests.engine.rig import SIZE, Rig, daemon
from tests.waiting import until

SOON = 0.05
TIMEOUT_SECONDS = 1.0
LENGTH = 4 * SIZE


@dataclass(frozen=True)
class Row:
    fails: str
    """The call: pwrite, pread, fdatasync, copy_from, dco_write; of two faults at once both, with +."""
    how: str
    """EIO, ENOSPC, or hang."""
    on: str
    """The plexes that fail, of ``plexes``; of two faults those of each, with +."""
    plexes: str
    moment: str
    """write, read, flush, or attach: the fault is there while the application does that, or while b is copied to."""
    sees: str
    """ok, or the code of its error."""
    states: str
    """While the fault lasts."""

    def __str__(self) -> str:
        return f"{self.fails}_{self.how}_on_{self.on}_of_{self.plexes}_at_{self.moment}"


# fmt: off
TABLE = [
    #   call         how       on   of    moment    sees         states
    Row("pwrite",    "EIO",    "b", "ab",  "write",  "ok",        "ACTIVE IOFAIL"),
    Row("pwrite",    "EIO",    "a", "ab",  "write",  "ok",        "IOFAIL ACTIVE"),
    Row("pwrite",    "ENOSPC", "b", "ab",  "write",  "ok",        "ACTIVE IOFAIL"),
    Row("pwrite",    "hang",   "b", "ab",  "write",  "ok",        "ACTIVE IOFAIL"),
    Row("pwrite",    "EIO",    "c", "abc", "write",  "ok",        "ACTIVE ACTIVE IOFAIL"),
    Row("pwrite",    "EIO",    "bc", "abc", "write", "ok",        "ACTIVE IOFAIL IOFAIL"),
    Row("pwrite",    "EIO",    "a", "a",   "write",  "io_error",  "ACTIVE"),
    Row("pwrite",    "ENOSPC", "a", "a",   "write",  "io_error",  "ACTIVE"),
    Row("pread",     "EIO",    "a", "ab",  "read",   "ok",        "ACTIVE ACTIVE"),
    Row("pread",     "EIO",    "ab", "abc", "read",  "ok",        "ACTIVE ACTIVE ACTIVE"),
    Row("pread",     "hang",   "a", "ab",  "read",   "ok",        "IOFAIL ACTIVE"),
    Row("pread",     "EIO",    "ab", "ab", "read",   "io_error",  "ACTIVE ACTIVE"),
    Row("pread",     "EIO",    "a", "a",   "read",   "io_error",  "ACTIVE"),
    Row("fdatasync", "EIO",    "b", "ab",  "flush",  "ok",        "ACTIVE IOFAIL"),
    Row("fdatasync", "hang",   "b", "ab",  "flush",  "ok",        "ACTIVE IOFAIL"),
    Row("fdatasync", "EIO",    "b", "abc", "flush",  "ok",        "ACTIVE IOFAIL ACTIVE"),
    Row("fdatasync", "EIO",    "a", "a",   "flush",  "suspect",   "ACTIVE"),
    Row("dco_write", "EIO",    "b", "ab",  "write",  "ok",        "ACTIVE IOFAIL"),
    Row("dco_write", "hang",   "b", "ab",  "write",  "ok",        "ACTIVE IOFAIL"),
    Row("dco_write", "EIO",    "a", "a",   "write",  "ok",        "ACTIVE"),
    Row("copy_from", "EIO",    "b", "ab",  "attach", "ok",        "ACTIVE IOFAIL"),
    Row("copy_from", "ENOSPC", "b", "ab",  "attach", "ok",        "ACTIVE IOFAIL"),
    Row("pread",     "EIO",    "a", "abc", "attach", "ok",        "ACTIVE ACTIVE ACTIVE"),
    Row("fdatasync", "EIO",    "b", "ab",  "attach", "ok",        "ACTIVE IOFAIL"),
    #   two at once
    Row("pwrite",           "EIO",  "ab",  "ab",  "write",  "io_error", "ACTIVE ACTIVE"),
    Row("pwrite+dco_write", "EIO",  "b+c", "abc", "write",  "ok", "ACTIVE IOFAIL IOFAIL"),
    Row("pwrite+fdatasync", "EIO",  "b+c", "abc", "flush",  "ok", "ACTIVE IOFAIL IOFAIL"),
    Row("pwrite+pwrite",    "hang", "b+c", "abc", "write",  "ok", "ACTIVE IOFAIL IOFAIL"),
    Row("pwrite+pread",     "EIO",  "b+c", "abc", "write",  "ok", "ACTIVE IOFAIL ACTIVE"),
    Row("pread+copy_from",  "EIO",  "a+b", "abc", "attach", "ok", "ACTIVE IOFAIL ACTIVE"),
]
# fmt: on


@contextmanager
def fault(rig: Rig, row: Row) -> Iterator[None]:
    with ExitStack() as stack:
        for call, letters in zip(row.fails.split("+"), row.on.split("+"), strict=True):
            for letter in letters:
                path = rig.path(letter + ".dco" if call == "dco_write" else letter)
                if row.how == "hang":
                    stack.enter_context(rig.host.hanging(path, call))
                else:
                    stack.enter_context(rig.host.failing(path, call, code=getattr(errno, row.how)))
        yield


async def application(rig: Rig, moment: str) -> str:
    """What it sees."""
    try:
        if moment == "read":
            await rig.data.read(2 * SIZE, 4096)
        else:
            await rig.data.write(SIZE + 7, b"the application")
        if moment == "flush":
            await rig.data.flush()
    except FmrdError as error:
        return error.code
    return "ok"


@pytest.mark.parametrize("row", TABLE, ids=str)
async def test_what_the_application_sees_and_what_becomes_of_the_plexes(row: Row, tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=TIMEOUT_SECONDS, return_seconds=SOON) as rig:
        await rig.make(row.plexes, size_bytes=LENGTH)
        await rig.data.write(0, os.urandom(LENGTH))
        await rig.data.flush()
        await rig.service.mirror.clean()
        if row.moment == "attach":
            await rig.det("b")
            await rig.write_regions(3, 100)
            await rig.service.mirror.clean()
        # It comes back by itself only when the fault is over: what it is while that lasts is to be seen.
        await rig.verbs.set(volume="data", settings={"auto_attach": "off"})
        with fault(rig, row):
            if row.moment == "attach":
                await rig.end(await rig.att("b"))
            assert await application(rig, row.moment) == row.sees
            assert await rig.states() == row.states
        await rig.verbs.set(volume="data", settings={"auto_attach": "on"})
        await until(lambda: all(plex.state == "ACTIVE" for plex in rig.service.volume.plexes))
        content = os.urandom(LENGTH)  # all of it, for what a flush left suspect is so until it is written anew
        await rig.data.write(0, content)
        await rig.data.flush()
        assert await rig.data.read(0, LENGTH) == content
        await rig.end_all()
        await rig.stop()
    assert rig.same(*row.plexes)
