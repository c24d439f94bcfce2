"""Writes on their way: whether a call has landed, what waits for that, and when nothing is under way any more."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing

from fmrd.backing.calls.system_calls import Began
from fmrd.backing.protocol import Backing
from fmrd.engine.serving.writes_under_way import Landing, Writer
from fmrd.errors import Answered, Failed
from tests.engine.rig import Rig, daemon
from tests.waiting import until

IO, ANSWERED, MEMORY = OSError(errno.EIO, "lost"), Answered(errno.EIO, "said so"), OSError(errno.ENOMEM, "no memory")


class Far:
    """A backing whose writes end when a test says so."""

    def __init__(self) -> None:
        self.begun: list[Began] = []

    def begin_pwrite(self, offset: int, data: bytes, ended: Began) -> None:
        self.begun.append(ended)


def landing(run: Callable[[], object], *, far: bool) -> Landing:
    return Landing(run, ((0, 1),), far)


@pytest.mark.parametrize(
    ("far", "error", "landed"),
    [(False, None, True), (True, None, True), (False, IO, True), (True, IO, False), (True, ANSWERED, True)],
)
def test_an_error_ends_a_call_but_on_the_way_to_a_far_side(far: bool, error: OSError | None, landed: bool) -> None:
    def run() -> None:
        if error is not None:
            raise error

    call, begun, backing = landing(run, far=far), [], Far()
    if error is None:
        call()
    else:
        with pytest.raises(OSError, match=str(error.strerror)):
            call()
    assert call.landed is landed
    call = landing(Writer(cast(Backing, backing), [(0, b"x")]), far=far)
    call.begin(begun.append)
    assert not call.landed
    backing.begun[0](error)
    assert (call.landed, begun) == (landed, [error])


def test_what_there_was_no_memory_for_has_not_landed_yet() -> None:
    """It was not begun: a thread does it, and it lands then."""
    backing, told = Far(), []
    call = landing(Writer(cast(Backing, backing), [(0, b"x")]), far=False)
    call.begin(told.append)
    backing.begun[0](MEMORY)
    assert told == [MEMORY] and not call.landed


async def test_one_that_fails_in_the_end_is_under_way_no_more(tmp_path: Path) -> None:
    """It was given up on a last copy, which stays; what it was to write leaves the log when it has ended."""
    async with daemon(tmp_path, io_timeout_seconds=0.3) as rig:
        await rig.make("a")
        mirror, path = rig.service.mirror, rig.path("a")
        with rig.host.hanging(path, "pwrite") as hang, rig.host.failing(path, "pwrite"):
            with pytest.raises(Failed, match="io_error"):
                await rig.write_regions(3)
            assert await mirror.clean() == 0
            hang.let_go()
            await until(lambda: not mirror.opened[rig.plex("a").uuid].lane.outstanding)
        assert await mirror.clean() == 1 and mirror.volume.drl.count == 0


async def test_a_volume_is_quiet_when_its_last_request_is_answered(rig: Rig) -> None:
    """And takes none from then on, until it goes on after all."""
    await rig.make("a")
    await rig.write_regions(1)
    mirror, quiet = rig.service.mirror, trio.Event()

    async def quiesce() -> None:
        await mirror.quiesce()
        quiet.set()

    async with trio.open_nursery() as nursery:
        with mirror.load.request(mirror.volume):
            with mirror.load.request(mirror.volume):
                nursery.start_soon(quiesce)
                await trio.testing.wait_all_tasks_blocked()
                door = rig.data
                for request in (
                    door.write(0, b"x"), door.read(0, 1), door.flush(), door.seek(0, data=True),
                    door.make_zero(0, 512, punch=True),
                ):  # fmt: skip
                    with pytest.raises(Failed, match="volume_stopped"):
                        await request
            await trio.testing.wait_all_tasks_blocked()
            assert not quiet.is_set()
    assert quiet.is_set()
    mirror.resume()
    await rig.write_regions(1)
