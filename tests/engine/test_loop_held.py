"""No step of trio's thread asks much of every page of a large volume: others have their turn in between.

Counted, not timed: the calls that Python makes in one step of a task. A TiB has 529 pages of each map; here pages are
written 16 at a time, and not 128, so that the steps that grow with the volume stand out.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
import trio
import trio.abc
import trio.lowlevel

from fmrd.dco import copy, rewriting, store
from fmrd.engine.opening import files
from tests.engine.rig import REGION, daemon

TIB = 1 << 40
EVERYWHERE = [n * (TIB // REGION // 64) for n in range(64)]
MOST_CALLS = 7_000
"""All pages of one map may be gone over in a step, and take 4000 calls; of all maps they took 9800 as a set of tuples,
and 21 000 with what is asked of each page.
"""


class Steps(trio.abc.Instrument):
    """Counts the calls in each step, those into C included."""

    def __init__(self) -> None:
        self._calls = 0
        self._most = (0, "")

    def count(self, frame: FrameType, event: str, arg: object) -> None:
        self._calls += event in ("call", "c_call")

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._calls = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._most = max(self._most, (self._calls, task.name))

    def taken(self) -> tuple[int, str]:
        """The longest step since it was asked last."""
        most, self._most = self._most, (0, "")
        return most


@contextmanager
def counted() -> Iterator[Steps]:
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    sys.setprofile(steps.count)
    try:
        yield steps
    finally:
        sys.setprofile(None)
        trio.lowlevel.remove_instrument(steps)


async def test_no_step_of_a_verb_grows_with_all_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plex leaves, misses something everywhere, and comes back; a snapshot is taken, refreshed, and goes back."""
    for module in (copy, store, rewriting, files):
        monkeypatch.setattr(module, "PAGES", 16)
    longest: dict[str, tuple[int, str]] = {}
    async with daemon(tmp_path) as rig:
        with counted() as steps:
            await rig.make("abc", size_bytes=TIB)
            longest["make"] = steps.taken()
            await rig.write_regions(*EVERYWHERE)
            await rig.det("b")
            await rig.write_regions(*EVERYWHERE)
            longest["det"] = steps.taken()
            await rig.end(await rig.att("b"))
            longest["att"] = steps.taken()
            await rig.verbs.plex_convert(volume="data", plex=str(rig.path("c")))
            await rig.verbs.snapshot(volumes=["data"])
            longest["snapshot"] = steps.taken()
            await rig.write_regions(*EVERYWHERE)
            await rig.end((await rig.verbs.refresh(snapshot="SNAP-data"))["task"])
            longest["refresh"] = steps.taken()
            await rig.end((await rig.verbs.snapback(snapshot="SNAP-data"))["task"])
            longest["snapback"] = steps.taken()
            await rig.stop()
            longest["stop"] = steps.taken()
            await rig.verbs.start(volume="data")
            longest["start"] = steps.taken()
            await rig.verbs.grow(volume="data", size_bytes=TIB + TIB // 8)
            longest["grow"] = steps.taken()
    assert max(calls for calls, _ in longest.values()) <= MOST_CALLS, longest
