"""The ledger writes the records of one family: a commit is what makes a change of states true (PROTOCOLS, "H first").

A volume and its snapshots share the ledger; each has a store (store.py) for its own pages and its plexes' copies. Two
kinds of locks are taken, in this order: the commit lock here, then the page locks of the stores. Commits are grouped:
whoever holds the lock commits for all who asked by then. What must be one step, with no checkpoint, is the family's.

A task that is cancelled in here leaves the copies as a kill would: only the end of the daemon does that.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol

import trio

from fmrd.backing.calls.system_calls import SystemCalls
from fmrd.core.record import Record
from fmrd.core.volume.family import Family
from fmrd.core.volume.volume import Volume
from fmrd.dco.copy import DcoCopy
from fmrd.dco.group_commit import Batch, GroupCommit
from fmrd.dco.page_set import Key, PageSet
from fmrd.errors import Failed, FmrdError


class Member(Protocol):
    """A member is a started volume of the family as the ledger knows it: its pages, its plexes' copies (Store)."""

    @property
    def volume(self) -> Volume:
        """Return the volume itself."""

    @property
    def ledger(self) -> "Ledger":
        """Return the ledger of its family, which is where its records are committed."""

    @property
    def page_lock(self) -> trio.Lock:
        """Return the lock that makes writes of pages serial: whoever holds it sees none of this volume under way."""

    def due_pages(self, *, everything: bool) -> PageSet:
        """Return what a commit of this volume writes before its record; ``everything``: every page of it."""

    def pages_of(self, columns: set[int]) -> PageSet:
        """Return every page of those columns that are this volume's."""

    async def write_pages(self, keys: Iterable[Key]) -> None:
        """Return when these pages are durable on the home copy and every open travelling one, with content taken after
        the call. Failed('home_failed') where the home copy did not take them.
        """

    def open_copies(self) -> list[DcoCopy]:
        """Return the travelling copies that are written."""

    def epochs_committed(self, keys: PageSet) -> None:
        """A record has landed that names the epoch of these pages; called in that step, with the page lock held."""

    async def record_on_copies(self, record: Record, previous: Record | None) -> None:
        """Write the record to the copies that ``previous`` names open, then to those that joined since. A copy that
        fails demotes its plex, and raises nothing.
        """


@dataclass
class _Commits(Batch):
    """Which volumes' pages go along, and of which all."""

    members: set[Member] = field(default_factory=set)
    whole: set[Member] = field(default_factory=set)


class Ledger:
    """A ledger has the home copy, and in ``stores``, by the uuid of their volumes, one store for each volume of the
    family that is started. Its methods run on trio's thread.
    """

    def __init__(self, family: Family, home: DcoCopy, system: SystemCalls, *, timeout_seconds: float) -> None:
        self.family = family
        self.home = home
        home.rows = family.rows
        self.system = system
        self.timeout_seconds = timeout_seconds
        self.stores: dict[str, Member] = {}
        self.page_sequence = 0
        self.last_record: Record | None = None
        """The last record that is on the home copy."""
        self.committed: dict[int, int] = {}
        """Its epochs, by column."""
        self.commits = GroupCommit(_Commits)
        self.rows_lock = trio.Lock()
        """Held by whoever makes the copies longer."""

    @property
    def commit_lock(self) -> trio.Lock:
        """Return the lock that makes the records of the family serial."""
        return self.commits.lock

    def assume(self, record: Record) -> None:
        """Take over what the home copy says when the ledger begins."""
        self.last_record = record
        self.committed = epochs_of(record)

    def next_page_sequence(self) -> int:
        self.page_sequence += 1
        return self.page_sequence

    def home_hangs(self) -> Failed | None:
        """Return an error while a write that was given up may land yet: what is written to the same slot after it would
        be overwritten, so nothing is written then.
        """
        if not self.home.lane.hung:
            return None
        return Failed("home_failed", f"volume {self.family.volume.name}: the home copy of the DCO does not answer")

    def home_failed(self, error: Exception) -> Failed:
        """Return the error of whoever needed a write of the home copy that failed."""
        name = self.family.volume.name
        return Failed("home_failed", f"volume {name}: the home copy of the DCO cannot be written: {error}")

    async def commit(self, store: Member | None = None, *, everything: bool = False) -> None:
        """Return when a record that says what is true now (or later) is on the home copy, and, where a store is given,
        when its pages and its copies are written. Failed('home_failed') or ('dco_full'): the commit counts as not done.
        """
        batch = self.commits.next
        if store is not None:
            batch.members.add(store)
            if everything:
                batch.whole.add(store)
        error = await self.commits.served(batch, self._commit)
        if error is not None:
            raise error

    async def _commit(self, batch: _Commits) -> None:
        await self.commit_locked(batch.members, whole=batch.whole)

    async def with_record(self, store: Member, work: Callable[[Record], Awaitable[None]]) -> None:
        """Commit, then await ``work`` with the record before any other commit; if it fails, ``work`` is not run."""
        async with self.commit_lock:
            await work(await self.commit_locked({store}, whole=set()))

    async def commit_locked(self, stores: set[Member], *, whole: set[Member]) -> Record:
        """Under the commit lock, write pages, the record to H, to the copies that H named open, then to joined ones."""
        family = self.family
        family.sequence += 1
        stamps = [(store.volume, store.volume.demotions) for store in stores]
        record = family.record(family.sequence)
        family.begin_commit(record)
        epochs = epochs_of(record)
        changed = {column for column, epoch in epochs.items() if self.committed.get(column) != epoch}
        fresh = {store: store.pages_of(changed) for store in self.in_order()}
        async with AsyncExitStack() as stack:
            for store, pages in fresh.items():
                due = store.due_pages(everything=store in whole) if store in stores else PageSet()
                await store.write_pages(pages | due)
            # While the record lands, its new epochs' pages are neither recorded nor free to be written over.
            for store in [store for store, pages in fresh.items() if pages]:
                await stack.enter_async_context(store.page_lock)
            await self._record_on_home(record)
            previous, self.last_record, self.committed = self.last_record, record, epochs
            for store, pages in fresh.items():
                self.home.epochs_committed(pages)
                store.epochs_committed(pages)
            family.end_commit(record)
        # In an order of their own, not a set's: a schedule is the same schedule each time it is replayed.
        for store in sorted(stores, key=lambda store: store.volume.settings.uuid):
            await store.record_on_copies(record, previous)
        for volume, demotions in stamps:
            volume.demotions_recorded = max(volume.demotions_recorded, demotions)
        return record

    def in_order(self) -> list[Member]:
        """Return the stores as their volumes stand in the family: page locks are taken in this order."""
        return sorted(self.stores.values(), key=lambda store: self.family.volumes.index(store.volume))

    async def _record_on_home(self, record: Record) -> None:
        hangs = self.home_hangs()
        if hangs is not None:
            raise hangs
        try:
            call = self.home.write_record(record)
        except ValueError as error:
            raise Failed("dco_full", f"volume {self.family.volume.name}: {error}") from error
        [outcome] = await self.system.at_once([call], self.timeout_seconds)
        if outcome.error is not None:
            raise self.home_failed(outcome.error)
        self.home.record_written()


async def change(
    stores: Sequence[Member], step: Callable[[], None], *, whole: bool = False, ledgers: Sequence[Ledger] = ()
) -> None:
    """Take a synchronous step over several volumes, and commit what makes it true, one record a family: no commit and
    no page write of theirs is under way in that step. What the step raises flies on, and nothing was changed;
    Failed('home_failed') comes after it, and what was done stands in memory until a later commit lands. With ``whole``
    every page of theirs goes along. ``ledgers`` are of families none of whose volumes that matter is started.
    """
    chosen = sorted({*ledgers, *(store.ledger for store in stores)}, key=lambda ledger: ledger.family.uuid)
    failures: list[FmrdError] = []
    async with AsyncExitStack() as commits:
        for ledger in chosen:
            await commits.enter_async_context(ledger.commit_lock)
        others = {store for ledger in chosen for store in ledger.stores.values()} - set(stores)
        async with AsyncExitStack() as pages:
            for ledger in chosen:
                for store in ledger.in_order():
                    if store in stores:
                        await pages.enter_async_context(store.page_lock)
            step()
        for ledger in chosen:
            asked = set(ledger.stores.values()) - others
            try:
                await ledger.commit_locked(asked, whole=asked if whole else set())
            except FmrdError as error:
                failures.append(error)
    if failures:
        raise failures[0]


def epochs_of(record: Record) -> dict[int, int]:
    """Return the epoch of each column that a record uses."""
    return {c.index: c.epoch for v in record.volumes for c in record.columns_of(v)}


def open_in(record: Record) -> set[str]:
    """Return the plexes that a record names open, by uuid."""
    return {p.uuid for v in record.volumes for p in v.plexes if p.is_open}
