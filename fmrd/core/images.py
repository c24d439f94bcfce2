"""What was read from the copies of a DCO, and how a page is made out of it (PROTOCOLS, "Pages"; rule 8)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bitarray import bitarray, frozenbitarray
from bitarray.util import ones, zeros

from fmrd.core.record import Column, Record


@dataclass(frozen=True)
class PageSlot:
    """A valid slot of a page."""

    epoch: int
    sequence: int
    bits: frozenbitarray


@dataclass(frozen=True)
class CopyImage:
    """One copy of the DCO as found. A slot that could not be verified is None."""

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
        """The newest valid record."""
        valid = [r for r in self.records if r is not None]
        return max(valid, key=lambda r: r.sequence, default=None)

    @property
    def torn(self) -> bool:
        """One of the two record slots cannot be read."""
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
        slots = [s for s in self.pages.get((column.index, page), ()) if s is not None and s.epoch == column.epoch]
        return max(slots, key=lambda s: s.sequence, default=None)

    def whole(self, column: Column, page: int) -> bool:
        """Are both slots of the page valid (of whatever epoch), so that the newest one is surely the last written?"""
        return None not in self.pages.get((column.index, page), (None, None))


def read_page(
    column: Column, page: int, size: int, home: CopyImage, others: Sequence[CopyImage], *, settled: bool
) -> tuple[bitarray, bool]:
    """(the ``size`` bits of a page, whether they had to be taken as all ones). ``others``: on-line copies that the
    home copy names open.
    """
    newest = home.newest(column, page)
    if home.whole(column, page):
        return (fitted(newest.bits, size), False) if newest else (ones(size), True)
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


def fitted(bits: frozenbitarray, size: int) -> bitarray:
    """Cut to ``size``; what is beyond the stored bits is in doubt."""
    if len(bits) >= size:
        return bitarray(bits[:size])
    return bitarray(bits) + ones(size - len(bits))


def read_bitmap(
    column: Column, size: int, page_bits: int, home: CopyImage, others: Sequence[CopyImage], *, settled: bool
) -> tuple[bitarray, int]:
    """(a whole bitmap, how many of its pages were lost)."""
    bits = bitarray()
    lost = 0
    for page, start in enumerate(range(0, size, page_bits)):
        part, doubtful = read_page(column, page, min(page_bits, size - start), home, others, settled=settled)
        bits += part
        lost += doubtful
    return bits, lost


def drl_union(column: Column, size: int, page_bits: int, home: CopyImage, others: Sequence[CopyImage], *,
              settled: bool) -> bitarray:  # fmt: skip
    """The home copy's DRL, ORed with the on-line copies' own."""
    bits, _ = read_bitmap(column, size, page_bits, home, others, settled=settled)
    for other in others:
        bits |= own_bitmap(column, size, page_bits, other)
    return bits


def own_bitmap(column: Column, size: int, page_bits: int, image: CopyImage) -> bitarray:
    """A bitmap as one copy alone tells it. A page it never had says nothing; one it had and lost, all ones."""
    bits = bitarray()
    for page, start in enumerate(range(0, size, page_bits)):
        width = min(page_bits, size - start)
        slot = image.newest(column, page)
        if slot is not None:
            bits += fitted(slot.bits, width)
        else:
            bits += ones(width) if (column.index, page) in image.damaged else zeros(width)
    return bits
