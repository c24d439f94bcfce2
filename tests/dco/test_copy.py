"""Two slots: whatever is cut off, at whatever block, the newest recorded content can be read afterwards."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pytest
from bitarray import frozenbitarray
from hypothesis import given
from hypothesis import strategies as st

from fmrd.backing.calls.system_calls import Lane
from fmrd.backing.protocol import DCO_BLOCK_BYTES
from fmrd.core.images import PageSlot
from fmrd.core.record import Record
from fmrd.core.records.parts import Column
from fmrd.core.records.rows import Rows
from fmrd.core.states import PlexState
from fmrd.dco import layout
from fmrd.dco.copy import DcoCopy, PageWrite
from fmrd.dco.loading import Loaded, load, slot_to_keep
from fmrd.dco.page_set import Key, PageSet
from tests.core.making import FAMILY, family_record, plex_record
from tests.dco.fakes import COLUMNS, MemoryDco, Trouble
from tests.dco.making import OWNER

PAGES = 2
KEYS = [(column, page) for column in (0, 1) for page in range(PAGES)]


def record(sequence: int, epoch: int = 1) -> Record:
    """A DRL in column 0, one map in column 1."""
    known = family_record(plex_record(1, PlexState.ACTIVE, map=Column(1, epoch)), sequence=sequence, columns=COLUMNS)
    return replace(known, volumes=(replace(known.volume, drl=Column(0, 1)),))


def new_file() -> MemoryDco:
    return MemoryDco("copy", layout.copy_bytes(PAGES, COLUMNS), Trouble())


def copy_of(file: MemoryDco) -> DcoCopy:
    return DcoCopy("copy", file, Lane("copy"), FAMILY, Rows(COLUMNS))


def page(key: Key, sequence: int, epoch: int = 1) -> PageWrite:
    """Its four bits tell the sequence."""
    return PageWrite(*key, epoch, sequence, frozenbitarray(f"{sequence % 16:04b}"))


def rewrite(writer: "Writer", pages: Sequence[PageWrite], newer: Record) -> None:
    for call in writer.copy.rewrite(pages, newer):
        call.run()


def contents(loaded: Loaded, epochs: dict[int, int]) -> dict[Key, int | None]:
    """What a reader makes of each page."""
    found = {key: loaded.image.newest(Column(key[0], epochs[key[0]]), key[1]) for key in KEYS}
    return {key: None if slot is None else int(slot.bits.to01(), 2) for key, slot in found.items()}


def content(file: MemoryDco, key: Key, epoch: int = 1) -> int | None:
    return contents(load(file), {0: epoch, 1: epoch})[key]


class Writer:
    """A copy at work, and a model of what must be readable: what was written, by calls that ended well."""

    def __init__(self) -> None:
        self.file = new_file()
        self.copy = copy_of(self.file)
        self.sequence = 0
        self.recorded = 0
        self.epochs = {0: 1, 1: 1}
        self.known: dict[Key, int] = {}
        self.record(keys=KEYS)

    def pages(self, keys: list[Key], epochs: dict[int, int] | None = None) -> bool:
        self.sequence += 1
        epochs = epochs or self.epochs
        pages = [page(key, self.sequence, epochs[key[0]]) for key in keys]
        call = self.copy.write_pages(pages)
        if not self._run(call.run):
            return False
        self.copy.pages_written(pages, self.epochs if self.recorded else {})
        same = [key for key in keys if epochs[key[0]] == self.epochs[key[0]]]
        self.known |= dict.fromkeys(same, self.sequence % 16)
        return True

    def record(self, *, epoch: int | None = None, keys: list[Key]) -> bool:
        """A commit; with an epoch, one that changes that of column 1."""
        epochs = self.epochs if epoch is None else {0: 1, 1: epoch}
        fresh = [] if epochs == self.epochs else [key for key in KEYS if key[0] == 1]
        if not self.recorded:
            fresh = KEYS
        if not self.pages(sorted({*keys, *fresh}), epochs):
            return False
        call = self.copy.write_record(record(self.recorded + 1, epochs[1]))
        if not self._run(call.run):
            return False
        self.copy.record_written()
        self.copy.epochs_committed(PageSet(fresh))
        self.recorded += 1
        if epochs != self.epochs:
            self.epochs = epochs
            self.known |= dict.fromkeys(fresh, self.sequence % 16)
        return True

    def _run(self, run: object) -> bool:
        try:
            run()  # type: ignore[operator]  # a Call's run
        except OSError:
            return False
        return True

    def reopen(self) -> None:
        self.file.trouble.torn_after = None
        loaded = load(self.file)
        self.sequence = max(self.sequence, loaded.page_sequence)
        self.copy = copy_of(self.file)
        self.copy.adopt(loaded)
        record = loaded.image.record
        assert record is not None
        self.recorded, self.epochs = record.sequence, {0: 1, 1: record.volume.plexes[0].map.epoch}
        found = contents(loaded, self.epochs)
        assert None not in found.values()
        self.known = {key: value for key, value in found.items() if value is not None}

    def check(self) -> None:
        """What is recorded can be read; a write that was cut off may have landed."""
        loaded = load(self.file)
        record = loaded.image.record
        assert record is not None and record.sequence in (self.recorded, self.recorded + 1)
        if record.sequence == self.recorded:
            found = contents(loaded, self.epochs)
            for key, expected in self.known.items():
                assert found[key] is not None, f"page {key} is lost"
                assert found[key] in (expected, self.sequence % 16)


steps = st.lists(
    st.tuples(
        st.sampled_from(["pages", "record", "epoch"]),
        st.lists(st.sampled_from(KEYS), unique=True, min_size=1),
        st.none() | st.integers(0, 6),
    ),
    max_size=12,
)


@given(steps)
def test_whatever_is_cut_off_the_newest_that_was_recorded_is_read(
    steps: list[tuple[str, list[Key], int | None]],
) -> None:
    """Each step may be the last of a life: cut off after some blocks, the next one torn, then all is opened anew."""
    writer = Writer()
    for what, keys, torn_after in steps:
        writer.file.trouble.torn_after = torn_after
        if what == "pages":
            done = writer.pages(keys)
        else:
            done = writer.record(keys=keys, epoch=writer.epochs[1] + 1 if what == "epoch" else None)
        writer.file.trouble.torn_after = None
        writer.check()
        if not done:
            writer.reopen()


def test_a_new_copy_has_two_records_so_that_none_looks_damaged() -> None:
    """A start would otherwise ask for every plex, since the blank slot might have held something newer."""
    writer = Writer()
    assert not load(writer.file).image.torn


def test_a_torn_record_slot_is_made_good_by_the_next_commit() -> None:
    writer = Writer()
    writer.file.trouble.torn_after = len(KEYS)
    assert not writer.record(keys=KEYS)
    writer.reopen()
    assert load(writer.file).image.torn
    assert writer.record(keys=[])
    assert not load(writer.file).image.torn


def test_a_page_with_a_bad_slot_is_made_whole_by_one_write() -> None:
    writer = Writer()
    writer.pages([(1, 0)])
    newest = content(writer.file, (1, 0))
    slot = next(s for s in (0, 1) if (p := load(writer.file).image.pages[(1, 0)][s]) and p.sequence != writer.sequence)
    at = layout.page_offset(1, 0, slot, COLUMNS)
    writer.file.data[at] ^= 0xFF
    writer.reopen()
    assert content(writer.file, (1, 0)) == newest and (1, 0) in load(writer.file).image.damaged
    writer.file.trouble.writes.clear()
    writer.pages([(1, 0)])
    assert [offset for _, offset in writer.file.trouble.writes] == [at]
    assert load(writer.file).image.whole(Column(1, 1), 0)


def test_an_opening_writes_only_what_does_not_read_as_it_should() -> None:
    writer = Writer()
    same = [page(key, writer.sequence) for key in KEYS]
    writer.reopen()
    writer.file.trouble.writes.clear()
    assert writer.copy.due(same) == []
    writer.file.data[layout.page_offset(1, 0, 1, COLUMNS)] ^= 0xFF
    writer.reopen()
    call = writer.copy.write_pages(writer.copy.due(same))
    call.run()
    assert len(writer.file.trouble.writes) == 1, "the page reads well, and one more loss would be one too many"
    assert load(writer.file).image.whole(Column(1, 1), 0)


def test_the_same_bits_of_another_epoch_are_written_anew() -> None:
    """A reader takes a page only of the epoch that the record names."""
    writer = Writer()
    same = [page(key, writer.sequence, epoch=2) for key in KEYS]
    writer.reopen()
    assert writer.copy.due(same) == same


def test_neighbouring_pages_of_a_new_copy_go_in_one_write() -> None:
    writer = Writer()
    writes = [offset for _, offset in writer.file.trouble.writes]
    assert len([offset for offset in writes if offset >= 2 * layout.RECORD_SLOT_BYTES]) == PAGES


def test_everything_written_anew_by_a_join_is_read_back() -> None:
    writer = Writer()
    writer.pages([(0, 1)])
    pages = [page(key, 77, epoch=4) for key in KEYS]
    newer = record(30, epoch=4)
    newer = replace(newer, volumes=(replace(newer.volume, drl=Column(0, 4)),))
    rewrite(writer, pages, newer)
    writer.copy.rewritten()
    assert load(writer.file).image.record == newer
    assert {content(writer.file, key, 4) for key in KEYS} == {77 % 16}
    writer.copy.write_record(replace(newer, sequence=31)).run()
    assert load(writer.file).image.records[0] != load(writer.file).image.records[1], "the other slot was written"


@pytest.mark.parametrize("times", [0, 1, 2])
def test_after_a_join_that_left_a_page_alone_a_torn_write_does_not_cost_it(times: int) -> None:
    """The slot that reads is the one to keep, whichever it is."""
    writer = Writer()
    for _ in range(times):
        writer.pages([(1, 0)])
    writer.reopen()
    before = contents(load(writer.file), writer.epochs)
    writer.file.trouble.writes.clear()
    rewrite(writer, [page(key, sequence) for key, sequence in before.items() if sequence], record(30))
    assert len(writer.file.trouble.writes) == 1, "all pages read already as they should"
    writer.copy.rewritten()
    writer.file.trouble.torn_after = 0
    with suppress(OSError):
        writer.copy.write_pages([page((1, 0), 99)]).run()
    assert contents(load(writer.file), writer.epochs) == before


def test_a_commit_on_a_copy_with_two_good_records_leaves_the_one_before() -> None:
    writer = Writer()
    writer.reopen()
    assert writer.record(keys=[])
    records = [each.sequence for each in load(writer.file).image.records if each is not None]
    assert sorted(records) == [writer.recorded - 1, writer.recorded]


@pytest.mark.parametrize("blocks", range(6))
def test_a_join_cut_off_leaves_the_old_record_or_all_of_the_new(blocks: int) -> None:
    writer = Writer()
    pages = [page(key, 77) for key in KEYS]
    writer.file.trouble.torn_after = 2 * blocks
    with suppress(OSError):
        rewrite(writer, pages, record(30))
    found = load(writer.file).image.record
    assert found is not None
    if found.sequence == 30:
        assert {content(writer.file, key) for key in KEYS} == {77 % 16}
    else:
        assert found.sequence == 1


def test_a_join_cut_off_tells_what_the_plex_may_differ_by_in_its_log_or_in_its_map() -> None:
    """Another host, that the plex parted from, reads the copy with the record that lies there."""
    dirt, clean = frozenbitarray("1111"), frozenbitarray("0000")
    for done in range(100):
        writer = Writer()
        rewrite(writer, [PageWrite(*key, 1, 5, dirt if key[0] == 0 else clean) for key in KEYS], record(2))
        cut = CutDco(writer.file, done)
        writer.reopen()
        writer.copy.file = cut
        rewrite(writer, [PageWrite(*key, 1, 6, clean if key[0] == 0 else dirt) for key in KEYS], record(30))
        image = load(writer.file).image
        for number in range(PAGES):
            log, missed = (image.newest(Column(column, 1), number) for column in (0, 1))
            assert log is None or missed is None or (log.bits | missed.bits).all(), f"after {done} blocks"
        if not cut.blocks_left < 0:
            break
    assert done > 2 * PAGES


class CutDco:
    """It writes so many blocks to a file, and then no more."""

    def __init__(self, file: MemoryDco, blocks: int) -> None:
        self.file = file
        self.blocks_left = blocks

    def write(self, offset: int, data: bytes) -> None:
        for at in range(0, len(data), DCO_BLOCK_BYTES):
            self.blocks_left -= 1
            if self.blocks_left >= 0:
                self.file.write(offset + at, data[at : at + DCO_BLOCK_BYTES])


def test_what_is_read_tells_what_to_write_next() -> None:
    writer = Writer()
    writer.pages([(0, 0)])
    loaded = load(writer.file)
    assert loaded.page_sequence == writer.sequence == 2 and loaded.next_epoch == 2
    assert loaded.image.owner == layout.HOME
    assert set(loaded.there) == set(KEYS) == set(loaded.sound)


def test_a_copy_without_a_valid_record_tells_nothing() -> None:
    file = new_file()
    assert load(file).image.record is None
    file.data[: 2 * layout.RECORD_SLOT_BYTES] = b"\xaa" * (2 * layout.RECORD_SLOT_BYTES)
    assert load(file).image.record is None and load(file).image.torn


def test_a_copy_of_which_both_records_are_damaged_still_says_whose_it_is() -> None:
    file = new_file()
    DcoCopy("copy", file, Lane("copy"), FAMILY, Rows(COLUMNS), OWNER).write_record(record(1)).run()
    for slot in (0, 1):
        file.data[layout.record_offset(slot) + layout.HEADER_BYTES] ^= 0xFF
    image = load(file).image
    assert image.record is None and image.names(FAMILY, OWNER) and not image.names(FAMILY, layout.HOME)
    assert load(new_file()).image.claims == frozenset(), "a blank one is nobody's"


@pytest.mark.parametrize("slot", [0, 1])
def test_pages_of_which_one_slot_alone_is_different_are_different_pages(slot: int) -> None:
    """What most pages have in common is kept once; the other slot of each was never written."""
    writer = Writer()
    for column, text in enumerate(("1000", "0100")):
        offset = layout.page_offset(column, 0, 0, COLUMNS)
        writer.file.data[offset : offset + 2 * DCO_BLOCK_BYTES] = bytes(2 * DCO_BLOCK_BYTES)
        data = layout.encode_page(FAMILY, column, 0, slot, 1, 9, frozenbitarray(text))
        writer.file.write(layout.page_offset(column, 0, slot, COLUMNS), data)
    assert [content(writer.file, (column, 0)) for column in (0, 1)] == [0b1000, 0b0100]


def test_a_slot_of_an_epoch_that_was_never_recorded_is_the_one_to_write_over() -> None:
    recorded, later = PageSlot(1, 5, frozenbitarray("1")), PageSlot(2, 6, frozenbitarray("0"))
    assert slot_to_keep((recorded, later), 1) == 0 and slot_to_keep((later, recorded), 1) == 1
    assert slot_to_keep((recorded, later), 2) == 1 and slot_to_keep((recorded, later), 3) == 1
    assert slot_to_keep((None, later), 1) == 1 and slot_to_keep((recorded, None), 2) == 0
