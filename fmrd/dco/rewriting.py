"""A copy of the DCO is written anew here, as the last step of a join, or after it failed (PROTOCOLS, "Join")."""

from collections.abc import Iterable, Iterator
from functools import partial

import trio
from bitarray import frozenbitarray

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.core.record import Record
from fmrd.core.records.parts import Column
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco.copy import PAGES, DcoCopy, PageWrite
from fmrd.dco.ledger import Ledger
from fmrd.errors import Failed


async def rewrite(
    ledger: Ledger, volume: Volume, plex: Plex, copy: DcoCopy, record: Record, timeout_seconds: float
) -> None:
    """Write all that the home copy holds of this volume onto one copy; the caller has both locks. Failed('io_error')
    where the copy cannot be written.
    """
    sequence = ledger.next_page_sequence()
    contents: list[tuple[Column, list[frozenbitarray]]] = []
    on_home, count = volume.page_on_home, volume.geometry.pages
    for c in volume.columns():
        contents.append((c, []))
        for part in (range(count)[at : at + 8 * PAGES] for at in range(0, count, 8 * PAGES)):
            contents[-1][1].extend(on_home(c.index, page) for page in part)
            if count > PAGES:
                await trio.lowlevel.checkpoint()
    plan = partial(copy.rewrite, _writes(contents, sequence), record)
    for call in plan() if count <= PAGES else await ask(ledger.system, Lane(plex.name), plan, float("inf")):
        [outcome] = await ledger.system.at_once([call], timeout_seconds)
        if outcome.error is not None:
            raise Failed("io_error", f"plex {plex.name}: its copy of the DCO cannot be written: {outcome.error}")
    copy.rewritten()
    plex.has = record.position


def _writes(contents: Iterable[tuple[Column, Iterable[frozenbitarray]]], sequence: int) -> Iterator[PageWrite]:
    """One at a time, as they are looked at, by a thread: few of them are due, and Python's collector visits each."""
    for column, pages in contents:
        for page, bits in enumerate(pages):
            yield PageWrite(column.index, page, column.epoch, sequence, bits)
