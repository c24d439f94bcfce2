"""A copy of the DCO that anybody may have written: whatever its bytes, reading it ends, within bounds."""

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from bitarray import util as bits
from hypothesis import given, settings
from hypothesis import strategies as st

from fmrd.backing.protocol import DcoFile
from fmrd.core import images
from fmrd.core.geometry import MAX_REGIONS, PAGE_REGIONS, Geometry
from fmrd.core.record import MOST_PAGES, PlexRecord, Record, VolumeRecord
from fmrd.core.records.parts import Column, Link
from fmrd.core.states import PlexState
from fmrd.dco import layout
from fmrd.dco.loading import CALL_BYTES, Reading, load
from fmrd.errors import Refused
from fmrd.front.ctl import offline
from tests.dco.making import records, some_record

FAMILY = "00000000-0000-4000-8000-0000000000aa"
SLOT = layout.RECORD_SLOT_BYTES


class Bytes:
    """As much of a DcoFile as is asked for: some bytes, then zeros up to ``length``. Counts what is asked."""

    def __init__(self, data: bytes, length: int | None = None) -> None:
        self.data = data
        self.length = len(data) if length is None else length
        self.calls: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        assert length <= max(CALL_BYTES, SLOT), "one call asks for more than it may"
        self.calls.append((offset, length))
        return self.data[offset : offset + length].ljust(length, b"\0")

    @property
    def asked(self) -> int:
        return sum(length for _, length in self.calls)


def of(file: Bytes) -> DcoFile:
    return cast(DcoFile, file)


def hostile(plexes: int, regions: int, page_regions: int = PAGE_REGIONS, columns: int = 4096) -> bytes:
    """Both record slots of a volume with so many plexes, as somebody would write them by hand."""
    volume: dict[str, Any] = {
        "name": "v", "uuid": FAMILY, "length": regions * 4096, "region": 4096, "extent": 4096,
        "page_regions": page_regions, "drl": [0, 1], "fmr": True, "rdpol": "select", "io_timeout": 30.0, "rate": 0,
        "auto_attach": True, "hot_extents": 1, "stopped": False, "next_plex": 1, "settled": False,
        "snapshot_of": None, "link": None,
        "plexes": [
            {
                "name": f"v-{n}", "uuid": f"00000000-0000-4000-8000-{n:012}", "path": "/p", "dco": None,
                "state": "ACTIVE", "map": [n, 1], "has": None, "stamp": None, "reason": "", "suspect": False,
                "excluded": False, "snap": False,
            }
            for n in range(1, plexes + 1)
        ],
    }  # fmt: skip
    body = json.dumps({"lineage": "l", "history": [], "next_epoch": 2, "volumes": [volume]}, separators=(",", ":"))
    return b"".join(slot_of(body.encode(), number, columns) for number in (0, 1))


def slot_of(body: bytes, number: int, columns: int) -> bytes:
    fields = (
        layout.RECORD_MAGIC, layout.VERSION, columns, 0, 0, 0, 1, layout._uuid(FAMILY), len(body), zlib.crc32(body),
        number, 0, layout._uuid("00000000-0000-4000-8000-000000000001"),
    )  # fmt: skip
    header = layout._RECORD.pack(*fields, 0)
    return (layout._RECORD.pack(*fields, zlib.crc32(header[:-4])) + body).ljust(SLOT, b"\0")


@pytest.fixture
def allocated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bits that images asks for, one number a bitmap."""
    sizes: list[int] = []

    def counting(make: Callable[[int], Any]) -> Callable[[int], Any]:
        def call(size: int) -> Any:
            sizes.append(size)
            return make(size)

        return call

    monkeypatch.setattr(images, "zeros", counting(bits.zeros))
    monkeypatch.setattr(images, "ones", counting(bits.ones))
    return sizes


@pytest.mark.parametrize(
    "header",
    [
        hostile(38, MAX_REGIONS),
        hostile(300, MAX_REGIONS // 16),
        hostile(300, 8000, page_regions=1),
        hostile(1, MAX_REGIONS, page_regions=1),
        hostile(1, MAX_REGIONS * 2),
    ],
    ids=["38 of the longest", "300 maps", "300 with a page a region", "a page a region", "too many regions"],
)
def test_a_record_that_wants_more_than_a_family_may_have_is_none(header: bytes, allocated: list[int]) -> None:
    file = Bytes(header, 1 << 60)
    loaded = load(of(file))
    assert loaded.image.record is None and not loaded.image.pages
    assert file.asked == 2 * SLOT and not allocated


def test_no_more_is_read_than_the_file_holds() -> None:
    """The record speaks of 8457 pages, the file has room for the first few."""
    header = hostile(3, MAX_REGIONS, columns=40)
    stop = layout.page_offset(0, 5, 0, 40)
    file = Bytes(header, stop)
    loaded = load(of(file))
    assert loaded.image.record is not None
    assert {page for _, page in loaded.image.pages} == set(range(5))
    assert file.asked <= stop


def test_pages_that_lie_together_are_read_together() -> None:
    """Three columns of four: a page is read over, and not asked for; 32 numbers make a MiB."""
    file = Bytes(hostile(2, 100 * PAGE_REGIONS, columns=4), layout.copy_bytes(100, 4))
    load(of(file))
    assert len(file.calls) == 2 + 4 and all(length <= CALL_BYTES for _, length in file.calls)
    far = Bytes(hostile(2, 100 * PAGE_REGIONS, columns=40), layout.copy_bytes(100, 40))
    load(of(far))
    assert far.asked == 2 * SLOT + 100 * 3 * 2 * 4096, "where they lie far apart, no more than they are"


def test_pages_of_two_volumes_that_lie_across_each_other_are_read() -> None:
    """The original has columns 0, 1 and 9, its snapshot those between."""
    record = some_record()
    volume = replace(
        record.volume, drl=Column(0, 1), link=None, snapshot_of=None, page_regions=PAGE_REGIONS,
        plexes=tuple(replace(p, map=Column(c, 1)) for p, c in zip(record.volume.plexes, (1, 9), strict=False)),
    )  # fmt: skip
    link = Link(Column(9 if len(volume.plexes) < 2 else 2, 1), Column(3, 1))
    snapshot = replace(
        volume, name="SNAP", uuid=FAMILY, plexes=(), drl=Column(4, 1), snapshot_of=volume.name, link=link
    )  # fmt: skip
    family = replace(record, volumes=(volume, snapshot))
    used = [column.index for v in family.volumes for column in family.columns_of(v)]
    assert sorted(used) != used or len(used) > 4
    data = bytearray(layout.copy_bytes(1, family.columns))
    for slot in (0, 1):
        at = layout.record_offset(slot)
        encoded = layout.encode_record(family, slot)
        data[at : at + len(encoded)] = encoded
        for column in used:
            block = layout.encode_page(family.family, column, 0, slot, 1, 5 + slot, bits.ones(3))
            at = layout.page_offset(column, 0, slot, family.columns)
            data[at : at + len(block)] = block
    loaded = load(of(Bytes(bytes(data))))
    assert set(loaded.sound) == {(column, 0) for column in used} and not loaded.image.damaged


def test_of_a_file_that_is_all_hole_a_bounded_part_is_read() -> None:
    """15 maps of the longest volume are what a family may have."""
    columns = 16
    file = Bytes(hostile(columns - 1, MAX_REGIONS, columns=columns), 1 << 60)
    reading = Reading(of(file))
    pages = Geometry(MAX_REGIONS * 4096, 4096, 4096).pages
    assert pages * columns == MOST_PAGES
    assert reading.go_on(100) is None  # it goes on when it is told to, and not by itself
    assert len(file.calls) == 100
    assert file.calls[-1][0] < layout.page_offset(0, pages, 0, columns) <= 2 * SLOT + MOST_PAGES * 2 * 4096


@settings(max_examples=300)
@given(data=st.binary(max_size=2 * SLOT + 8192))
def test_any_bytes_end_in_a_record_or_in_none(data: bytes) -> None:
    _ends(data)


@settings(max_examples=300)
@given(record=records(), edits=st.lists(st.tuples(st.integers(0, 2 * SLOT), st.binary(min_size=1, max_size=16))))
def test_a_record_with_bytes_changed_ends_in_one_or_in_none(record: Record, edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(b"".join(layout.encode_record(record, n).ljust(SLOT, b"\0") for n in (0, 1)))
    for at, text in edits:
        data[at : at + len(text)] = text
    _ends(bytes(data))


@settings(max_examples=300)
@given(body=st.recursive(st.none() | st.integers() | st.text() | st.booleans(), st.lists) | st.binary())
def test_any_body_under_a_true_checksum_ends_in_a_record_or_in_none(body: Any) -> None:
    """Whoever forges a record gets its checksums right."""
    text = body if isinstance(body, bytes) else json.dumps({"volumes": body, "lineage": body}).encode()
    if len(text) < SLOT - layout.HEADER_BYTES:
        _ends(slot_of(text, 0, 40) + slot_of(text, 1, 40))


_NUMBERS = st.sampled_from([0, 1, 2, 4096, (1 << 28), (1 << 31), (1 << 50), (1 << 62), (1 << 63) - 1])


@settings(max_examples=300)
@given(fields=st.dictionaries(st.sampled_from(["length", "region", "extent", "page_regions", "hot_extents"]), _NUMBERS))
def test_any_measures_end_in_a_record_or_in_none(fields: dict[str, int]) -> None:
    body = json.loads(hostile(2, 100)[layout.HEADER_BYTES : SLOT].rstrip(b"\0"))
    body["volumes"][0].update(fields)
    text = json.dumps(body).encode()
    _ends(slot_of(text, 0, 40) + slot_of(text, 1, 40))


def _ends(data: bytes) -> None:
    file = Bytes(data)
    try:
        loaded = load(of(file))
    except Refused:  # a version that nobody knows
        return
    assert file.asked <= 2 * SLOT + len(data)
    if (record := loaded.image.record) is not None:
        shown = offline.dco_json("/x.dco", loaded, record)
        assert len(json.dumps(shown).splitlines()) == 1


def test_of_pages_that_are_cut_off_no_more_is_asked_than_is_there() -> None:
    """A byte of the first page is left; with many columns the pages of one number take more than both records."""
    data = hostile(plexes=38, regions=1, columns=40) + b"\0"
    assert layout.page_offset(38, 0, 1, 40) - 2 * SLOT > 2 * SLOT
    file = Bytes(data)
    assert load(of(file)).image.record is not None
    assert file.asked == len(data)


def test_a_page_with_a_sequence_beyond_all_is_damaged() -> None:
    """What comes after the highest number could not be written."""
    page = layout.encode_page(FAMILY, 1, 0, 0, 1, (1 << 64) - 1, bits.zeros(8))
    with pytest.raises(layout.Damaged):
        layout.decode_page(page, FAMILY, 1, 0, 0)


def test_what_cannot_be_read_again_is_not_made() -> None:
    """The same bound at the other end, before anything is written."""
    plexes = tuple(PlexRecord(f"v-{n}", FAMILY, "/p", None, PlexState.ACTIVE, Column(n, 1)) for n in range(1, 17))
    volume = VolumeRecord(
        "v", FAMILY, MAX_REGIONS * 4096, 4096, 4096, PAGE_REGIONS, Column(0, 1), plexes[:15]
    )  # fmt: skip
    record = Record(FAMILY, FAMILY, 1, (volume,))
    record.check_size()
    with pytest.raises(ValueError, match="pages"):
        replace(record, volumes=(replace(volume, plexes=plexes),)).check_size()
