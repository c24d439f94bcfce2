"""A large volume: what a detach and an attach cost depends on what was missed, not on how long the volume is.

Counted, not timed: writes of the DCO, and bytes read. A TiB has 16 Mi regions, in 529 pages of each map.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fmrd.backing.calls.system_calls import Call, Outcome
from fmrd.backing.calls.threaded_calls import ThreadedCalls
from tests.engine.faulty import Operation
from tests.engine.rig import REGION, Rig, daemon

TIB = 1 << 40


def dco_writes(rig: Rig) -> Counter[str]:
    return Counter(os.path.basename(o.path) for o in rig.host.watch.seen("dco_write"))


@pytest.mark.parametrize("missed", [0, 1, 100])
async def test_an_attach_costs_what_was_missed(rig: Rig, missed: int) -> None:
    await rig.make(size_bytes=TIB)
    await rig.write_regions(5)
    rig.host.watch.log.clear()
    await rig.det("b")
    assert sum(dco_writes(rig).values()) < 20
    await rig.write_regions(*(n * 160_000 for n in range(missed)))
    rig.host.watch.log.clear()
    task = await rig.end(await rig.att("b"))
    assert (task["state"], task["done_regions"]) == ("done", missed)
    assert (task["done_bytes"], task["copied_bytes"]) == (missed * REGION, missed * 4096)
    assert len(rig.host.watch.seen("copy_from")) == missed
    # each missed region has a page of its own here: its bit is set, and cleared, and the extent of the DRL is marked
    assert max(dco_writes(rig).values()) <= 3 * missed + 20
    read = sum(o.length for o in rig.host.watch.seen("dco_read"))
    assert read < 16 << 20, "its own copy of the DCO, the pages in use"
    assert await rig.states() == "ACTIVE ACTIVE"


async def test_a_write_and_a_flush_cost_what_they_do_on_a_small_volume(rig: Rig) -> None:
    await rig.make(size_bytes=TIB)
    await rig.write_regions(7)
    await rig.data.flush()
    rig.host.watch.log.clear()
    await rig.write_regions(8)
    await rig.data.flush()
    assert Counter(o.name for o in rig.host.watch.log) == {"pwrite": 2, "fdatasync": 2}


async def test_a_start_after_a_stop_rewrites_no_page(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make(size_bytes=TIB)
        await rig.write_regions(12_345_678)
        await rig.det("b")
        await rig.write_regions(9_876_543)
        await rig.stop()
        rig.host.watch.log.clear()
        await rig.verbs.start(volume="data")
        await rig.end_all()
        assert max(dco_writes(rig).values()) < 20


async def test_reading_the_dco_is_timed_by_some_calls_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk takes long for all of it, and is not late for that: neither at a start nor at an attach."""
    hops: list[int] = []
    at_once = ThreadedCalls.at_once

    async with daemon(tmp_path) as rig:
        await rig.make(size_bytes=TIB)
        await rig.det("b")
        await rig.stop()

        async def counting(self: ThreadedCalls, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
            counted = [replace(call, run=counted_run(call.run)) for call in calls]
            return await at_once(self, counted, timeout_seconds)

        def counted_run(run: Callable[[], object]) -> Callable[[], object]:
            def call() -> object:
                me = threading.get_ident()
                before = by_thread[me]
                try:
                    return run()
                finally:
                    hops.append(by_thread[me] - before)

            return call

        by_thread: Counter[int] = Counter()

        def hook(operation: Operation) -> None:
            by_thread[threading.get_ident()] += operation.name == "dco_read"

        monkeypatch.setattr(ThreadedCalls, "at_once", counting)
        rig.host.watch.hooks.append(hook)
        await rig.verbs.start(volume="data")
        await rig.end_all()
        assert sum(hops) > 3 * 500, "the home copy and those of both plexes"
        assert max(hops) <= 16


async def test_after_a_kill_the_work_is_bounded_by_the_dirty_region_log(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make(size_bytes=TIB)
        await rig.write_regions(12_345_678)
        rig.kill()
    async with daemon(tmp_path) as rig:
        [task] = (await rig.verbs.task_list(all=True))["tasks"]
        assert (await rig.end(task))["done_regions"] == 64
        await rig.stop()
