"""A stamp tells whether a plex is as it was left; its pieces are chosen from what the plex does not miss."""

from dataclasses import dataclass, replace

import pytest
from bitarray.util import zeros
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core import stamps
from fmrd.core.geometry import Geometry
from fmrd.core.stamps import MOST_PIECES, PIECE_BYTES, Stamp, Sum, changed, choose, pieces_of

SUMS = (Sum(0, 4096, 17), Sum(8192, 4096, 18))
LEFT = Stamp(7, 1 << 20, 1000, content=SUMS)
UNSYNCED = replace(LEFT, since_ns=900, ctime_ns=1000)
"""The last fdatasync failed; the file was opened with a time of change of 900."""
NOW = replace(LEFT, ctime_ns=1000)
DEVICE = Stamp(0, 0, 0, content=SUMS)
OTHER = (SUMS[0], replace(SUMS[1], crc=19))


@dataclass(frozen=True)
class Case:
    what: str
    left: Stamp | None
    now: Stamp | None
    how: str = ""
    is_block: bool = False


CASES = [
    Case("as it was left", LEFT, NOW),
    Case("nobody noted how", None, NOW, "not stamped"),
    Case("it cannot be seen", LEFT, None, "not stamped"),
    Case("another size", LEFT, replace(NOW, size=5), "5 bytes"),
    Case("another file", LEFT, replace(NOW, inode=8), "another file"),
    Case("changed later", LEFT, replace(NOW, mtime_ns=1001), "time of change"),
    Case("set back", LEFT, replace(NOW, mtime_ns=999), "time of change"),
    Case("a join was cut off", replace(LEFT, mtime_ns=0), replace(NOW, mtime_ns=5)),
    Case("other bytes, though its times were put back", LEFT, replace(NOW, content=OTHER), "at 8192"),
    Case("not all of it can be read", LEFT, replace(NOW, content=SUMS[:1])),
    Case("inodes are invented", LEFT, replace(NOW, inode=8, invented=True)),
    Case("inodes are invented, and it has other bytes", LEFT, replace(NOW, inode=8, invented=True, content=OTHER),
         "at 8192"),
    Case("inodes are invented, and it cannot be read", LEFT, replace(NOW, inode=8, invented=True, content=SUMS[:1]),
         "another file"),
    Case("inodes are invented, and nothing of it is known", replace(LEFT, content=()),
         replace(NOW, inode=8, invented=True, content=()), "another file"),
    Case("inodes are invented, and it was changed later", LEFT,
         replace(NOW, inode=8, invented=True, mtime_ns=1001), "time of change"),
    Case("its last times never reached the disk", UNSYNCED, replace(NOW, mtime_ns=950, ctime_ns=950)),
    Case("none of its times did", UNSYNCED, replace(NOW, mtime_ns=900, ctime_ns=900)),
    Case("all of its times did", UNSYNCED, NOW),
    Case("only that of its inode did", UNSYNCED, replace(NOW, mtime_ns=950, ctime_ns=1000)),
    Case("an older image of it was put back", UNSYNCED, replace(NOW, mtime_ns=899, ctime_ns=899), "time of change"),
    Case("it was put back, with its times", UNSYNCED, replace(NOW, mtime_ns=950, ctime_ns=1001), "time of change"),
    Case("it was written after all", UNSYNCED, replace(NOW, mtime_ns=1001, ctime_ns=1001), "time of change"),
    Case("a device as it was left", DEVICE, DEVICE, is_block=True),
    Case("a device that was written", DEVICE, replace(DEVICE, content=OTHER), "written elsewhere", is_block=True),
    Case("a device of which nothing is known", None, Stamp(0, 0, 0), is_block=True),
    Case("a device that became longer", DEVICE, replace(DEVICE, size=5), is_block=True),
    Case("a device that cannot be read", DEVICE, replace(DEVICE, content=()), is_block=True),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what.replace(" ", "_"))
def test_changed(case: Case) -> None:
    how = changed(case.left, case.now, is_block=case.is_block)
    assert case.how in how and bool(how) is bool(case.how)


GEOMETRIES = st.builds(
    lambda blocks, shift: Geometry(blocks * 4096, 4096 << shift, 4 << 20 if shift < 11 else 4096 << shift),
    st.integers(1, 1 << 20), st.integers(0, 14),
)  # fmt: skip


@given(GEOMETRIES, st.randoms(), st.data())
def test_pieces_touch_nothing_that_is_missed(geometry: Geometry, rng: object, data: st.DataObject) -> None:
    missed = zeros(geometry.regions)
    for region in data.draw(st.lists(st.integers(0, geometry.regions - 1), max_size=20)):
        missed[region] = 1
    pieces = choose(geometry, lambda regions: missed[regions.start : regions.stop].any(), rng.randrange)  # type: ignore[attr-defined]  # a random.Random
    assert pieces == sorted(set(pieces)) and len(pieces) <= MOST_PIECES
    for offset, length in pieces:
        assert 0 < length <= PIECE_BYTES and offset + length <= geometry.length_bytes
        regions = geometry.regions_of(offset, length)
        assert not missed[regions.start : regions.stop].any()


def test_the_beginning_is_looked_at_and_some_of_the_rest() -> None:
    geometry = Geometry(1 << 30)
    numbers = iter(range(500, 10_000, 100))
    pieces = choose(geometry, lambda regions: False, lambda below: next(numbers))
    assert [offset for offset, _ in pieces[:16]] == list(range(0, stamps.HEAD_BYTES, PIECE_BYTES))
    assert len(pieces) == 16 + stamps.CHOSEN


def test_of_a_small_volume_all_is_looked_at() -> None:
    geometry = Geometry(1 << 20, 4096, 4096)
    missed = zeros(geometry.regions)
    missed[9] = 1
    pieces = choose(geometry, lambda regions: missed[regions.start : regions.stop].any(), lambda below: 0)
    assert sum(length for _, length in pieces) == (1 << 20) - pieces[0][1]


def test_a_short_last_piece_is_a_piece() -> None:
    geometry = Geometry((10 << 16) + 4096)
    assert choose(geometry, lambda regions: False, lambda below: 0)[-1] == (10 << 16, 4096)


def test_what_is_read_for_several_stamps_is_read_once() -> None:
    assert pieces_of([LEFT, None, DEVICE]) == [(0, 4096), (8192, 4096)]
