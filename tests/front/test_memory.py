"""The daemon's memory: what requests under way make of objects does not set off a search through it."""

import gc
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fmrd.backing.calls.system_calls import Outcome
from fmrd.front.daemon.memory import collect_rarely
from tests.engine.rig import daemon
from tests.engine.test_flights import Begun

AT_ONCE = 64


@pytest.fixture
def searches() -> Iterator[list[int]]:
    """The generations that were searched so far; Python is as it was afterwards."""
    found: list[int] = []

    def note(phase: str, details: Mapping[str, int]) -> None:
        if phase == "start":
            found.append(details["generation"])

    before = gc.get_threshold()
    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)
    gc.set_threshold(*before)
    gc.unfreeze()


async def test_no_burst_of_writes_sets_off_a_search(tmp_path: Path, searches: list[int]) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make()
        await rig.data.write(0, b"marked")
        begun = Begun(rig)
        collect_rarely()
        assert gc.get_freeze_count() > 10_000, "what was imported is never searched again"
        searches.clear()
        for _ in range(20):
            for block in range(AT_ONCE):
                assert begun.write(rig, block * 512, b"x" * 512)
            for calls, ended in begun.batches:
                ended([Outcome()] * len(calls))
            begun.batches.clear()
        assert len(begun.told) == 20 * AT_ONCE
        assert searches == []
