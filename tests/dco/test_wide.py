"""A DCO with several banks of columns: what an older fmrd sees of it, what it is read as, and what is none."""

import json
from dataclasses import replace
from typing import Any, cast

import pytest
from bitarray import frozenbitarray
from hypothesis import given
from hypothesis import strategies as st

from fmrd.backing.calls.system_calls import Lane
from fmrd.backing.protocol import DCO_BLOCK_BYTES, DcoFile
from fmrd.core.geometry import MAX_PAGES, MAX_REGIONS, PAGE_REGIONS
from fmrd.core.record import MOST_PAGES, MOST_WIDE_PAGES, PlexRecord, Record, VolumeRecord, geometry_of
from fmrd.core.records.parts import Column
from fmrd.core.records.rows import MOST_BANKS, MOST_RUNS, Rows, Runs
from fmrd.core.states import PlexState
from fmrd.dco import layout
from fmrd.dco.body import decode_body, encode_body
from fmrd.dco.copy import DcoCopy, PageWrite
from fmrd.dco.loading import Reading, load
from fmrd.dco.rows.places import offset_of, size_of, spans_of
from fmrd.engine.copies.carried import fits
from fmrd.errors import Refused
from tests.dco.fakes import MemoryDco, Trouble
from tests.dco.making import OWNER, some_record
from tests.dco.test_bounds import SLOT, Bytes, of

COLUMNS = 3
GROWN: list[tuple[Runs, int]] = [
    ((), 2),
    (((0, 2), (1, 2)), 2),
    (((0, 2), (1, 2), (2, 2)), 2),
    (((0, 2), (1, 2), (0, 1), (1, 1)), 3),
]
"""Rows as they come about, and how many pages each column has."""


def family(runs: Runs, pages: int, used: int) -> Record:
    """One volume, with as many columns in use as are asked for: a log and plexes."""
    known = some_record().volume
    plexes = tuple(
        PlexRecord(f"v-{n:02d}", f"00000000-0000-4000-8000-{n:012}", f"/p{n}", None, PlexState.ACTIVE, Column(n, 1))
        for n in range(1, used)
    )
    volume = replace(known, length_bytes=4096 * 4 * pages, region_bytes=4096, extent_bytes=4096, page_regions=4)
    return replace(some_record(), volumes=(replace(volume, plexes=plexes),), columns=COLUMNS, runs=runs)


def in_slot(data: bytes) -> bytes:
    return data.ljust(layout.RECORD_SLOT_BYTES, b"\0")


@pytest.mark.parametrize(("runs", "pages"), GROWN)
@given(data=st.data())
def test_every_page_is_read_as_it_was_written_at_each_width(runs: Runs, pages: int, data: st.DataObject) -> None:
    rows = Rows(COLUMNS, runs)
    used = data.draw(st.integers(max(2, rows.total - COLUMNS + 1), rows.total))
    record = family(runs, pages, used)
    bits = st.lists(st.booleans(), min_size=4, max_size=4).map(frozenbitarray)
    contents = {(c, p): data.draw(bits) for c in range(used) for p in range(pages)}
    file = MemoryDco("copy", size_of(rows, pages), Trouble())
    copy = DcoCopy("copy", file, Lane("copy"), record.family, rows)  # type: ignore[arg-type]  # tail is never set
    keys = data.draw(st.permutations(sorted(contents)))
    for key in keys:
        copy.write_pages([PageWrite(*key, 1, 5, contents[key])]).run()
    copy.write_record(record).run()
    loaded = load(cast(DcoFile, file))
    assert loaded.image.record == record and not loaded.image.damaged
    for (column, page), written in contents.items():
        slot = loaded.image.newest(Column(column, 1), page)
        assert slot is not None and slot.bits == written


def test_with_one_bank_every_byte_is_as_it_always_was() -> None:
    """What an older fmrd wrote and what it reads."""
    data = layout.encode_record(some_record(), 0, OWNER)
    assert data[16:24] == bytes(8) and data[12:16] == (40).to_bytes(4, "little") and b'"rows"' not in data
    assert size_of(Rows(40), 7) == layout.copy_bytes(7) == 262144 + 7 * 40 * 2 * 4096
    assert offset_of(Rows(40), 3, 2, 1) == layout.page_offset(3, 2, 1) == 262144 + ((2 * 40 + 3) * 2 + 1) * 4096


def test_an_older_fmrd_does_not_touch_what_has_more_banks(monkeypatch: pytest.MonkeyPatch) -> None:
    record = family(((0, 2), (1, 2)), 2, 4)
    assert layout.decode_record(in_slot(layout.encode_record(record, 0)), 0).incompatible == layout.WIDE
    monkeypatch.setattr(layout, "INCOMPATIBLE_KNOWN", layout.INCOMPATIBLE_KNOWN & ~layout.WIDE)
    other = replace(record, sequence=86_420)  # bytes that nobody has decoded yet
    with pytest.raises(Refused, match="dco_feature"):
        layout.decode_record(in_slot(layout.encode_record(other, 0)), 0)


@pytest.mark.parametrize(("runs", "bit"), [((), layout.WIDE), (((0, 2), (1, 2)), 0)])
def test_a_header_that_says_otherwise_than_its_body_is_damaged(runs: Runs, bit: int) -> None:
    header = bytearray(in_slot(layout.encode_record(family(runs, 2, 3), 0)))
    header[16:24] = bit.to_bytes(8, "little")
    at = layout.HEADER_BYTES - 4
    header[at : at + 4] = layout.zlib.crc32(header[:at]).to_bytes(4, "little")
    with pytest.raises(layout.Damaged, match="disagree on the rows"):
        layout.decode_record(bytes(header), 0)


def read(record: Record, rows: Any) -> Record:
    body = json.loads(encode_body(record)) | {"rows": rows}
    told = json.dumps(body).encode()
    return decode_body(told, family=record.family, sequence=1, settled=False, columns=record.columns)


@pytest.mark.parametrize(
    "rows",
    [
        [], {}, "no", [[0]], [[0, 2, 3]], [[0, 0], [1, 2]], [[0, -1]], [[0, True]], [[1, 2], [0, 2]], [[0, 2], [2, 2]],
        [[0, 2], [MOST_BANKS, 2]], [[0, 2], [-1, 2]], [[0, 1], [1, 2]], [[0, 2], [1, 1]], [[0, 2], [1, MAX_PAGES + 1]],
        [[0, 2], [1, 1 << 62]], [[0, 2], [1, 2], *[[1, 1]] * MOST_RUNS], [[0, 2]],
    ],
)  # fmt: skip
def test_rows_that_cannot_be_are_no_record(rows: Any) -> None:
    record = family(((0, 2), (1, 2)), 2, 5)
    assert read(record, [[0, 2], [1, 2]]).runs == record.runs
    with pytest.raises(ValueError, match="not a record"):
        read(record, rows)


def test_a_column_beyond_all_banks_is_no_record() -> None:
    with pytest.raises(ValueError, match="column 6 of 6"):
        encode_body(family(((0, 2), (1, 2)), 2, 7))


def hostile(columns: int, banks: int) -> bytes:
    """As many maps of the longest volume as there are columns, in both slots."""
    plexes = tuple(
        PlexRecord(f"v-{n}", f"00000000-0000-4000-8000-{n:012}", "/p", None, PlexState.ACTIVE, Column(n, 1))
        for n in range(1, columns)
    )
    volume = VolumeRecord("v", OWNER, MAX_REGIONS * 4096, 4096, 4096, PAGE_REGIONS, Column(0, 1), plexes)
    runs = tuple((bank, MAX_PAGES) for bank in range(banks))
    record = replace(some_record(), volumes=(volume,), columns=-(-columns // banks), runs=runs)
    return b"".join(layout.encode_record(record, slot).ljust(SLOT, b"\0") for slot in (0, 1))


def test_a_wide_record_that_wants_more_than_a_family_may_have_is_none() -> None:
    assert MOST_WIDE_PAGES == 2 * MOST_PAGES
    most = MOST_WIDE_PAGES // MAX_PAGES
    with pytest.raises(ValueError, match="its bitmaps have"):
        hostile(most + 1, 2)


def test_the_most_that_a_wide_copy_may_hold_is_read_in_as_many_calls_as_it_takes() -> None:
    most = MOST_WIDE_PAGES // MAX_PAGES
    file = Bytes(hostile(most, 2), 1 << 60)
    calls = Reading(of(file))
    for _ in range(50):  # it would be GiB
        assert calls.go_on(1) is None
    end = 2 * SLOT + 2 * MAX_PAGES * most * 2 * DCO_BLOCK_BYTES
    assert all(offset + length <= end for offset, length in file.calls)


def test_of_a_large_family_only_what_is_asked_for_is_read() -> None:
    known = family(((0, 2), (1, 2)), 2, 2)
    other = replace(
        known.volume, name="w", uuid="00000000-0000-4000-8000-000000000077", drl=Column(5, 1), plexes=()
    )  # fmt: skip
    record = replace(known, volumes=(known.volume, other))
    rows = record.rows
    file = MemoryDco("copy", size_of(rows, 2), Trouble())
    copy = DcoCopy("copy", file, Lane("copy"), record.family, rows)  # type: ignore[arg-type]  # tail is never set
    for column in (0, 1, 5):
        copy.write_pages([PageWrite(column, page, 1, 5, frozenbitarray("1010")) for page in range(2)]).run()
    copy.write_record(record).run()
    for wanted, columns in ((None, {0, 1, 5}), (other.uuid, {5}), (known.volume.uuid, {0, 1})):
        reading = Reading(cast(DcoFile, file), wanted)
        while (loaded := reading.go_on(1)) is None:
            pass
        assert {column for column, _ in loaded.image.pages} == columns


def test_what_a_copy_held_in_rows_that_are_not_its_family_s_any_more_is_not_believed() -> None:
    """Another bank may come there, and its pages are written to both slots then, as new ones are."""
    record = family(((0, 2), (1, 2)), 2, 5)
    file = MemoryDco("copy", size_of(record.rows, 2), Trouble())
    copy = DcoCopy("copy", file, Lane("copy"), record.family, record.rows)  # type: ignore[arg-type]  # as above
    copy.write_pages([PageWrite(c, p, 1, 5, frozenbitarray("1010")) for c in range(5) for p in range(2)]).run()
    copy.write_record(record).run()
    again = DcoCopy("copy", file, Lane("copy"), record.family, Rows(COLUMNS))  # type: ignore[arg-type]  # as above
    again.adopt(load(cast(DcoFile, file)))
    again.rows.runs = ((0, 2), (1, 2))
    before = len(file.trouble.writes)
    new, old = (PageWrite(c, 0, 2, 6, frozenbitarray("0101")) for c in (4, 2))
    again.write_pages([new]).run()
    assert file.trouble.writes[before:] == [("copy", offset_of(again.rows, 4, 0, 0))], "both slots, side by side"
    again.write_pages([old]).run()
    loaded = load(cast(DcoFile, file))
    assert [slot.sequence if slot else None for slot in loaded.image.pages[4, 0]] == [6, 6]
    assert sorted(slot.sequence if slot else 0 for slot in loaded.image.pages[2, 0]) == [5, 6]


def test_what_is_preallocated_is_what_a_volume_needs_beyond_the_first_bank() -> None:
    rows = Rows(4, ((0, 2), (1, 2), (2, 2)))
    pages, both = range(2), 2 * DCO_BLOCK_BYTES
    assert spans_of(rows, [0, 3], pages) == []
    assert spans_of(rows, [1, 5, 4, 7], pages) == [
        (offset_of(rows, 4, 0, 0), 2 * both), (offset_of(rows, 7, 0, 0), both + 2 * both),
        (offset_of(rows, 7, 1, 0), both),
    ]  # fmt: skip


def test_a_copy_in_which_pages_lie_elsewhere_is_none_of_the_family_s() -> None:
    """It went on elsewhere, and the volume has grown on both sides: on one of them with two banks."""
    record = family(((0, 2), (1, 2), (0, 1), (1, 1)), 3, 4)
    file = MemoryDco("copy", size_of(record.rows, 3), Trouble())
    copy = DcoCopy("copy", file, Lane("copy"), record.family, record.rows)  # type: ignore[arg-type]  # as above
    copy.write_record(record).run()
    loaded, geometry = load(cast(DcoFile, file)), geometry_of(record.volume)
    assert fits(loaded, record.family, geometry, record.rows)
    assert fits(loaded, record.family, geometry, Rows(COLUMNS, ((0, 2), (1, 2), (0, 1), (1, 1), (2, 3))))
    assert not fits(loaded, record.family, geometry, Rows(COLUMNS))
    assert not fits(loaded, record.family, geometry, Rows(COLUMNS, ((0, 3), (1, 3))))
    assert not fits(loaded, OWNER, geometry, record.rows)
