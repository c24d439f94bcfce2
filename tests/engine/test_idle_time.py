"""A copy of plexes in memory beside an application: on trio's thread, piece by piece, and given up for who waits."""

import errno
import os
import threading

import pytest
import trio

from fmrd.backing.calls import idle_time
from fmrd.engine.resync import transfers, windows
from tests.engine.faulty import FaultyBacking, Operation
from tests.engine.rig import REGION, SIZE, Json, Rig
from tests.waiting import LATE_SECONDS

WINDOW = 8
"""Regions. A piece is one."""


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaultyBacking, "inline", True)
    monkeypatch.setattr(windows, "WINDOW_BYTES", WINDOW * REGION)
    monkeypatch.setattr(windows, "LONG_WINDOW_BYTES", WINDOW * REGION)
    monkeypatch.setattr(transfers, "SHORT_PIECE_BYTES", REGION)
    monkeypatch.setattr(idle_time, "LAG_SECONDS", 0.0)  # one piece in a round of the loop, so that others come between


class Pieces:
    """Hears of each piece that is copied to a plex: the region, and whether it was on this thread."""

    def __init__(self, rig: Rig, letter: str) -> None:
        self.here: list[bool] = []
        self.regions: list[int] = []
        self.at_each = lambda: None
        self._path = str(rig.path(letter))
        self._thread = threading.get_ident()
        rig.host.watch.hooks.append(self)

    def __call__(self, operation: Operation) -> None:
        if operation.name == "copy_from" and operation.path == self._path:
            self.here.append(threading.get_ident() == self._thread)
            self.regions.append(operation.offset // REGION)
            if self.here[-1]:
                self.at_each()


async def detached(rig: Rig, letters: str = "ab") -> Pieces:
    """A volume full of data, whose plex b is to be copied as a whole."""
    await rig.make(letters)
    await rig.data.write(0, os.urandom(SIZE))
    await rig.det("b")
    await rig.data.write(0, os.urandom(SIZE))
    return Pieces(rig, "b")


async def attached(rig: Rig) -> Json:
    """Beside a request that takes as long as that."""
    with trio.fail_after(LATE_SECONDS), rig.service.mirror.load.request(rig.service.volume):
        return await rig.end(await rig.att("b"))


async def test_it_needs_a_thread_only_to_find_out_where_there_is_data(rig: Rig) -> None:
    pieces = await detached(rig)
    task = await attached(rig)
    assert (task["state"], task["done_bytes"], task["copied_bytes"]) == ("done", SIZE, SIZE)
    assert pieces.here == [False] * WINDOW + [True] * (64 - WINDOW)
    await rig.stop()
    assert rig.same("a", "b")


async def test_without_an_application_threads_copy(rig: Rig) -> None:
    pieces = await detached(rig)
    await rig.end(await rig.att("b"))
    assert len(pieces.here) == 64 and not any(pieces.here)


async def test_what_may_be_a_hole_is_for_a_thread(rig: Rig) -> None:
    await rig.make("ab")
    await rig.write_regions(*range(0, 64, 2))
    await rig.det("b")
    await rig.write_regions(*range(0, 64, 2))
    pieces = Pieces(rig, "b")
    with trio.fail_after(LATE_SECONDS), rig.service.mirror.load.request(rig.service.volume):
        await rig.end(await rig.att("b", full=True))
    assert len(pieces.here) == 64 and not any(pieces.here)
    await rig.stop()
    assert rig.same("a", "b")


async def test_who_waits_for_bytes_of_a_window_has_them_after_the_piece_under_way(
    rig: Rig, nursery: trio.Nursery
) -> None:
    pieces = await detached(rig)
    seen: list[int] = []

    async def write() -> None:
        await rig.data.write(SIZE - REGION + 512, b"wanted")
        seen.append(len(pieces.regions))

    def at_each() -> None:
        if pieces.regions[-1] == 64 - WINDOW + 1:
            nursery.start_soon(write)

    pieces.at_each = at_each
    task = await attached(rig)
    assert task["state"] == "done"
    assert seen and seen[0] <= 64 - WINDOW + 3, "the window had six more"
    await rig.stop()
    assert rig.same("a", "b")
    assert rig.bytes_of("a")[SIZE - REGION + 512 :][:6] == b"wanted"


async def test_a_detach_in_the_middle_leaves_the_rest_in_the_map(rig: Rig, nursery: trio.Nursery) -> None:
    pieces = await detached(rig)

    def at_each() -> None:
        if pieces.regions[-1] == 30:
            nursery.start_soon(rig.det, "b")

    pieces.at_each = at_each
    task = await attached(rig)
    assert task["state"] == "aborted"
    assert 31 <= len(pieces.regions) < 64
    pieces.at_each = lambda: None
    again = await attached(rig)
    assert 64 - len(pieces.regions[:WINDOW]) >= again["total_regions"] >= 64 - 32
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_source_that_fails_is_replaced(rig: Rig) -> None:
    pieces = await detached(rig, "abc")

    def fails(operation: Operation) -> None:
        if operation.name == "pread" and operation.path == str(rig.path("a")) and operation.offset == 40 * REGION:
            raise OSError(errno.EIO, "no")

    rig.host.watch.hooks.append(fails)
    assert (await attached(rig))["state"] == "done"
    assert any(pieces.here)
    assert (await rig.shown("a"))["errors"] >= 1
    rig.host.watch.hooks.remove(fails)
    await rig.stop()
    assert rig.same("a", "b", "c")


async def test_a_target_that_fails_leaves(rig: Rig) -> None:
    pieces = await detached(rig)

    def at_each() -> None:
        if pieces.regions[-1] == 40:
            raise OSError(errno.EIO, "no")

    pieces.at_each = at_each
    task = await attached(rig)
    assert (task["state"], task["error"]["code"]) == ("failed", "io_error")
    assert await rig.states() == "ACTIVE IOFAIL"
