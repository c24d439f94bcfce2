"""No system call on a disk runs on trio's thread: opening, closing, asking and removing hang where reading does."""

import inspect
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fmrd.backing.protocol import Host
from tests.engine.faulty import Operation
from tests.engine.rig import REGION, Rig, daemon
from tests.waiting import until

SIZE = 4 * REGION


async def make_two(rig: Rig) -> None:
    await rig.make("ab", SIZE)
    await rig.verbs.make(volume="other", size_bytes=SIZE, plexes=[{"path": str(rig.path("c"))}])


async def detached(rig: Rig) -> None:
    await rig.det("a")


async def stopped(rig: Rig) -> None:
    await rig.stop()


async def removed(rig: Rig) -> None:
    await rig.stop()
    await rig.verbs.remove(volume="data", erase=True)


async def attached(rig: Rig) -> None:
    await rig.det("a")
    await rig.att("a")


HANGS = [("close", detached), ("close", stopped), ("stamp", stopped), ("open", attached), ("remove", removed)]


@pytest.mark.parametrize(("name", "verb"), HANGS, ids=[f"{name} {verb.__name__}" for name, verb in HANGS])
async def test_a_call_that_hangs_holds_up_no_other_volume(
    tmp_path: Path, name: str, verb: Callable[[Rig], Any]
) -> None:
    async with daemon(tmp_path) as rig:
        await make_two(rig)
        with rig.host.hanging(rig.path("a"), name) as hang:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(verb, rig)
                await until(lambda: hang.waiting > 0)
                await rig.write_regions(0, volume="other")
                assert await rig.door("other").read(512, 512) == b"w" * 512
                hang.let_go()
        if verb is not removed:
            assert rig.same("a", "b")


async def test_what_was_let_go_of_can_be_had_again_at_once(tmp_path: Path) -> None:
    """Closing is a call off the thread, so who opens the plex again waits for it."""
    async with daemon(tmp_path) as rig:
        await make_two(rig)
        for _ in range(5):
            await rig.det("a")
            await rig.would("a")
            await rig.end(await rig.att("a"))
            await rig.stop()
            await rig.verbs.start(volume="data")
            assert await rig.states() == "ACTIVE ACTIVE"
        await rig.stop()
        await rig.verbs.remove(volume="data")
        await rig.make("ab", SIZE, force=True)


async def test_who_opens_a_plex_again_waits_until_it_is_closed(tmp_path: Path) -> None:
    """A plex that goes back to the original was let go of by the snapshot in the step before."""
    async with daemon(tmp_path) as rig:
        await make_two(rig)
        path = str(rig.path("d"))
        await rig.end((await rig.verbs.snapstart(volume="data", path=path))["task"])
        await rig.verbs.snapshot(volumes=["data"])
        with rig.host.hanging(path, "close") as hang:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(rig.verbs.snapback, snapshot="SNAP-data"))
                await until(lambda: hang.waiting > 0)
                await until(lambda: "SNAP-data" not in rig.registry.units)
                await trio.testing.wait_all_tasks_blocked(0.1)
                assert rig.host.watch.seen("open", path) == []
                hang.let_go()
        await rig.end_all()
        assert await rig.states() == "ACTIVE ACTIVE SNAPDONE"


async def test_nothing_is_asked_of_a_disk_on_trios_thread(tmp_path: Path) -> None:
    """All of a life: every method of the host, and every operation on what it opened."""
    on_thread: list[str] = []
    trios = threading.get_ident()

    def note(what: str) -> None:
        if threading.get_ident() == trios:
            on_thread.append(what)

    def watched(operation: Operation) -> None:
        note(f"{operation.name} {operation.path}")

    def wrapped(name: str, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        note(name)
        return method(*args, **options)

    async with daemon(tmp_path) as rig:
        rig.host.watch.hooks.append(watched)
        for name, _ in inspect.getmembers(Host, inspect.isfunction):
            if not name.startswith("_") and name != "freezer":  # that asks nothing
                setattr(rig.host, name, partial(wrapped, name, getattr(rig.host, name)))
        await make_two(rig)
        await rig.write_regions(0, 1, 2)
        await rig.det("a")
        await rig.write_regions(3)
        await rig.would("a")
        await rig.end(await rig.att("a"))
        added = await rig.verbs.snapstart(volume="data", path=str(rig.path("d")))
        await rig.end(added["task"])
        await rig.verbs.snapshot(volumes=["data"])
        await rig.write_regions(1)
        await rig.end((await rig.verbs.snapback(snapshot="SNAP-data"))["task"])
        await rig.end((await rig.verbs.verify(volume="data"))["task"])
        await rig.verbs.grow(volume="data", size_bytes=2 * SIZE)
        await rig.stop()
        await rig.verbs.start(volume="data")
        await rig.stop()
        paths = [str(rig.path(letter)) for letter in "abd"]
        await rig.verbs.import_volume(paths=paths, dry_run=True, force=True)
        await rig.verbs.import_volume(paths=paths, force=True)
        await rig.stop()
        await rig.verbs.remove(volume="data", erase=True)
        rig.host.watch.hooks.clear()
        assert on_thread == []
