"""What is counted of requests and plexes, whichever way they take; and a plex that is slow is named."""

import errno
import threading
from collections.abc import Callable

import pytest

from fmrd.backing.calls.system_calls import Call, Lane
from fmrd.backing.calls.threaded_calls import ThreadedCalls
from fmrd.core.json_object import Json
from fmrd.core.measures.latency import MANY, SAMPLE, Latency
from fmrd.engine.serving import quick
from fmrd.engine.serving.quick import LARGE_BYTES
from fmrd.errors import Failed
from tests.engine.rig import REGION, Rig
from tests.engine.test_flights import Begun
from tests.engine.test_quick import no_block, read, write
from tests.engine.test_quick import quick as quick_volume
from tests.waiting import until

MS = 1_000_000


async def figure(rig: Rig, plex: str | None = None) -> Json:
    """Of the volume, or of that plex."""
    return next(each for each in (await rig.verbs.stat(volume="data"))["figures"] if each["plex"] == plex)


async def kind(rig: Rig, kind: str, plex: str | None = None) -> tuple[int, int, int]:
    """How many, of how many bytes, and how many of them the buckets hold."""
    found = (await figure(rig, plex))["kinds"][kind]
    return found["count"], found["bytes"], sum(found["buckets"])


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Each look at the clock of the quick way is 10 ns after the one before."""
    looks: list[int] = []

    def look() -> int:
        looks.append(10 * len(looks) + 10)
        return looks[-1]

    monkeypatch.setattr(quick, "perf_counter_ns", look)
    return looks


async def test_quick_requests_are_all_counted_and_one_of_a_few_is_timed(rig: Rig, ticks: list[int]) -> None:
    await quick_volume(rig)
    before = await figure(rig), await figure(rig, "data-01")
    for n in range(3 * SAMPLE):
        assert write(rig, n * 4096, b"x" * 4096).at_once
        assert read(rig, n * 4096, 512) == b"x" * 512
    for now, then in zip((await figure(rig), await figure(rig, "data-01")), before, strict=True):
        made = {of: {k: now["kinds"][of][k] - then["kinds"][of][k] for k in ("count", "bytes")} for of in now["kinds"]}
        assert made["write"] == {"count": 3 * SAMPLE, "bytes": 3 * SAMPLE * 4096}
        assert sum(now["kinds"]["write"]["buckets"]) - sum(then["kinds"]["write"]["buckets"]) == 3 * SAMPLE
    assert (await kind(rig, "read")) == (3 * SAMPLE, 3 * SAMPLE * 512, 3 * SAMPLE)
    assert (await figure(rig))["kinds"]["read"]["total_ns"] == 3 * SAMPLE * 20, "from its coming to its end"
    assert (await figure(rig, "data-01"))["kinds"]["read"]["total_ns"] % (10 * SAMPLE) == 0
    assert len(ticks) < 4 * 3 * 3 + 4, "who is not timed looks at no clock"


async def test_a_request_that_waits_is_timed_each_time(rig: Rig) -> None:
    await rig.make()
    served = rig.data.served
    told: list[object] = []
    served.write_now(0, b"x" * 4096, told.append)
    await until(lambda: len(told) == 1)
    served.read_now(0, memoryview(bytearray(4096)), told.append)
    served.flush_now(told.append)
    served.make_zero_now(0, 512, told.append, punch=True)
    await until(lambda: len(told) == 4)
    assert (await kind(rig, "write"), await kind(rig, "flush")) == ((2, 4608, 2), (1, 0, 1))
    assert (await kind(rig, "read"))[:2] == (1, 4096)
    for plex in ("data-01", "data-02"):
        assert (await kind(rig, "write", plex))[2] == 2
        assert (await kind(rig, "flush", plex))[2] >= 1


async def test_a_write_that_ends_by_a_callback_is_timed_on_each_plex(rig: Rig) -> None:
    await quick_volume(rig)
    for disk in rig.service.mirror.opened.values():
        disk.inline = False
    begun = Begun(rig)
    before = await kind(rig, "write")
    assert begun.write(rig, 0, b"x" * 4096)
    calls = begun.batches[0][0]
    assert [call.latency for call in calls] == [d.lane.took.write for d in rig.service.mirror.opened.values()]
    begun.end()
    await until(lambda: begun.told == [4096])
    assert tuple(now - then for now, then in zip(await kind(rig, "write"), before, strict=True)) == (1, 4096, 1)


async def test_of_many_writes_at_once_all_are_counted_and_one_of_a_few_is_timed(rig: Rig) -> None:
    await quick_volume(rig)
    for disk in rig.service.mirror.opened.values():
        disk.inline = False
    begun = Begun(rig)
    before = await kind(rig, "write")
    many = MANY + 3 * SAMPLE
    for n in range(many):
        assert begun.write(rig, n * 4096, b"x" * 4096)
    timed = [[call.latency is not None for call in calls] for calls, _ in begun.batches]
    assert all(both == [both[0]] * 2 for both in timed)
    assert (timed[:MANY], sum(both[0] for both in timed)) == ([[True] * 2] * MANY, MANY + 3)
    for _ in range(many):
        begun.end()
    count, size, held = (now - then for now, then in zip(await kind(rig, "write"), before, strict=True))
    assert (count, size, held) == (many, many * 4096, many)


async def test_a_large_write_is_timed(rig: Rig) -> None:
    await rig.make(size_bytes=64 * REGION)
    await rig.data.write(0, b"marked")
    no_block(rig)
    before = await kind(rig, "write", "data-02")
    told: list[object] = []
    rig.data.served.write_now(0, b"1" * LARGE_BYTES, told.append)
    rig.service.mirror.system.finish_share()
    assert told == [LARGE_BYTES]
    now = await kind(rig, "write", "data-02")
    assert now[2] == before[2] + 1


async def test_what_fails_is_an_error_of_the_plex_and_of_the_volume_only_where_nobody_else_has_it(rig: Rig) -> None:
    await rig.make("a")
    told: list[object] = []
    with rig.host.failing(rig.path("a"), "pwrite"):
        rig.data.served.write_now(0, b"x" * 4096, told.append)
        await until(lambda: bool(told))
    assert isinstance(told[0], OSError) or "io_error" in str(told[0])
    found = await figure(rig)
    assert (found["errors"], found["kinds"]["write"]["count"], found["kinds"]["write"]["bytes"]) == (1, 1, 0)
    assert (await figure(rig, "data-01"))["errors"] == 1


async def test_a_call_that_is_given_up_counts_with_the_time_it_was_waited_for() -> None:
    latency, lane = Latency(), Lane("x")
    hang = threading.Event()
    [outcome] = await ThreadedCalls().in_turn([Call(lane, hang.wait, latency=latency)], 0.05)
    hang.set()
    assert isinstance(outcome.error, TimeoutError) and outcome.error.errno == errno.ETIMEDOUT
    assert sum(latency.buckets) == 1 and 0.05e9 <= latency.total_ns < 60e9
    await until(lambda: not lane.outstanding)
    assert sum(latency.buckets) == 1, "once"


async def test_a_start_begins_anew(rig: Rig) -> None:
    await rig.make()
    await rig.data.write(0, b"x")
    await rig.stop()
    await rig.verbs.start(volume="data")
    assert [(await kind(rig, "write", plex))[::2] for plex in (None, "data-01")] == [(0, 0), (0, 0)]


def took(rig: Rig, letter: str, ms: float) -> None:
    rig.service.mirror.opened[rig.plex(letter).uuid].lane.took.write.add(int(ms * MS), 100)


async def test_a_plex_that_is_slow_in_two_periods_is_named_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.make()
    look: Callable[[], None] = rig.service.slow_plexes.look

    async def period(a: float, b: float) -> str | None:
        took(rig, "a", a)
        took(rig, "b", b)
        look()
        shown = (await rig.shown("b"))["slow"]
        assert shown == (await figure(rig, "data-02"))["slow"]
        assert (await rig.shown("a"))["slow"] is None
        return None if shown is None else str(shown)

    look()
    assert await period(1, 50) is None
    assert await period(1, 50) == "a write takes 50 ms there, and 1 ms on its peers"
    assert await period(1, 60) == "a write takes 60 ms there, and 1 ms on its peers"
    [line] = [r for r in caplog.records if "is slow" in r.message]
    assert line.levelname == "WARNING"
    path = rig.plex("b").path
    sentence = f"volume data: plex data-02 ({path}) is slow: a write takes 50 ms there, and 1 ms on its peers"
    assert line.message.startswith(f"{sentence}. What to do: fmrctl stat data 5")
    told = [each for each in rig.registry.context.events.after(0)[0] if "slow" in each.kind]
    assert [(each.kind, each.volume, each.plex) for each in told] == [("slow_plex", "data", "data-02")], (
        "hooks hear of it"
    )
    look()  # nobody writes
    assert (await rig.shown("b"))["slow"] is not None
    assert await period(50, 60) is None
    assert rig.registry.context.events.after(told[0].sequence)[0][-1].kind == "slow_plex_over"
    caplog.clear()
    assert [await period(1, 50) is None, await period(1, 50) is None] == [True, False]
    assert len([r for r in caplog.records if "is slow" in r.message]) == 1, "again"
    await rig.verbs.set(volume="data", settings={"write_behind": "data-02"})
    assert [await period(1, 50), await period(1, 50), await period(1, 50)] == [None] * 3, "nobody waits for it"
    await rig.verbs.set(volume="data", settings={"write_behind": "off"})
    assert [await period(1, 50) for _ in range(3)][-1] is not None
    await rig.det("b")
    look()
    assert (await rig.shown("b"))["slow"] is None


# The picture


async def row(rig: Rig, kind: str, name: str = "", volume: str = "data", cells: int = 8) -> list[int]:
    found = (await rig.verbs.map(volume=volume, cells=cells))["picture"]
    assert found["cells"] == cells
    [parts] = [each["parts"] for each in found["rows"] if (each["kind"], each["name"]) == (kind, name)]
    return list(parts)


async def test_where_a_plex_lacks_something_and_where_snapshots_differ(rig: Rig) -> None:
    await rig.make()
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")), name="old")
    await rig.det("b")
    await rig.write_regions(0, 1, 63)
    eighth = 1000 // 8
    assert await row(rig, "plex", "data-01") == [0] * 8
    assert await row(rig, "plex", "data-02") == [2 * eighth, 0, 0, 0, 0, 0, 0, eighth]
    assert await row(rig, "snapshot", "old") == [2 * eighth, 0, 0, 0, 0, 0, 0, eighth]
    assert await row(rig, "original", "data", volume="old") == [2 * eighth, 0, 0, 0, 0, 0, 0, eighth]
    assert await row(rig, "drl") == [1000] * 8, "one extent is all of it"
    sizes = {each["kind"]: each["bytes"] for each in (await rig.verbs.map(volume="data"))["picture"]["rows"]}
    assert sizes["snapshot"] == 3 * REGION and sizes["drl"] == 64 * REGION


async def test_one_plex_or_one_snapshot_alone(rig: Rig) -> None:
    await rig.make()
    for name in ("data-02", str(rig.path("b"))):
        found = (await rig.verbs.map(volume="data", plex=name))["picture"]["rows"]
        assert [each["name"] for each in found] == ["data-02", "", ""]
    with pytest.raises(Failed, match="no plex and no snapshot c"):
        await rig.verbs.map(volume="data", plex="c")


async def test_the_answer_is_bounded(rig: Rig) -> None:
    await rig.make(size_bytes=8192 * REGION)
    found = (await rig.verbs.map(volume="data", cells=1 << 60))["picture"]
    assert found["cells"] == 4096 and {len(each["parts"]) for each in found["rows"]} == {4096}
    assert (await rig.verbs.map(volume="data", cells=0))["picture"]["cells"] == 1


async def test_a_small_volume_has_no_more_cells_than_regions(rig: Rig) -> None:
    await rig.make()
    assert (await rig.verbs.map(volume="data", cells=100))["picture"]["cells"] == 64
