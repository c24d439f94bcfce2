"""Page writes and commits over the home copy and the travelling copies (RULES, "H first", "Epochs", "Join").

Two locks, one order: commit lock before page lock. Page writes are batched: whoever holds the page lock writes for all
who asked by then, so marks under load share one durable write, and the writes of one page are serial. Commits are
grouped the same way. Everything that must not happen between two checkpoints is a method of the family or its volumes.

A task that is cancelled in here leaves the copies as a kill would: only the end of the daemon does that.
"""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field

import trio

from fmrd.backing.hops import Hops
from fmrd.core.family import Family
from fmrd.core.plex import Plex
from fmrd.core.record import Record
from fmrd.dco.copy import Copy, Key, PageWrite
from fmrd.errors import Failed, FmrdError


@dataclass
class _Batch:
    """Requests that will be served together."""

    keys: set[Key] = field(default_factory=set)
    everything: bool = False
    done: bool = False
    error: FmrdError | None = None


class Store:
    """The DCO of one family. ``failed`` is told of each copy that failed, in the step that demoted its plex."""

    def __init__(
        self, family: Family, home: Copy, hops: Hops, *, timeout_seconds: float, failed: Callable[[Plex, str], None]
    ) -> None:
        self.family = family
        self.home = home
        self.copies: dict[str, Copy] = {}
        self.timeout_seconds = timeout_seconds
        self.page_sequence = 0
        self.recorded: Record | None = None
        """The last record that is on the home copy."""
        self._hops = hops
        self._failed = failed
        self._committed: dict[int, int] = {}
        self._page_lock = trio.Lock()
        self._commit_lock = trio.Lock()
        self._pages = _Batch()
        self._commits = _Batch()

    def assume(self, record: Record) -> None:
        """What the home copy says when the store takes over."""
        self.recorded = record
        self._committed = _epochs(record)

    # Pages

    async def write_pages(self, keys: Iterable[Key]) -> None:
        """Durable on the home copy and on every open travelling one when it returns, with content taken after now.

        Failed('home_failed') if the home copy did not take them; a travelling copy that fails demotes its plex.
        """
        batch = self._pages
        batch.keys.update(keys)
        if not batch.keys:
            return
        async with self._page_lock:
            if not batch.done:
                self._pages = _Batch()
                await self._write_batch(batch)
        if batch.error is not None:
            raise batch.error

    def _home_hangs(self) -> Failed | None:
        """A write that was given up may land yet, and would overwrite what is written to the same slot after it."""
        if not self.home.lane.hung:
            return None
        return Failed("home_failed", f"volume {self.family.volume.name}: the home copy of the DCO does not answer")

    def _home_failed(self, error: Exception) -> Failed:
        name = self.family.volume.name
        return Failed("home_failed", f"volume {name}: the home copy of the DCO cannot be written: {error}")

    async def _write_batch(self, batch: _Batch) -> None:
        batch.error = self._home_hangs()
        if batch.error is not None:
            batch.done = True
            return
        pages = [page for key in sorted(batch.keys) if (page := self._take(key)) is not None]
        copies = [self.home, *self._open_copies()]
        outcomes = await self._hops.at_once([copy.write_pages(pages) for copy in copies], self.timeout_seconds)
        for copy, outcome in zip(copies, outcomes, strict=True):
            if outcome.error is None:
                copy.pages_written(pages, self._committed)
            elif copy is self.home:
                batch.error = self._home_failed(outcome.error)
            else:
                self._copy_failed(copy, outcome.error)
        for page in pages:
            for volume in self.family.volumes:
                if page.column in {c.index for c in volume.columns()}:
                    if batch.error is None:
                        volume.page_written(page.column, page.page, page.bits)
                    else:
                        volume.page_failed(page.column, page.page)
        batch.done = True

    def _take(self, key: Key) -> PageWrite | None:
        """The content of a page now; None if its column went out of use."""
        column, page = key
        for volume in self.family.volumes:
            epoch = next((c.epoch for c in volume.columns() if c.index == column), None)
            if epoch is not None and page < volume.geometry.pages:
                self.page_sequence += 1
                return PageWrite(column, page, epoch, self.page_sequence, volume.page(column, page))
        return None

    def _open_copies(self) -> list[Copy]:
        found = (self.copies.get(p.uuid) for v in self.family.volumes for p in v.plexes if p.is_open)
        return [copy for copy in found if copy is not None and not copy.broken]

    def _copy_failed(self, copy: Copy, error: Exception) -> None:
        copy.broken = True
        for volume in self.family.volumes:
            for plex in volume.plexes:
                if self.copies.get(plex.uuid) is copy:
                    sentence = volume.fail_plex(plex, f"its copy of the DCO failed: {error}")
                    if sentence is not None:
                        self._failed(plex, sentence)

    # Commits

    async def commit(self, *, everything: bool = False) -> None:
        """A record that says what is true now (or later) is on the home copy and on the open ones when it returns.

        ``everything``: rewrite every page too, as an opening does. Failed('home_failed'): it counts as not done.
        """
        batch = self._commits
        batch.everything |= everything
        async with self._commit_lock:
            if not batch.done:
                self._commits = _Batch()
                await self._commit_batch(batch)
        if batch.error is not None:
            raise batch.error

    async def _commit_batch(self, batch: _Batch) -> None:
        try:
            await self._commit(everything=batch.everything)
        except FmrdError as error:
            batch.error = error
        batch.done = True

    async def _commit(self, *, everything: bool = False) -> Record:
        """Pages, the record on H, then on the copies H named open so far, then on plexes that joined since."""
        family = self.family
        family.sequence += 1
        stamps = [(volume, volume.demotions) for volume in family.volumes]
        record = family.record(family.sequence)
        family.begin_commit(record)
        epochs = _epochs(record)
        changed = {column for column, epoch in epochs.items() if self._committed.get(column) != epoch}
        keys = {key for volume in family.volumes for key in volume.touched_pages()}
        fresh: set[Key] = set()
        for volume in family.volumes:
            for column in volume.columns():
                if everything or column.index in changed:
                    keys.update((column.index, page) for page in range(volume.geometry.pages))
                if column.index in changed:
                    fresh.update((column.index, page) for page in range(volume.geometry.pages))
        await self.write_pages(keys)
        # While the record lands, its new epochs' pages are neither recorded nor free to be written over.
        async with self._page_lock if fresh else nullcontext():
            await self._record_on_home(record)
            previous, self.recorded, self._committed = self.recorded, record, epochs
            self.home.epochs_committed(fresh)
            for copy in self.copies.values():
                if not copy.broken:
                    copy.epochs_committed(fresh)
            family.end_commit(record)
        named = {p.uuid for v in previous.volumes for p in v.plexes if p.is_open} if previous else set()
        followers = [p for v in family.volumes for p in v.plexes if p.uuid in self.copies]
        await self._record_on_copies(record, [p for p in followers if p.uuid in named])
        opened = {p.uuid for v in record.volumes for p in v.plexes if p.is_open}
        await self._record_on_copies(record, [p for p in followers if p.uuid in opened - named])
        for volume, demotions in stamps:
            volume.recorded = max(volume.recorded, demotions)
        return record

    async def _record_on_home(self, record: Record) -> None:
        hangs = self._home_hangs()
        if hangs is not None:
            raise hangs
        try:
            call = self.home.write_record(record)
        except ValueError as error:
            raise Failed("dco_full", f"volume {self.family.volume.name}: {error}") from error
        [outcome] = await self._hops.at_once([call], self.timeout_seconds)
        if outcome.error is not None:
            raise self._home_failed(outcome.error)
        self.home.record_written()

    async def _record_on_copies(self, record: Record, plexes: list[Plex]) -> None:
        targets = [(p, c) for p in plexes if (c := self.copies.get(p.uuid)) is not None and not c.broken]
        calls = [copy.write_record(record) for _, copy in targets]
        outcomes = await self._hops.at_once(calls, self.timeout_seconds)
        for (plex, copy), outcome in zip(targets, outcomes, strict=True):
            if outcome.error is None:
                copy.record_written()
                plex.has = record.position
            else:
                self._copy_failed(copy, outcome.error)

    # Join

    async def join(self, plex: Plex, copy: Copy, open_gate: Callable[[], None]) -> None:
        """RULES, Join, steps 2 and 3: the record that still names the plex closed, then all of it onto the plex's
        copy, from what the home copy holds; ``open_gate`` runs in the step that ends this. Failed('io_error') if the
        copy cannot be written: the plex stays out. OSError of the copy is told in the message.
        """
        async with self._commit_lock:
            record = await self._commit()
            async with self._page_lock:
                await self._rewrite(plex, copy, record)
                self.copies[plex.uuid] = copy
                open_gate()

    async def _rewrite(self, plex: Plex, copy: Copy, record: Record) -> None:
        """All that the home copy holds, onto one copy, under both locks."""
        self.page_sequence += 1
        pages = [
            PageWrite(
                column.index, page, column.epoch, self.page_sequence, volume.page_on_home(column.index, page)
            )
            for volume in self.family.volumes
            for column in volume.columns()
            for page in range(volume.geometry.pages)
        ]  # fmt: skip
        [outcome] = await self._hops.at_once([copy.rewrite(pages, record)], self.timeout_seconds)
        if outcome.error is not None:
            raise Failed("io_error", f"plex {plex.name}: its copy of the DCO cannot be written: {outcome.error}")
        copy.rewritten(pages)
        plex.has = record.position

    async def renew_copies(self) -> None:
        """A copy that failed while its plex had to stay, as the last one, is behind: if the home copy were lost, an
        import would find it as it was. So it is made anew as soon as it can be written. Failed('io_error') if not yet.
        """
        for plex in [p for v in self.family.volumes for p in v.plexes if p.is_open]:
            copy = self.copies.get(plex.uuid)
            if copy is None or not copy.broken or copy.lane.outstanding:
                continue
            async with self._commit_lock:
                record = await self._commit()
                async with self._page_lock:
                    if plex.is_open and self.copies.get(plex.uuid) is copy:
                        await self._rewrite(plex, copy, record)


def _epochs(record: Record) -> dict[int, int]:
    return {c.index: c.epoch for v in record.volumes for c in (v.drl, *(p.map for p in v.plexes))}
