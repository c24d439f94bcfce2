"""This reads a copy of the DCO whole: what each slot holds, which to trust, and which to keep."""

from collections.abc import Sequence
from dataclasses import dataclass

from fmrd.backing.protocol import DCO_BLOCK_BYTES, DcoFile
from fmrd.core.images import CopyImage, PageSlot
from fmrd.core.record import Record, geometry_of
from fmrd.dco import layout

Key = tuple[int, int]
"""(column, page number)."""


@dataclass(frozen=True)
class Loaded:
    """This is a copy as it was read: its image, and its slots."""

    image: CopyImage
    record_slot: int
    keep: dict[Key, int]
    sound: frozenset[Key]
    page_sequence: int
    """The highest sequence of any valid page slot."""
    next_epoch: int
    """Above any epoch seen in a page."""


def load(file: DcoFile) -> Loaded:
    """Read a copy whole; this blocks. A slot in doubt is None; OSError and Refused('dco_feature') fly through."""
    slots: list[layout.RecordSlot | None] = []
    claims: set[tuple[str, str]] = set()
    for slot in (0, 1):
        data = file.read(layout.record_offset(slot), layout.RECORD_SLOT_BYTES)
        claims |= {claim for claim in (layout.claimed(data),) if claim is not None}
        try:
            slots.append(layout.decode_record(data, slot))
        except layout.Damaged:
            slots.append(None)
    records = [s.record if s is not None else None for s in slots]
    owner = next((s.owner for s in slots if s is not None), "")
    image = CopyImage((records[0], records[1]), owner=owner, claims=frozenset(claims))
    if (newest := image.record) is None:
        return Loaded(image, 1, {}, frozenset(), 0, 0)
    return _load_pages(file, image, newest)


def _load_pages(file: DcoFile, image: CopyImage, record: Record) -> Loaded:
    pages: dict[Key, tuple[PageSlot | None, PageSlot | None]] = {}
    keep: dict[Key, int] = {}
    sound: set[Key] = set()
    damaged: set[Key] = set()
    highest = epoch = 0
    for volume in record.volumes:
        columns = sorted(record.columns_of(volume), key=lambda c: c.index)
        for page in range(geometry_of(volume).pages):
            first = layout.page_offset(columns[0].index, page, 0, record.columns)
            stop = layout.page_offset(columns[-1].index, page, 1, record.columns) + DCO_BLOCK_BYTES
            stripe = file.read(first, stop - first)
            for column in columns:
                key = (column.index, page)
                slots: list[PageSlot | None] = []
                for slot in (0, 1):
                    at = layout.page_offset(column.index, page, slot, record.columns) - first
                    block = stripe[at : at + DCO_BLOCK_BYTES]
                    try:
                        found = layout.decode_page(block, record.family, column.index, page, slot)
                    except layout.Damaged as problem:
                        slots.append(None)
                        if not isinstance(problem, layout.Blank):
                            damaged.add(key)
                    else:
                        slots.append(found)
                        highest = max(highest, found.sequence)
                        epoch = max(epoch, found.epoch)
                pages[key] = (slots[0], slots[1])
                keep[key] = slot_to_keep(slots, column.epoch)
                if slots[keep[key]] is not None:
                    sound.add(key)
    full = CopyImage(image.records, pages, frozenset(damaged), image.owner, image.claims)
    slot = 0 if image.records[0] is record else 1
    return Loaded(full, slot, keep, frozenset(sound), highest, epoch + 1)


def slot_to_keep(slots: Sequence[PageSlot | None], epoch: int) -> int:
    """Return the newest valid slot of the recorded epoch; without one, the newest valid slot; without any, either."""

    def rank(slot: int) -> tuple[bool, bool, int]:
        found = slots[slot]
        return found is not None, found is not None and found.epoch == epoch, found.sequence if found else 0

    return max((0, 1), key=rank)
