"""This is one copy of the DCO, open: which slots must be kept, and the system calls that read and write it.

The rule of two slots: what is written goes to the slot that does not hold the newest content of the *recorded* epoch,
so a torn write, or a commit that never lands, costs nothing. The choice flips only when the write has ended well.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from weakref import ReferenceType, ref

from bitarray import frozenbitarray

from fmrd.backing.calls.system_calls import Call, Lane
from fmrd.backing.protocol import DCO_BLOCK_BYTES, DcoFile
from fmrd.core.images import PageSlot
from fmrd.core.record import Record
from fmrd.core.records.rows import Rows
from fmrd.dco import layout
from fmrd.dco.loading import Loaded, slot_to_keep
from fmrd.dco.page_set import Key, PageSet
from fmrd.dco.rows.places import is_fixed, offset_of, size_of


@dataclass(frozen=True, slots=True)
class PageWrite:
    """This is the content of one page, to be written to every copy."""

    column: int
    page: int
    epoch: int
    sequence: int
    bits: frozenbitarray

    @property
    def key(self) -> Key:
        return self.column, self.page


Write = tuple[int, list[tuple[PageWrite, int]]]
"""Where, and which slots of which pages lie there one behind the other."""
PAGES = 128
"""So many are written with the time of one call; others get their turn between two such steps."""


class DcoCopy:
    """A copy is a DcoFile and what is known of its slots. ``name`` is 'home' or the plex's; what blocks is a Call."""

    def __init__(self, name: str, file: DcoFile, lane: Lane, family: str, rows: Rows, owner: str = layout.HOME) -> None:
        self.name = name
        self.file = file
        self.lane = lane
        self.family = family
        self.rows = rows
        """Shared by all copies of the family, and with the family."""
        self.owner = owner
        self.broken = False
        """A write of it failed: it is written no more before it was made anew by a join or an opening."""
        self.touched: set[int] = set()
        """Columns of which any page was written since."""
        self._begun_with: ReferenceType[Loaded] | None = None
        self._record_keep = 1
        self._record_sound = False
        """The record slot to keep is valid, so that a write of the other one makes both valid."""
        self._there = PageSet()
        """Pages that are not blank, as far as that is known."""
        self._keep_first = PageSet()
        """Pages of which slot 0 is the one to keep; of all others it is slot 1."""
        self._sound = PageSet()
        """Pages of whose slots the one to keep is valid."""
        self._found: dict[Key, tuple[PageSlot | None, PageSlot | None]] = {}
        """What lay there when it was read, until it is written."""
        self._rewriting = PageSet(), PageSet()
        """The pages, and those of which slot 0 is to be kept, once a rewrite has ended."""

    def adopt(self, loaded: Loaded) -> None:
        """Take over what was found when the copy was read."""
        self._record_keep = loaded.record_slot
        self._record_sound = loaded.image.record is not None
        self._begun_with = ref(loaded)
        known = self.rows.total  # beyond, other rows may come than that copy had
        self._there = loaded.there.up_to(known)
        self._keep_first = loaded.keep_first.up_to(known)
        self._sound = loaded.sound.up_to(known)
        self._found = {key: slots for key, slots in loaded.image.pages.items() if key[0] < known}

    @property
    def begun_with(self) -> Loaded | None:
        """Return what was adopted, as long as somebody has that."""
        return self._begun_with() if self._begun_with is not None else None

    def due(self, pages: Sequence[PageWrite]) -> list[PageWrite]:
        """Return the pages that do not read already as they should: at an opening few are left."""
        return [page for page in pages if self._slot_with(page) is None]

    def write_pages(self, pages: Sequence[PageWrite], asked: Sequence[PageWrite] = ()) -> Call:
        """Return one call that writes them all. A page without a valid slot gets both, one after the other; one that
        was never written, both at once.
        """
        writes: list[Write] = []
        fresh = []
        self.touched.update(page.column for page in pages)
        for page in [*asked, *pages]:  # also of those that are not due: later they are written whatever they hold
            self._found.pop(page.key, None)
        for page in pages:
            if page.key not in self._there:
                fresh.append(page)
                continue
            slot = 1 if page.key in self._keep_first else 0
            slots = (slot,) if page.key in self._sound else (slot, 1 - slot)
            for each in slots:
                offset = offset_of(self.rows, page.column, page.page, each)
                writes.append((offset, [(page, each)]))
        writes += self._both_slots(fresh)
        return Call(self.lane, partial(self._write, writes), again=True)

    def pages_written(self, pages: Iterable[PageWrite], committed: dict[int, int]) -> None:
        """They ended well. ``committed`` is the epoch of each column in the last record on home: a page of a later
        epoch does not displace the recorded one yet.
        """
        self._sound.update(page.key for page in pages)
        self._flip(PageSet(page.key for page in pages if committed.get(page.column) == page.epoch))

    def epochs_committed(self, keys: PageSet) -> None:
        """A record that changed the epoch of these pages' columns has landed: the new slots are the ones to keep."""
        self._flip(keys)

    def _flip(self, keys: PageSet) -> None:
        self._there |= keys
        self._keep_first ^= keys

    def write_record(self, record: Record) -> Call:
        """Return a call that writes to the slot that does not hold the last record; on a new copy to both, or the blank
        one would be taken for a damaged one that may have held a newer record.
        """
        slot = 1 - self._record_keep
        slots = (slot,) if self._record_sound else (slot, 1 - slot)
        writes = [(layout.record_offset(each), layout.encode_record(record, each, self.owner)) for each in slots]
        return Call(self.lane, partial(self._write, (), writes), again=True)

    def record_written(self) -> None:
        """The record ended well: its slot is the one to keep now."""
        self._record_keep = 1 - self._record_keep
        self._record_sound = True

    def rewrite(self, pages: Iterable[PageWrite], record: Record) -> list[Call]:
        """Return calls that write everything anew, in this order: both slots of each page, then the record. It looks at
        every page, so a thread does it, while nobody else writes to this copy: with it they are all known. The logs
        come after all maps, which have gained what the plex's own log told: where this is cut off, a host that the plex
        parted from goes by the older record here, and needs one of the two. Neighbouring columns go in one write, since
        a durable write of 64 KiB costs no more than of 4; a page that reads already as it should is left alone, or a
        join would cost as much as the volume is long.
        """
        logs, due = {volume.drl.index for volume in record.volumes}, []
        there, keep_first = self._rewriting = PageSet(), PageSet()
        for page in pages:
            slot = self._slot_with(page)
            there.add(page.key)
            if slot != 1:
                keep_first.add(page.key)
            if slot is None:
                due.append(page)
        writes = self._both_slots([page for page in due if page.column not in logs])
        writes += self._both_slots([page for page in due if page.column in logs])
        slot = 1 - self._record_keep
        last = [(layout.record_offset(slot), layout.encode_record(record, slot, self.owner))]
        parts = [writes[at : at + PAGES] for at in range(0, len(writes), PAGES)] or [[]]
        calls = [Call(self.lane, partial(self._write, part), again=True) for part in parts[:-1]]
        return [*calls, Call(self.lane, partial(self._write, parts[-1], last), again=True)]

    def _both_slots(self, pages: Sequence[PageWrite]) -> list[Write]:
        """Both slots of each page, those of neighbouring columns together."""
        writes: list[Write] = []
        for page in sorted(pages, key=lambda p: (p.page, p.column)):
            offset = offset_of(self.rows, page.column, page.page, 0)
            both = [(page, 0), (page, 1)]
            if writes and writes[-1][0] + len(writes[-1][1]) * DCO_BLOCK_BYTES == offset:
                writes[-1][1].extend(both)
            else:
                writes.append((offset, both))
        return writes

    def _write(self, writes: Sequence[Write], records: Sequence[tuple[int, bytes]] = ()) -> None:
        """On a worker thread, which also makes the bytes of the pages: there may be thousands."""
        if self.rows.runs:
            end = max((offset + len(slots) * DCO_BLOCK_BYTES for offset, slots in writes), default=0)
            if end > self.file.length and not is_fixed(self.file):
                self.file.reserve(size_of(self.rows, 0), ())  # its volume had no column there so far
        for offset, slots in writes:
            self.file.write(offset, b"".join(self._encode(page, slot) for page, slot in slots))
        for offset, data in records:
            self.file.write(offset, data)

    def rewritten(self) -> None:
        """All calls of a rewrite ended well."""
        self.record_written()
        self._there, self._keep_first = self._rewriting
        self._sound, self._rewriting = self._there.copy(), (PageSet(), PageSet())
        self._found = {}
        self.broken = False

    def _slot_with(self, page: PageWrite) -> int | None:
        """Return the slot that a reader of this page would take, if it holds that content already and the other slot is
        sound too (a damaged one would make the reader doubt both).
        """
        slots = self._found.get(page.key)
        if slots is None or None in slots:
            return None
        keep = slot_to_keep(slots, page.epoch)
        found = slots[keep]
        same = found is not None and found.epoch == page.epoch and found.bits == page.bits
        return keep if same else None

    def _encode(self, page: PageWrite, slot: int) -> bytes:
        return layout.encode_page(self.family, page.column, page.page, slot, page.epoch, page.sequence, page.bits)
