"""A store has the pages of one volume and the copies that travel with its plexes (PROTOCOLS, "H first", "Waiting").

Page writes are batched: whoever holds the page lock writes for all who asked by then, so marks under load share one
durable write, and the writes of one page are serial. Records are the ledger's (ledger.py).

The copies of a snapshot's plexes are written *apart*: its pages before a commit takes the family's lock and its record
after, so that a snapshot whose disk hangs never holds its original.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import trio

from fmrd.core.record import Record
from fmrd.core.volume.family import Family
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco.copy import PAGES, DcoCopy, PageWrite
from fmrd.dco.group_commit import Batch, GroupCommit
from fmrd.dco.ledger import Ledger, open_in
from fmrd.dco.page_set import Key, PageSet
from fmrd.dco.rewriting import rewrite
from fmrd.errors import FmrdError


@dataclass
class _Pages(Batch):
    keys: PageSet = field(default_factory=PageSet)


class CarriesDco(Protocol):
    """This is a plex that is open, as far as a store knows it."""

    @property
    def dco_copy(self) -> DcoCopy:
        """Return the copy that travels with it."""


class Store:
    """A store is the DCO of one started volume. ``opened`` has its open plexes by uuid, as whoever opens and closes
    them keeps them; ``failed`` is told of each copy that failed, in the step that demoted its plex.
    """

    def __init__(
        self, ledger: Ledger, volume: Volume, opened: Mapping[str, CarriesDco], *, timeout_seconds: float,
        failed: Callable[[Plex, str], None],
    ) -> None:  # fmt: skip
        self.ledger = ledger
        self.volume = volume
        self.opened = opened
        self.timeout_seconds = timeout_seconds
        self.pages = GroupCommit(_Pages)
        self._owed: PageSet | None = None
        """What the home copy did not take when it was written last, and the others may hold; None: not known yet."""
        self._failed = failed
        self._record_lock = trio.Lock()
        ledger.stores[volume.settings.uuid] = self

    @property
    def family(self) -> Family:
        return self.ledger.family

    @property
    def home(self) -> DcoCopy:
        return self.ledger.home

    @property
    def page_lock(self) -> trio.Lock:
        """Return the lock that makes the writes of one page serial."""
        return self.pages.lock

    # Pages

    async def write_pages(self, keys: Iterable[Key]) -> None:
        """Return when these are durable on the home copy and every open travelling one, with content taken after the
        call.

        Failed('home_failed') if the home copy did not take them; a travelling copy that fails demotes its plex.
        """
        if wanted := PageSet(keys) | (self._owed or PageSet()):
            batch = self.pages.next
            batch.keys |= wanted
            if (error := await self.pages.served(batch, self._write_batch)) is not None:
                raise error

    async def _write_batch(self, batch: _Pages) -> None:
        batch.error = self.ledger.home_hangs()
        if batch.error is not None:
            return
        sequence = self.ledger.next_page_sequence()  # of all of them: who was how far is told by it after a crash
        together = self._owed is not None and not self._owed  # else home first: no other is two batches ahead of it
        left = batch.keys.copy()
        while keys := left.take(PAGES):  # those of one number lie together on the disk
            pages = await self._take_all(keys, sequence)
            batch.error = await self._write_to([self.home, *(self.open_copies() if together else [])], pages)
            if batch.error is not None:
                for page in pages:
                    self.volume.page_failed(page.column, page.page)
                left.update(keys)
                self._owed = left
                return
            if not together:
                await self._write_to(self.open_copies(), pages)
            for page in pages:
                self.volume.page_written(page.column, page.page, page.bits)
        self._owed = PageSet()

    async def _write_to(self, copies: list[DcoCopy], pages: list[PageWrite]) -> FmrdError | None:
        """Side by side. Returns what the home copy failed with."""
        failure = None
        due = [copy.due(pages) for copy in copies]
        if copies[:1] == [self.home]:  # writes what another needs though it has that: so it is behind in nothing
            behind = {page.key for copy in [self.home, *self.open_copies()] for page in copy.due(pages)}
            due[0] = [page for page in pages if page.key in behind]
        calls = [copy.write_pages(theirs, pages) for copy, theirs in zip(copies, due, strict=True)]
        outcomes = await self.ledger.system.at_once(calls, self.timeout_seconds)
        for copy, theirs, outcome in zip(copies, due, outcomes, strict=True):
            if outcome.error is None:
                copy.pages_written(theirs, self.ledger.committed)
            elif copy is self.home:
                failure = self.ledger.home_failed(outcome.error)
            else:
                self._copy_failed(copy, outcome.error)
        return failure

    async def _take_all(self, keys: list[Key], sequence: int) -> list[PageWrite]:
        """Take them one by one, as those of several calls: the first of a map that holds anything may cost new memory
        for all of what home holds of it, and of a large volume that is a step.
        """
        pages: list[PageWrite] = []
        columns: set[int] = set()
        for key in keys:
            if (page := self._take(key, sequence)) is None:
                continue
            pages.append(page)
            if len(keys) == PAGES and page.column not in columns and page.bits.any():
                columns.add(page.column)
                await trio.lowlevel.checkpoint()
        return pages

    def _take(self, key: Key, sequence: int) -> PageWrite | None:
        """The content of a page now; None if its column went out of use."""
        column, page = key
        epoch = next((c.epoch for c in self.volume.columns() if c.index == column), None)
        if epoch is None or page >= self.volume.geometry.pages:
            return None
        return PageWrite(column, page, epoch, sequence, self.volume.page(column, page))

    def due_pages(self, *, everything: bool) -> PageSet:
        """Return what a commit of this volume writes before its record."""
        if everything:
            return self.pages_of({column.index for column in self.volume.columns()})
        return PageSet(self.volume.touched_pages())

    def pages_of(self, columns: set[int]) -> PageSet:
        """Return every page of those columns that are this volume's."""
        own = [column.index for column in self.volume.columns() if column.index in columns]
        return PageSet.of_columns(own, self.volume.geometry.pages)

    def epochs_committed(self, keys: PageSet) -> None:
        for copy in [opened.dco_copy for opened in self.opened.values() if not opened.dco_copy.broken]:
            copy.epochs_committed(keys)

    def dco_copy_of(self, plex: Plex) -> DcoCopy | None:
        """None where the plex is not open."""
        return self.opened[plex.uuid].dco_copy if plex.uuid in self.opened else None

    def open_copies(self) -> list[DcoCopy]:
        """Return the copies that are written."""
        found = (self.dco_copy_of(p) for p in self.volume.plexes if p.is_open)
        return [copy for copy in found if copy is not None and not copy.broken]

    def _copy_failed(self, copy: DcoCopy, error: Exception) -> None:
        copy.broken = True
        for plex in self.volume.plexes:
            if self.dco_copy_of(plex) is copy:
                sentence = self.volume.fail_plex(plex, f"its copy of the DCO failed: {error}")
                if sentence is not None:
                    self._failed(plex, sentence)

    # Records

    async def commit(self, *, everything: bool = False) -> None:
        """Return when a record that says what is true now (or later) is on the home copy and on the open ones.

        ``everything``: rewrite every page too, as an opening does. Failed('home_failed'): it counts as not done.
        """
        if self.volume is self.family.volume:
            await self.ledger.commit(self, everything=everything)
            return
        demotions = self.volume.demotions
        await self.write_pages(self.due_pages(everything=everything))
        await self.ledger.commit()
        record = self.ledger.last_record
        assert record is not None
        await self.record_on_copies(record, record)
        self.volume.demotions_recorded = max(self.volume.demotions_recorded, demotions)

    async def record_on_copies(self, record: Record, previous: Record | None) -> None:
        """Write to the copies that ``previous`` names open, then to those that joined since. Who fails is demoted."""
        known = set() if previous is None else open_in(previous)
        for group in (known, open_in(record) - known):
            await self._record_on([p for p in self.volume.plexes if p.uuid in group], record)

    async def _record_on(self, plexes: list[Plex], record: Record) -> None:
        async with self._record_lock:
            targets = [(p, c) for p in plexes if (c := self.dco_copy_of(p)) is not None and not c.broken]
            calls = [copy.write_record(record) for _, copy in targets]
            outcomes = await self.ledger.system.at_once(calls, self.timeout_seconds)
            for (plex, copy), outcome in zip(targets, outcomes, strict=True):
                if outcome.error is None:
                    copy.record_written()
                    plex.has = record.position
                else:
                    self._copy_failed(copy, outcome.error)

    # Join

    async def join(self, plex: Plex, copy: DcoCopy, open_gate: Callable[[], None]) -> None:
        """Take steps 2 and 3 of PROTOCOLS, "Join": the record that still names the plex closed, then all that the home
        copy holds onto the plex's copy; ``open_gate`` opens the plex, and runs in the step that ends this, under both
        locks. Failed('io_error') if the copy cannot be written: the plex stays out, and the message tells the OSError.
        """

        async def work(record: Record) -> None:
            async with self.page_lock:
                await rewrite(self.ledger, self.volume, plex, copy, record, self.timeout_seconds)
                open_gate()

        await self.ledger.with_record(self, work)

    async def renew_copies(self) -> None:
        """Make a copy anew that failed while its plex had to stay, as the last one: it is behind, and if the home copy
        were lost an import would find it as it was. Failed('io_error') if it cannot be written yet.
        """
        for plex in [p for p in self.volume.plexes if p.is_open]:
            if (copy := self.dco_copy_of(plex)) is not None and copy.broken and not copy.lane.outstanding:
                await self._renew(plex, copy)

    async def _renew(self, plex: Plex, copy: DcoCopy) -> None:
        async def work(record: Record) -> None:
            async with self.page_lock:
                if plex.is_open and self.dco_copy_of(plex) is copy:
                    await rewrite(self.ledger, self.volume, plex, copy, record, self.timeout_seconds)

        await self.ledger.with_record(self, work)
