"""The bytes of a DCO copy: what is written is read, and what was not written is never taken for it."""

import struct
import zlib
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

import pytest
from bitarray import bitarray
from hypothesis import example, given
from hypothesis import strategies as st

from fmrd.backing.protocol import DCO_BLOCK_BYTES
from fmrd.core.geometry import PAGE_REGIONS
from fmrd.core.images import PageSlot
from fmrd.core.record import PlexRecord, Record
from fmrd.core.records.parts import Column, Failure, Position
from fmrd.core.stamps import MOST_PIECES, Stamp, Sum
from fmrd.core.states import PlexState
from fmrd.dco import layout
from fmrd.dco.layout import HEADER_BYTES, RECORD_SLOT_BYTES, Blank, Damaged, decode_page, decode_record
from fmrd.dco.values import MOST
from fmrd.errors import Failed, Refused
from tests.dco.making import OWNER, counts, records, some_record, uuids, with_plex

SECTOR = 512
slots = st.integers(0, 1)


def in_slot(data: bytes) -> bytes:
    """As it is read: the slot behind what was written is zeros, or what was left of a longer record."""
    return data + bytes(RECORD_SLOT_BYTES - len(data))


def signed(header: bytearray) -> bytes:
    """With the checksum that the header should have."""
    header[HEADER_BYTES - 4 : HEADER_BYTES] = zlib.crc32(header[: HEADER_BYTES - 4]).to_bytes(4, "little")
    return bytes(header)


# Records


@given(record=records(), slot=slots, owner=uuids)
def test_a_record_is_read_as_it_was_written(record: Record, slot: int, owner: str) -> None:
    data = layout.encode_record(record, slot, owner)
    assert len(data) % DCO_BLOCK_BYTES == 0
    found = decode_record(in_slot(data), slot)
    assert found == layout.RecordSlot(record, found.incompatible, 0, int(record.settled), owner)
    assert not found.incompatible & ~layout.INCOMPATIBLE_KNOWN


def test_a_record_without_room_does_without_the_checksums_of_stamps() -> None:
    """Better that than a volume that cannot stop."""
    sums = tuple(Sum(number << 16, 1 << 16, 0xFFFFFFFF) for number in range(1 << 20, (1 << 20) + MOST_PIECES))
    few, many, none = stamped(3, sums), stamped(39, sums), stamped(39, ())
    assert decode_record(in_slot(layout.encode_record(few, 0, OWNER)), 0).record == few
    assert decode_record(in_slot(layout.encode_record(many, 0, OWNER)), 0).record == none


def test_checksums_that_just_fit_are_kept() -> None:
    record = replace(stamped(1, (Sum(0, 1, 1),)), extra={"later": ""})
    room = RECORD_SLOT_BYTES - HEADER_BYTES - len(layout.encode_body(record))
    full = replace(record, extra={"later": "x" * room})
    assert decode_record(layout.encode_record(full, 0), 0).record == full
    beyond = replace(record, extra={"later": "x" * (room + 1)})
    found = decode_record(in_slot(layout.encode_record(beyond, 0)), 0).record
    assert found == replace(stamped(1, ()), extra=beyond.extra)


def stamped(number: int, content: tuple[Sum, ...]) -> Record:
    """A volume of so many plexes, each with a stamp."""
    record = some_record()
    uuid = "00000000-0000-4000-8000-0000000000{:02d}".format
    plexes = tuple(
        PlexRecord(
            f"v-{n}", uuid(n), f"/p{n}", None, PlexState.ACTIVE, Column(n, 1), stamp=Stamp(n, 9, 8, content=content)
        )
        for n in range(1, number + 1)
    )
    return replace(record, volumes=(replace(record.volume, plexes=plexes),))


def test_every_flipped_bit_of_a_record_is_seen_or_does_no_harm() -> None:
    record = some_record()
    data = layout.encode_record(record, 0, OWNER)
    length = HEADER_BYTES + int.from_bytes(data[64:68], "little")
    for at in range(length + 16):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            try:
                found = decode_record(bytes(damaged), 0)
            except Damaged:
                assert at < length, "behind the body lies nothing that matters"
            else:
                assert found.record == record and at >= length


@given(record=records(), other=records(), seed=st.randoms(use_true_random=False), slot=slots)
def test_a_torn_record_is_the_old_one_the_new_one_or_none(record: Record, other: Record, seed, slot: int) -> None:  # type: ignore[no-untyped-def]  # hypothesis's Random
    """Any mixture of sectors of two records of one slot."""
    old, new = (in_slot(layout.encode_record(r, slot, OWNER)) for r in (record, other))
    size = max(len(old.rstrip(b"\0")), len(new.rstrip(b"\0")))
    mixed = b"".join([seed.choice((old, new))[at : at + SECTOR] for at in range(0, size, SECTOR)])
    try:
        found = decode_record(in_slot(mixed), slot)
    except Damaged:
        return
    assert found.record in (record, other)


def test_a_record_in_the_wrong_slot_is_damaged() -> None:
    data = in_slot(layout.encode_record(some_record(), 0))
    with pytest.raises(Damaged, match="slot 0"):
        decode_record(data, 1)


@pytest.mark.parametrize("size", [0, 100, HEADER_BYTES, DCO_BLOCK_BYTES - 1, RECORD_SLOT_BYTES])
def test_zeros_are_blank(size: int) -> None:
    with pytest.raises(Blank):
        decode_record(bytes(size), 0)


def test_a_record_cut_short_is_damaged() -> None:
    data = layout.encode_record(some_record(), 0).rstrip(b"\0")
    for size in range(1, len(data)):
        with pytest.raises(Damaged):
            decode_record(data[:size], 0)


@pytest.mark.parametrize("columns", [0, 1, 4097, 1 << 31])
def test_a_number_of_columns_that_cannot_be_is_damaged(columns: int) -> None:
    header = bytearray(in_slot(layout.encode_record(some_record(), 0)))
    header[12:16] = columns.to_bytes(4, "little")
    with pytest.raises(Damaged, match="columns"):
        decode_record(signed(header), 0)


def test_a_column_beyond_those_the_copy_has_is_damaged() -> None:
    header = bytearray(in_slot(layout.encode_record(some_record(), 0)))
    header[12:16] = (2).to_bytes(4, "little")
    with pytest.raises(Damaged, match="column 2"):
        decode_record(signed(header), 0)


@pytest.mark.parametrize(
    ("fields", "feature"),
    [({}, 0), ({"behind": 1 << 20}, layout.LAGS), ({"session": True}, layout.SESSIONS)],
)  # fmt: skip
def test_what_an_older_program_would_get_wrong_is_a_feature(fields: dict[str, object], feature: int) -> None:
    record = with_plex(some_record(), **fields)
    found = decode_record(in_slot(layout.encode_record(record, 0)), 0)
    assert found.incompatible == feature and found.record == record


@pytest.mark.parametrize("bit", [bit for bit in range(64) if not layout.INCOMPATIBLE_KNOWN >> bit & 1])
def test_an_incompatible_feature_that_is_not_known_is_refused(bit: int) -> None:
    header = bytearray(in_slot(layout.encode_record(some_record(), 0)))
    header[16:24] = (1 << bit).to_bytes(8, "little")
    with pytest.raises(Refused) as refused:
        decode_record(signed(header), 0)
    assert refused.value.code == "dco_feature"


@pytest.mark.parametrize("path", ["nbd://host/x", "ssh://host/x"])
@pytest.mark.parametrize("what", ["path", "dco_path"])
def test_a_record_with_a_uri_is_not_touched_by_who_knows_none(path: str, what: str) -> None:
    record = some_record()
    assert not decode_record(in_slot(layout.encode_record(record, 0)), 0).incompatible
    plex = replace(record.volume.plexes[0], **{what: path})
    volume = replace(record.volume, plexes=(plex, *record.volume.plexes[1:]))
    far = replace(record, volumes=(volume, *record.volumes[1:]))
    found = decode_record(in_slot(layout.encode_record(far, 0)), 0)
    assert found.incompatible == layout.FAR and found.record == far


@pytest.mark.parametrize("version", [0, 2, 1 << 31])
def test_another_version_is_refused(version: int) -> None:
    header = bytearray(in_slot(layout.encode_record(some_record(), 0)))
    header[8:12] = version.to_bytes(4, "little")
    with pytest.raises(Refused) as refused:
        decode_record(signed(header), 0)
    assert refused.value.code == "dco_feature"


@pytest.mark.parametrize("bit", range(64))
def test_a_compatible_feature_means_nothing_and_an_unknown_autoclear_one_is_not_taken_for_settled(bit: int) -> None:
    header = bytearray(in_slot(layout.encode_record(some_record(), 0)))
    header[24:32] = (1 << bit).to_bytes(8, "little")
    header[32:40] = (1 << bit).to_bytes(8, "little")
    found = decode_record(signed(header), 0)
    assert found.compatible == found.autoclear == 1 << bit
    assert found.record == some_record()


@pytest.mark.parametrize("clear", [False, True])
def test_what_whoever_does_not_know_us_cleared_is_not_settled(clear: bool) -> None:
    known = some_record()
    record = replace(known, volumes=tuple(replace(v, settled=True) for v in known.volumes))
    header = bytearray(in_slot(layout.encode_record(record, 0)))
    assert int.from_bytes(header[32:40], "little") == layout.AUTOCLEAR_SETTLED
    if clear:
        header[32:40] = bytes(8)
    assert decode_record(signed(header), 0).record == (known if clear else record)


def test_a_record_that_outgrew_its_slot_is_not_written() -> None:
    history = tuple(Position("x" * 36, n) for n in range(4000))
    with pytest.raises(ValueError, match="does not fit"):
        layout.encode_record(replace(some_record(), history=history), 0)


def test_a_record_may_fill_its_slot_to_the_last_byte() -> None:
    """Each further letter is a further byte of the body."""
    record = replace(some_record(), extra={"later": ""})
    room = RECORD_SLOT_BYTES - HEADER_BYTES - len(layout.encode_body(record))
    full = replace(record, extra={"later": "x" * room})
    assert decode_record(layout.encode_record(full, 0), 0).record == full
    with pytest.raises(ValueError, match="does not fit its slot"):
        layout.encode_record(replace(record, extra={"later": "x" * (room + 1)}), 0)


def test_a_new_plex_leaves_room_for_what_comes_later() -> None:
    """Each further letter is a further byte of the body."""
    record = replace(some_record(), history=(), extra={"later": ""})
    room = RECORD_SLOT_BYTES - HEADER_BYTES - layout.RESERVED_BYTES - len(layout.encode_body(record))
    layout.must_have_room(replace(record, extra={"later": "x" * room}))
    with pytest.raises(Failed, match="dco_full"):
        layout.must_have_room(replace(record, extra={"later": "x" * (room + 1)}))


def test_a_record_of_another_kind_is_damaged_though_its_checksum_is_right() -> None:
    header = bytearray(in_slot(layout.encode_record(some_record(), 0)))
    header[:8] = layout.PAGE_MAGIC
    with pytest.raises(Damaged, match="magic"):
        decode_record(signed(header), 0)


def test_a_sequence_that_no_count_may_be_is_damaged() -> None:
    header = bytearray(in_slot(layout.encode_record(some_record(), 0)))
    header[40:48] = MOST.to_bytes(8, "little")
    assert decode_record(signed(header), 0).record.sequence == MOST
    header[40:48] = (MOST + 1).to_bytes(8, "little")
    with pytest.raises(Damaged, match="a sequence of"):
        decode_record(signed(header), 0)


def test_whose_a_copy_is_can_be_told_though_all_else_is_damaged() -> None:
    record = some_record()
    data = bytearray(layout.encode_record(record, 0, OWNER))
    data[HEADER_BYTES:] = b"noise"
    assert layout.claimed(bytes(data)) == (record.family, OWNER)
    assert layout.claimed(layout.encode_record(record, 0)) is None, "the home copy is no plex's"
    assert layout.claimed(bytes(RECORD_SLOT_BYTES)) is None
    assert layout.claimed(bytes(data[:HEADER_BYTES])) == (record.family, OWNER)
    assert layout.claimed(bytes(data[: HEADER_BYTES - 1])) is None
    data[48:64] = bytes(16)
    assert layout.claimed(bytes(data)) is None, "a plex of no family"


def test_512_lineages_and_eight_plexes_of_long_paths_fit() -> None:
    record = some_record()
    plex = record.volume.plexes[0]
    plexes = tuple(
        replace(plex, name=f"v-{n}", uuid=str(UUID(int=n)), map=Column(n, 1), path="/" * 4000, dco_path="/" * 4000)
        for n in range(1, 9)
    )
    history = tuple(Position("x" * 36, (1 << 40) + n) for n in range(512))
    layout.encode_record(replace(record, history=history, volumes=(replace(record.volume, plexes=plexes),)), 0)


# Pages

FAMILY = some_record().family
pages = st.lists(st.booleans(), min_size=1, max_size=200).map(bitarray)


@given(bits=pages, column=st.integers(0, 39), page=st.integers(0, 1 << 20), slot=slots, epoch=counts, sequence=counts)
@example(bits=bitarray("1" * PAGE_REGIONS), column=0, page=0, slot=0, epoch=1, sequence=1)
def test_a_page_is_read_as_it_was_written(
    bits: bitarray, column: int, page: int, slot: int, epoch: int, sequence: int
) -> None:
    block = layout.encode_page(FAMILY, column, page, slot, epoch, sequence, bits)
    assert len(block) == DCO_BLOCK_BYTES
    found = decode_page(block, FAMILY, column, page, slot)
    assert (found.epoch, found.sequence, found.bits) == (epoch, sequence, bits)


def test_every_flipped_bit_of_a_page_is_seen() -> None:
    block = layout.encode_page(FAMILY, 3, 5, 1, 7, 9, bitarray("1100101") * 20)
    for at in range(DCO_BLOCK_BYTES):
        for bit in range(8):
            damaged = bytearray(block)
            damaged[at] ^= 1 << bit
            with pytest.raises(Damaged):
                decode_page(bytes(damaged), FAMILY, 3, 5, 1)


@given(old=pages, new=pages, seed=st.randoms(use_true_random=False))
def test_a_torn_page_is_the_old_one_the_new_one_or_none(old: bitarray, new: bitarray, seed) -> None:  # type: ignore[no-untyped-def]  # hypothesis's Random
    blocks = [layout.encode_page(FAMILY, 1, 2, 0, 4, n, bits) for n, bits in enumerate((old, new))]
    mixed = b"".join([seed.choice(blocks)[at : at + SECTOR] for at in range(0, DCO_BLOCK_BYTES, SECTOR)])
    with suppress(Damaged):
        found: PageSlot = decode_page(mixed, FAMILY, 1, 2, 0)
        assert (found.sequence, found.bits) in ((0, old), (1, new))


@pytest.mark.parametrize(
    ("family", "column", "page", "slot"),
    [(OWNER, 3, 5, 1), (FAMILY, 2, 5, 1), (FAMILY, 3, 4, 1), (FAMILY, 3, 5, 0)],
    ids=["family", "column", "page", "slot"],
)
def test_a_page_counts_only_in_its_own_place(family: str, column: int, page: int, slot: int) -> None:
    block = layout.encode_page(FAMILY, 3, 5, 1, 7, 9, bitarray("1"))
    with pytest.raises(Damaged, match="another place"):
        decode_page(block, family, column, page, slot)


def test_a_page_of_another_version_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        later.setattr(layout, "VERSION", layout.VERSION + 1)
        data = layout.encode_page(OWNER, 3, 5, 1, 8, 9, bitarray("0110"))
    with pytest.raises(Damaged):
        decode_page(data, OWNER, 3, 5, 1)


def test_a_page_of_another_kind_is_damaged_though_its_checksum_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as other:
        other.setattr(layout, "PAGE_MAGIC", layout.RECORD_MAGIC)
        data = layout.encode_page(FAMILY, 3, 5, 1, 8, 9, bitarray("0110"))
    with pytest.raises(Damaged, match="magic"):
        decode_page(data, FAMILY, 3, 5, 1)


@pytest.mark.parametrize(("epoch", "sequence"), [(MOST + 1, 1), (1, MOST + 1)])
def test_a_page_of_an_epoch_or_a_sequence_that_no_count_may_be_is_damaged(epoch: int, sequence: int) -> None:
    data = layout.encode_page(FAMILY, 3, 5, 1, min(epoch, MOST), min(sequence, MOST), bitarray("01"))
    assert decode_page(data, FAMILY, 3, 5, 1).bits == bitarray("01")
    with pytest.raises(Damaged, match="no copy"):
        decode_page(layout.encode_page(FAMILY, 3, 5, 1, epoch, sequence, bitarray("01")), FAMILY, 3, 5, 1)


def test_a_page_of_zeros_is_blank_and_one_of_another_size_damaged() -> None:
    with pytest.raises(Blank):
        decode_page(bytes(DCO_BLOCK_BYTES), FAMILY, 0, 0, 0)
    for size in (0, DCO_BLOCK_BYTES - 1, 2 * DCO_BLOCK_BYTES):
        with pytest.raises(Damaged):
            decode_page(b"x" * size, FAMILY, 0, 0, 0)


def test_a_page_that_claims_more_bits_than_fit_is_damaged() -> None:
    block = bytearray(layout.encode_page(FAMILY, 0, 0, 0, 1, 1, bitarray("1")))
    block[20:24] = (PAGE_REGIONS + 1).to_bytes(4, "little")
    crc = zlib.crc32(block[HEADER_BYTES:], zlib.crc32(block[: HEADER_BYTES - 4]))
    block[HEADER_BYTES - 4 : HEADER_BYTES] = struct.pack("<I", crc)
    with pytest.raises(Damaged, match="do not fit"):
        decode_page(bytes(block), FAMILY, 0, 0, 0)


# Places


def test_slots_and_pages_never_overlap() -> None:
    places = [(layout.record_offset(slot), RECORD_SLOT_BYTES) for slot in (0, 1)]
    places += [
        (layout.page_offset(column, page, slot, columns=5), DCO_BLOCK_BYTES)
        for page in range(3)
        for column in range(5)
        for slot in (0, 1)
    ]
    at = 0
    for offset, length in sorted(places):
        assert offset == at
        at += length
    assert at == layout.copy_bytes(3, columns=5)


# Whatever lies there


@given(st.binary(max_size=300), slots)
def test_noise_is_damaged_or_blank(noise: bytes, slot: int) -> None:
    with pytest.raises(Damaged):
        decode_record(noise, slot)
    with pytest.raises(Damaged):
        decode_page(noise.ljust(DCO_BLOCK_BYTES, b"\0"), FAMILY, 0, 0, slot)


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES), st.binary(max_size=200))
def test_noise_behind_a_sound_header_raises_nothing_else(noise: bytes, body: bytes) -> None:
    """Magic, version and checksums as they should be, and nothing else."""
    header = bytearray(noise)
    header[:12] = layout.RECORD_MAGIC + (1).to_bytes(4, "little")
    header[16:24] = bytes(8)
    header[64:72] = struct.pack("<II", len(body), zlib.crc32(body))
    with pytest.raises(Damaged):
        decode_record(signed(header) + body, 0)


def test_why_a_plex_is_out_is_left_out_where_there_is_no_room() -> None:
    record = with_plex(some_record(), failure=Failure("", "it burns", 5, 1.5))
    assert decode_record(layout.encode_record(record, 0), 0).record == record
    room = RECORD_SLOT_BYTES - HEADER_BYTES - len(layout.encode_body(replace(record, extra={"later": ""})))
    full = replace(record, extra={"later": "x" * (room + 1)})
    assert decode_record(layout.encode_record(full, 0), 0).record == with_plex(full, failure=None)
