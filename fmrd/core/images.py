"""An image is what was read from a copy of a DCO; a page is made out of several of them (PROTOCOLS, "Pages"; rule 8).

Doubt is dirt: what no copy can tell for certain reads as all ones, page by page.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bitarray import bitarray, frozenbitarray
from bitarray.util import ones, zeros

from fmrd.core.record import Record
from fmrd.core.records.parts import Column


@dataclass(frozen=True)
class PageSlot:
    """This is a slot of a page that was verified: its epoch, the sequence that orders writes of it, and its bits."""

    epoch: int
    sequence: int
    bits: frozenbitarray


@dataclass(frozen=True)
class CopyImage:
    """An image is one copy of the DCO as it was found. A slot that could not be verified is None."""

    records: tuple[Record | None, Record | None]
    pages: Mapping[tuple[int, int], tuple[PageSlot | None, PageSlot | None]] = field(default_factory=dict)
    """By (column, page number)."""
    damaged: frozenset[tuple[int, int]] = frozenset()
    """Pages with a slot that was written and cannot be verified (a blank slot is not damaged)."""
    owner: str = ""
    """The uuid of the plex that this copy was written for."""
    claims: frozenset[tuple[str, str]] = frozenset()
    """(family, owner) as the headers of the record slots have them, though the record behind may be damaged."""

    @property
    def record(self) -> Record | None:
        """Return the newest valid record, or None."""
        valid = [r for r in self.records if r is not None]
        return max(valid, key=lambda r: r.sequence, default=None)

    @property
    def torn(self) -> bool:
        """Tell whether one of the two record slots cannot be read: it may have held a newer record."""
        return None in self.records

    def names(self, family: str, plex_uuid: str) -> bool:
        """Is this the copy of that plex? A record that can be read says so; of a damaged one, what is left of its
        header: two uuids are nowhere by chance.
        """
        record = self.record
        if record is not None:
            return record.family == family and self.owner == plex_uuid
        return (family, plex_uuid) in self.claims

    def newest(self, column: Column, page: int) -> PageSlot | None:
        """Return the newest valid slot of a page that carries the column's epoch; pages of others do not count."""
        slots = [s for s in self.pages.get((column.index, page), ()) if s is not None and s.epoch == column.epoch]
        return max(slots, key=lambda s: s.sequence, default=None)

    def whole(self, column: Column, page: int) -> bool:
        """Tell whether both slots of the page are valid, of whatever epoch: then the newest was surely written last."""
        return None not in self.pages.get((column.index, page), (None, None))


def read_page(
    column: Column, page: int, size: int, home: CopyImage, others: Sequence[CopyImage], *, settled: bool
) -> tuple[bitarray, bool]:
    """Return (the ``size`` bits of a page, whether they had to be taken as all ones). ``others`` are the on-line copies
    that the home copy names open: what they have newer was being written when the crash came, and is joined.
    ``settled`` says that the volume was stopped in order.
    """
    newest = home.newest(column, page)
    if home.whole(column, page):
        if newest is None:
            return ones(size), True
        bits = fitted(newest.bits, size)
        for slot in (other.newest(column, page) for other in others):
            if slot is not None and is_newer(slot, newest):
                bits |= fitted(slot.bits, size)
        return bits, False
    copies = [home, *others]
    found = [slot for slot in (c.newest(column, page) for c in copies) if slot is not None]
    if not found:
        return ones(size), True
    if any(c.whole(column, page) and c.newest(column, page) is not None for c in copies):
        bits = fitted(found[0].bits, size)
        for slot in found[1:]:
            bits |= fitted(slot.bits, size)
        return bits, False
    if settled:
        return ones(size), True
    return fitted(max(found, key=lambda slot: slot.sequence).bits, size), False


def ahead(columns: Iterable[Column], home: CopyImage, other: CopyImage) -> set[int]:
    """The sequences of what ``other`` holds newer than the home copy, and other than it: of both slots of each page,
    for of these the older one was written when the home copy had all before it.
    """
    recorded = {column.index: column for column in columns}
    found: set[int] = set()
    for (index, page), slots in other.pages.items():
        column = recorded.get(index)
        ours = home.newest(column, page) if column is not None else None
        if column is None or ours is None or not home.whole(column, page):
            continue
        for slot in slots:
            if slot is not None and slot.epoch == column.epoch and is_newer(slot, ours) and slot.bits != ours.bits:
                found.add(slot.sequence)
    return found


def is_newer(slot: PageSlot, other: PageSlot) -> bool:
    """Of one page and one epoch."""
    return slot.sequence > other.sequence


def fitted(bits: frozenbitarray, size: int) -> bitarray:
    """Return the bits cut or extended to ``size``; what lies beyond the stored bits is in doubt, so ones."""
    if len(bits) >= size:
        return bitarray(bits[:size])
    return bitarray(bits) + ones(size - len(bits))


def read_bitmap(
    column: Column, size: int, page_bits: int, home: CopyImage, others: Sequence[CopyImage], *, settled: bool
) -> tuple[bitarray, int]:
    """Return (the ``size`` bits of a bitmap, how many of its pages had to be taken as all ones)."""
    bits = bitarray()
    lost = 0
    for page, start in enumerate(range(0, size, page_bits)):
        part, doubtful = read_page(column, page, min(page_bits, size - start), home, others, settled=settled)
        bits += part
        lost += doubtful
    return bits, lost


def drl_union(column: Column, size: int, page_bits: int, home: CopyImage, others: Sequence[CopyImage], *,
              settled: bool) -> bitarray:  # fmt: skip
    """Return the home copy's DRL, ORed with what each on-line copy says alone: a mark that any of them has counts."""
    bits, _ = read_bitmap(column, size, page_bits, home, others, settled=settled)
    for other in others:
        bits |= own_bitmap(column, size, page_bits, other)
    return bits


def own_bitmap(column: Column, size: int, page_bits: int, image: CopyImage) -> bitarray:
    """Return a bitmap as one copy alone tells it. A page it never had says nothing; one it had and lost, all ones."""
    bits = zeros(size)
    for page, start in enumerate(range(0, size, page_bits)):
        width = min(page_bits, size - start)
        slot = image.newest(column, page)
        if slot is None:
            bits[start : start + width] = (column.index, page) in image.damaged
        elif slot.bits.any() or len(slot.bits) < width:
            bits[start : start + width] = fitted(slot.bits, width)
    return bits
