"""Windows: the next runs of a map as spans and bits, what is left of them under their locks, and how long they are."""

import time
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import cast

import pytest
from bitarray import bitarray
from hypothesis import given
from hypothesis import strategies as st

from fmrd.backing.protocol import Backing
from fmrd.core.geometry import Geometry
from fmrd.core.maps.regionmap import RegionMap
from fmrd.engine.resync import transfers, windows
from fmrd.engine.resync.transfers import FAR_PIECE_BYTES, LONGEST_PAUSE_SECONDS, Transfer, Wanted, pieces_of
from fmrd.engine.resync.windows import (
    BUSY_WINDOW_BYTES,
    LONG_WINDOW_BYTES,
    WINDOW_BYTES,
    FarPiece,
    WindowSize,
    still_missing,
    until,
    window_of,
)

REGION = 4096
REGIONS = 50
GEOMETRY = Geometry(REGIONS * REGION - 1024, REGION, REGION)
sets = st.sets(st.integers(0, REGIONS - 1))


def map_of(regions: set[int]) -> RegionMap:
    made = RegionMap(REGIONS, 8)
    for region in regions:
        made.mark(range(region, region + 1))
    made.touched.clear()
    return made


def set_of(bitmap: RegionMap) -> set[int]:
    return set(bitmap.bits.search(bitarray("1")))


@given(regions=sets, start=st.integers(0, REGIONS), most=st.integers(1, REGIONS), span=st.integers(1, REGIONS))
def test_the_next_runs_are_the_first_regions_of_the_map(regions: set[int], start: int, most: int, span: int) -> None:
    runs = map_of(regions).next_runs(start, most, span)
    left = sorted(r for r in regions if r >= start)
    assert [r for run in runs for r in run] == [r for r in left if r < left[0] + span][:most]
    assert all(a.stop < b.start for a, b in pairwise(runs)), "adjacent ones are one run"


@given(regions=sets.filter(bool))
def test_a_window_is_the_same_as_runs_as_spans_and_as_bits(regions: set[int]) -> None:
    window = window_of(map_of(regions).next_runs(0, REGIONS, REGIONS), GEOMETRY)
    assert {r for run in window.runs for r in run} == regions
    assert {window.regions.start + i for i in window.bits.search(bitarray("1"))} == regions
    covered = {r for start, stop in window.spans for r in GEOMETRY.regions_of(start, stop - start)}
    assert covered == regions
    assert window.bytes == GEOMETRY.bytes_in(len(regions), REGIONS - 1 in regions)


@given(regions=sets.filter(bool), healed=sets, fresh=sets)
def test_what_was_healed_meanwhile_is_left_out_and_what_is_new_is_not_taken_in(
    regions: set[int], healed: set[int], fresh: set[int]
) -> None:
    missing = map_of(regions)
    window = window_of(missing.next_runs(0, REGIONS, REGIONS), GEOMETRY)
    for region in healed:
        missing.clear(range(region, region + 1))
    for region in fresh - regions:
        missing.mark(range(region, region + 1))
    left = still_missing(window, missing, GEOMETRY)
    found = set() if left is None else {r for run in left.runs for r in run}
    assert found == regions - healed
    assert left is None or left.bits.count() == len(found)


@given(regions=sets, change=sets.filter(bool), clear=st.booleans())
def test_many_regions_at_once_are_marked_and_cleared_like_one_by_one(
    regions: set[int], change: set[int], clear: bool
) -> None:
    bitmap = map_of(regions)
    window = window_of(map_of(change).next_runs(0, REGIONS, REGIONS), GEOMETRY)
    (bitmap.clear_these if clear else bitmap.mark_these)(window.regions.start, window.bits)
    assert set_of(bitmap) == (regions - change if clear else regions | change)
    assert bitmap.touched == {region // 8 for region in change}
    assert bitmap.any() is bool(set_of(bitmap)) and bitmap.count() == len(set_of(bitmap))


@given(steps=st.lists(st.tuples(st.sampled_from(["mark", "clear", "union", "fill", "empty"]), sets), max_size=6))
def test_a_map_always_knows_whether_it_is_empty(steps: list[tuple[str, set[int]]]) -> None:
    bitmap = map_of(set())
    for what, regions in steps:
        if what in ("fill", "empty"):
            getattr(bitmap, what)()
        elif what == "union":
            bitmap.union(map_of(regions))
        else:
            for region in regions:
                getattr(bitmap, what)(range(region, region + 1))
        assert bitmap.any() == bitmap.bits.any() and bitmap.count() == bitmap.bits.count()
    bitmap.grow(REGIONS + 1, full=True)
    assert bitmap.any()


def test_windows_grow_on_a_quick_disk() -> None:
    pace = WindowSize()
    sizes = []
    for _ in range(5):
        sizes.append(pace.window_bytes(0, busy=False))
        pace.copied(sizes[-1], 0.001)
    assert sizes[0] == WINDOW_BYTES and sizes == sorted(sizes) and sizes[-1] == LONG_WINDOW_BYTES
    assert pace.window_bytes(0, busy=True) == BUSY_WINDOW_BYTES < LONG_WINDOW_BYTES
    pace.copied(sizes[-1], 1.0)
    assert pace.window_bytes(0, busy=False) == WINDOW_BYTES, "a slow disk gets short ones"


def test_a_window_that_was_not_full_says_nothing() -> None:
    pace = WindowSize()
    pace.copied(REGION, 0.0001)
    assert pace.window_bytes(0, busy=False) == WINDOW_BYTES


@pytest.mark.parametrize(("rate", "expected"), [(1 << 20, 128 << 10), (1 << 30, WINDOW_BYTES), (1, 0)])
def test_a_rate_is_kept_by_small_steps(rate: int, expected: int) -> None:
    assert WindowSize().window_bytes(rate, busy=False) == expected


class Disk:
    """A backing that notes what is copied to it, and tells at each piece."""

    inline = False
    far = ""

    def __init__(self, at_each: Callable[[int], None] = lambda piece: None) -> None:
        self.copied: list[list[tuple[int, int]]] = []
        self._at_each = at_each

    def copy_spans(self, source: object, spans: list[tuple[int, int]]) -> int:
        self.copied.append(list(spans))
        self._at_each(len(self.copied))
        return sum(stop - start for start, stop in spans)


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Those that were taken, with pieces of four regions, two in memory."""
    taken: list[float] = []
    monkeypatch.setattr(transfers, "PIECE_BYTES", 4 * REGION)
    monkeypatch.setattr(transfers, "SHORT_PIECE_BYTES", 2 * REGION)
    monkeypatch.setattr(transfers, "time", SimpleNamespace(perf_counter=time.perf_counter, sleep=taken.append))
    return taken


def transfer_of(disk: Disk, regions: set[int], wanted: Wanted, *, far_piece_bytes: int = FAR_PIECE_BYTES) -> Transfer:
    window = window_of(map_of(regions).next_runs(0, REGIONS, REGIONS), GEOMETRY)
    return Transfer(cast(Backing, disk), cast(Backing, disk), window, wanted, REGION, far_piece_bytes)


def copied(transfer: Transfer) -> set[int]:
    """The regions it says it copied."""
    window = until(transfer.window, transfer.stop, GEOMETRY)
    assert window.bits.count() == sum(len(run) for run in window.runs)
    return {region for run in window.runs for region in run}


@given(regions=sets.filter(bool), most=st.integers(1, REGIONS))
def test_pieces_are_the_same_bytes_and_a_run_that_fits_stays_whole(regions: set[int], most: int) -> None:
    spans = window_of(map_of(regions).next_runs(0, REGIONS, REGIONS), GEOMETRY).spans
    pieces = list(pieces_of(spans, most * REGION))
    flat = [span for piece in pieces for span in piece]
    assert [(at, min(at + REGION, b)) for a, b in flat for at in range(a, b, REGION)] == [
        (at, min(at + REGION, b)) for a, b in spans for at in range(a, b, REGION)
    ]
    assert all(0 < sum(stop - start for start, stop in piece) <= most * REGION for piece in pieces)
    assert all(span in flat for span in spans if span[1] - span[0] <= most * REGION)
    assert all(
        sum(b - a for a, b in piece) + after[0][1] - after[0][0] > most * REGION for piece, after in pairwise(pieces)
    ), "none is shorter than it must be"


@given(regions=sets.filter(bool))
def test_a_transfer_copies_all_of_its_window_in_order(regions: set[int]) -> None:
    disk = Disk()
    transfer = transfer_of(disk, regions, Wanted())
    transfer.go()
    assert transfer.written == transfer.window.bytes
    assert [span for piece in disk.copied for span in piece] == transfer.window.spans
    assert until(transfer.window, transfer.stop, GEOMETRY) is transfer.window


@given(regions=sets.filter(bool), pieces=st.integers(1, REGIONS))
def test_what_a_transfer_copied_until_then_is_whole_regions(regions: set[int], pieces: int) -> None:
    disk = Disk()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfers, "PIECE_BYTES", 2 * REGION)
        transfer = transfer_of(disk, regions, Wanted())
    for _ in range(pieces):
        if not transfer.step():
            break
    assert copied(transfer) == {region for piece in disk.copied for start, stop in piece
                                for region in GEOMETRY.regions_of(start, stop - start)}  # fmt: skip
    assert copied(transfer) == set(sorted(regions)[: len(copied(transfer))])
    assert len(copied(transfer)) >= min(pieces, len(regions))


@pytest.mark.parametrize("inline", [False, True])
def test_one_that_is_wanted_ends_after_the_piece_under_way(rests: list[float], inline: bool) -> None:
    wanted = Wanted()
    disk = Disk(lambda piece: wanted.tell() if piece == 2 else None)
    disk.inline = inline
    transfer = transfer_of(disk, set(range(20)), wanted)
    transfer.go_gently()
    assert copied(transfer) == set(range(4 if inline else 8))
    assert transfer.written == len(copied(transfer)) * REGION


def test_one_that_is_wanted_between_two_pieces_ends_there(rests: list[float]) -> None:
    wanted = Wanted()
    transfer = transfer_of(Disk(), set(range(20)), wanted)
    assert transfer.step()
    wanted.tell()
    assert not transfer.step()
    assert copied(transfer) == set(range(4))


def test_one_that_was_wanted_before_it_began_copies_a_piece_all_the_same(rests: list[float]) -> None:
    wanted = Wanted()
    wanted.tell()
    transfer = transfer_of(Disk(), {1, 2, 3, 9, 11, 13}, wanted)
    transfer.go()
    assert copied(transfer) == {1, 2, 3, 9}


def test_it_rests_between_pieces_only_while_it_gives_way(rests: list[float]) -> None:
    transfer_of(Disk(), set(range(12)), Wanted()).go()
    assert rests == []
    transfer_of(Disk(), set(range(12)), Wanted()).go_gently()
    assert len(rests) == 2 and all(0 < rest <= LONGEST_PAUSE_SECONDS for rest in rests)


def test_over_a_line_it_is_woken_up_by_who_waits(rests: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that meets it waits for the piece under way, and for no rest."""
    wanted, asked = Wanted(), list[float]()
    monkeypatch.setattr(wanted, "rest", lambda seconds: (asked.append(seconds), wanted.tell()))
    disk = Disk()
    disk.far = "NBD"
    transfer = transfer_of(disk, set(range(20)), wanted, far_piece_bytes=4 * REGION)
    transfer.go_gently()
    assert len(asked) == 1 and not rests
    assert copied(transfer) == set(range(4))


def test_a_rest_ends_when_somebody_waits() -> None:
    wanted = Wanted()
    wanted.tell()
    wanted.rest(1e6)


def test_a_piece_over_a_line_takes_about_twice_the_round_trip() -> None:
    """On a line of so many bytes a second; on a thin one it is as short as it can be, on a thick one it has a bound."""
    for rate, round_trip in ((100e6, 0.001), (5e6, 0.010)):
        piece = FarPiece()
        for _ in range(20):
            piece.took(round_trip + piece.bytes / rate, round_trip)
        assert round_trip + piece.bytes / rate == pytest.approx(2 * round_trip + windows.FAR_PIECE_SECONDS, rel=0.1)
    thin, thick = FarPiece(), FarPiece()
    for _ in range(20):
        thin.took(thin.bytes / 1e5, 0.001)
        thick.took(0.0, 0.001)
    assert thin.bytes == windows.LEAST_FAR_BYTES and thick.bytes == windows.MOST_FAR_BYTES
