"""This reads a copy of the DCO whole: what each slot holds, which to trust, and which to keep."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from fmrd.backing.protocol import DCO_BLOCK_BYTES, DcoFile
from fmrd.core.images import CopyImage, PageSlot
from fmrd.core.record import Record, VolumeRecord, geometry_of
from fmrd.core.records.parts import Column
from fmrd.dco import layout
from fmrd.dco.page_set import Key, PageSet
from fmrd.dco.rows.places import offset_of

CALL_BYTES = 1 << 20
"""One call reads so much at most,"""
GAP_BYTES = 64 << 10
"""and over so much that nobody asked for: a disk that takes some ms a call reads on meanwhile."""


@dataclass(frozen=True)
class Loaded:
    """This is a copy as it was read: its image, and its slots."""

    image: CopyImage
    record_slot: int
    there: PageSet
    """The pages that it has room for, written or not,"""
    keep_first: PageSet
    """those of them of which slot 0 is the one to keep,"""
    sound: PageSet
    """and those of which the slot to keep is valid."""
    page_sequence: int
    """The highest sequence of any valid page slot."""
    next_epoch: int
    """Above any epoch seen in a page."""


class Reading:
    """A copy that is being read, some calls at a time: each of them may take as long as a disk may, and all together
    much longer. It blocks; OSError and Refused('dco_feature') fly through. A slot in doubt is None.
    """

    def __init__(self, file: DcoFile, volume: str | None = None) -> None:
        """``volume``: the uuid of the one whose pages are needed, besides those of the plex that the copy travels with;
        None: all of the family. Of a large family most are other volumes'.
        """
        self._steps = _read(file, volume)

    def go_on(self, calls: int) -> Loaded | None:
        """Read with at most so many calls; None where there is more to be read."""
        for _ in range(calls):
            try:
                next(self._steps)
            except StopIteration as ended:
                loaded: Loaded = ended.value
                return loaded
        return None


def load(file: DcoFile) -> Loaded:
    """Read a copy whole, however long that takes."""
    reading = Reading(file)
    while (loaded := reading.go_on(1)) is None:
        pass
    return loaded


def _read(file: DcoFile, volume: str | None) -> Generator[None, None, Loaded]:
    """Yields after each call."""
    slots: list[layout.RecordSlot | None] = []
    claims: set[tuple[str, str]] = set()
    for slot in (0, 1):
        data = file.read(layout.record_offset(slot), layout.RECORD_SLOT_BYTES)
        claims |= {claim for claim in (layout.claimed(data),) if claim is not None}
        try:
            slots.append(layout.decode_record(data, slot))
        except layout.Damaged:
            slots.append(None)
        yield
    records = [s.record if s is not None else None for s in slots]
    owner = next((s.owner for s in slots if s is not None), "")
    image = CopyImage((records[0], records[1]), owner=owner, claims=frozenset(claims))
    if (newest := image.record) is None:
        return Loaded(image, 1, PageSet(), PageSet(), PageSet(), 0, 0)
    pages = _Pages(newest)
    wanted = [v for v in newest.volumes if volume in (None, v.uuid) or v.plex(owner) is not None]
    for stripes in _together(_stripes(newest, wanted, file.length)):
        first, stop = stripes[0].start, max(stripe.stop for stripe in stripes)
        there = max(0, min(stop, file.length) - first)
        data = file.read(first, there).ljust(stop - first, b"\0")
        for stripe in stripes:
            pages.take(stripe, memoryview(data)[stripe.start - first : stripe.stop - first])
        yield
    full = CopyImage(image.records, pages.found, frozenset(pages.damaged), image.owner, image.claims)
    slot = 0 if image.records[0] is newest else 1
    return Loaded(full, slot, pages.there, pages.keep_first, pages.sound, pages.highest, pages.epoch + 1)


@dataclass(frozen=True)
class _Stripe:
    """The pages of one number of one volume's columns, by the bytes of the copy that hold them."""

    start: int
    stop: int
    page: int
    columns: Sequence[Column]


def _stripes(record: Record, wanted: Sequence[VolumeRecord], length: int) -> Iterator[_Stripe]:
    """In the order in which they lie. A page that begins behind the end of the copy was never written."""
    rows = record.rows
    volumes = [(geometry_of(v).pages, sorted(record.columns_of(v), key=lambda c: c.index)) for v in wanted]
    banks = [
        [(pages, own) for pages, every in volumes if (own := [c for c in every if c.index // rows.columns == bank])]
        for bank in range(rows.banks)
    ]
    for bank, numbers in rows.in_order(record.pages):
        for page in numbers:
            here: list[_Stripe] = []
            for pages, columns in banks[bank]:
                if page < pages:
                    start = offset_of(rows, columns[0].index, page, 0)
                    stop = offset_of(rows, columns[-1].index, page, 1) + DCO_BLOCK_BYTES
                    here.append(_Stripe(start, stop, page, columns))
            if here and min(stripe.start for stripe in here) >= length:
                return
            yield from sorted(here, key=lambda stripe: stripe.start)


def _together(stripes: Iterable[_Stripe]) -> Iterator[list[_Stripe]]:
    """Those that one call reads: what lies between them costs less than another call. Those of two volumes may lie
    across each other.
    """
    group: list[_Stripe] = []
    end = 0
    for stripe in stripes:
        if group and (stripe.start - end > GAP_BYTES or stripe.stop - group[0].start > CALL_BYTES):
            yield group
            group = []
        group.append(stripe)
        end = max(end, stripe.stop)
    if group:
        yield group


class _Pages:
    """What the page slots of a copy hold."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._rows = record.rows
        self.found: dict[Key, tuple[PageSlot | None, PageSlot | None]] = {}
        self.there, self.keep_first, self.sound = PageSet(), PageSet(), PageSet()
        self.damaged: set[Key] = set()
        self.highest = 0
        self.epoch = 0
        self._pair: tuple[PageSlot | None, PageSlot | None] = (None, None)
        """The last one: most pages have the same."""

    def take(self, stripe: _Stripe, data: memoryview) -> None:
        record = self._record
        for column in stripe.columns:
            key = (column.index, stripe.page)
            slots: list[PageSlot | None] = []
            for slot in (0, 1):
                at = offset_of(self._rows, column.index, stripe.page, slot) - stripe.start
                block = bytes(data[at : at + DCO_BLOCK_BYTES])
                try:
                    found = layout.decode_page(block, record.family, column.index, stripe.page, slot)
                except layout.Damaged as problem:
                    slots.append(None)
                    if not isinstance(problem, layout.Blank):
                        self.damaged.add(key)
                else:
                    slots.append(found)
                    self.highest = max(self.highest, found.sequence)
                    self.epoch = max(self.epoch, found.epoch)
            if slots[0] is not self._pair[0] or slots[1] is not self._pair[1]:
                self._pair = slots[0], slots[1]
            self.found[key] = self._pair
            keep = slot_to_keep(slots, column.epoch)
            self.there.add(key)
            if keep == 0:
                self.keep_first.add(key)
            if slots[keep] is not None:
                self.sound.add(key)


def slot_to_keep(slots: Sequence[PageSlot | None], epoch: int) -> int:
    """Return the newest valid slot of the recorded epoch; without one, the newest valid slot; without any, either."""

    def rank(slot: int) -> tuple[bool, bool, int]:
        found = slots[slot]
        return found is not None, found is not None and found.epoch == epoch, found.sequence if found else 0

    return max((0, 1), key=rank)
