"""A mirror is an open volume at work: it fans writes out, fdatasyncs in rounds, cleans the DRL, and awaits the record.

Every decision is the volume's (core/volume/) and every byte of the DCO the store's (dco/store.py); what is here is the
order of awaits, which CONCURRENCY.md goes through checkpoint by checkpoint. What a door asks for is requests.py.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from fmrd.backing.calls.system_calls import SystemCalls
from fmrd.core.maps.unreadable import Unreadable
from fmrd.core.plans import SyncPlan, Verdict, WritePlan
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco.group_commit import Batch, GroupCommit
from fmrd.dco.store import Store
from fmrd.engine.events.ring import in_log
from fmrd.engine.far.together import carry_out, errors_of
from fmrd.engine.far.turns import Turns
from fmrd.engine.serving.life import Lifetime, RestLock
from fmrd.engine.serving.load import Load
from fmrd.engine.serving.open_plex import OpenPlex, ToCall
from fmrd.engine.serving.ranges import Ranges
from fmrd.engine.serving.writes_under_way import Landing
from fmrd.engine.stores.asked import Room
from fmrd.errors import FmrdError


@dataclass
class Mirror:
    """One open volume at work, ``opened`` its open plexes by uuid. Lengths are bytes; failures are FmrdError."""

    store: Store
    system: SystemCalls
    opened: dict[str, OpenPlex]
    kin: dict[str, "Mirror"] = field(default_factory=dict)
    """The started volumes of its family, by uuid."""
    ranges: Ranges = field(default_factory=Ranges)
    load: Load = field(default_factory=Load)
    life: Lifetime = field(default_factory=Lifetime)
    rest_lock: RestLock = field(default_factory=RestLock)
    """Of whoever has the volume at rest, and of the original of an instant snapshot while it keeps data on it."""
    flushes: GroupCommit[Batch] = field(default_factory=lambda: GroupCommit(Batch))
    """Flush requests that share one round of fdatasyncs."""
    _clean_lock: trio.Lock = field(default_factory=trio.Lock)
    turns: Turns = field(default_factory=Turns)
    _late: list[tuple[range, list[Landing]]] = field(default_factory=list)
    unreadable: Unreadable = field(default_factory=Unreadable)
    reads_held_until: trio.Event | None = None
    """Set when reads need not wait any more."""
    leaving: Callable[[Iterable[int]], Awaitable[None]] | None = None
    """This is awaited with extents before they leave the DRL; it raises Failed where they must stay."""
    noted: Callable[[str, str], None] = in_log
    """This is told whatever the volume has to say, by its name."""
    filling: trio.Event = field(default_factory=trio.Event)
    """Set when the DRL is to be cleaned before it is full."""
    old_data: dict[str, Any] = field(default_factory=dict)
    """What is kept together for an instant snapshot of this volume, by its uuid (keeping.py)."""
    room: Room | None = None

    @property
    def volume(self) -> Volume:
        return self.store.volume

    @property
    def timeout_seconds(self) -> float:
        return self.volume.settings.io_timeout_seconds

    async def quiesce(self) -> None:
        """Take no new request; return when all are answered. Under the verb lock, before bytes are held (repairs)."""
        self.load.closed = True
        if self.load.requests:
            await self.load.none_left.wait()

    def resume(self) -> None:
        """Take requests again: what ``quiesce`` was for did not come to be."""
        self.load.closed = False
        self.load.none_left = trio.Event()

    @asynccontextmanager
    async def reads_held(self) -> AsyncIterator[None]:
        """Hold reads back in here: the volume becomes other data, and nobody sees that before it is recorded."""
        self.reads_held_until = trio.Event()
        try:
            yield
        finally:
            self.reads_held_until.set()
            self.reads_held_until = None

    # Rules 1, 2 and 5

    async def write_held(self, offset: int, length: int, call: ToCall) -> Verdict:
        """Write bytes that the caller holds, by rules 1 and 3: mark, choose who takes them, and judge what came of it.
        The caller frees the bytes, and then answers by the verdict. Failed('home_failed') where the mark is not
        durable.
        """
        volume = self.volume
        extents = volume.geometry.extents_of(offset, length)
        if volume.drl.crowded_by(extents):
            await self._make_room(extents)
        volume.drl.enter(extents)
        try:
            if not volume.drl.is_durable(extents):
                if volume.drl.is_filling:
                    self.filling.set()
                await self._mark(extents)
            plan = volume.choose_targets(offset, length)
            errors = await self._fan_out(plan, call)
        except BaseException:
            volume.drl.leave(extents)
            raise
        return await self.judge_entered(plan, errors)

    async def judge_entered(self, plan: WritePlan, errors: dict[str, Exception]) -> Verdict:
        """Judge a write while its bytes are held, and let its extents go: those on which a call was given up on a plex
        that stays, when that has landed (rule 2a).
        """
        late: list[Landing] = []
        try:
            verdict = await self.judge(plan, errors)
            if errors:
                span = ((plan.offset, plan.offset + plan.length),)
                late = [each for plex in self.volume.open_plexes() for each in self.opened[plex.uuid].late(span)]
            return verdict
        finally:
            if late:
                self._late.append((plan.extents, late))
            else:
                self.volume.drl.leave(plan.extents)

    async def judge(self, plan: WritePlan, errors: dict[str, Exception]) -> Verdict:
        """Judge a write while its bytes are held and its extents pending; settle first where the verdict says so."""
        verdict = self.volume.end_write(plan, errors)
        if verdict.settle:
            try:
                await self.settle()
            except FmrdError as error:  # judge all the same, or two copies differ and both count
                self.say(f"not settled after a write error: {error}")
            verdict = self.volume.end_write(plan, errors, settled=True)
        return verdict

    async def answer(self, verdict: Verdict) -> None:
        """Return when a write may be answered (rule 5), or raise its error; its bytes are free again by now."""
        self._tell(verdict)
        await self.until_recorded()
        if verdict.error is not None:
            raise verdict.error

    def _leave_late(self) -> None:
        """A write that was given up on a plex that stays is pending until it has landed (rule 2a)."""
        for extents, landings in self._late[:]:
            if all(each.landed for each in landings):
                self._late.remove((extents, landings))
                self.volume.drl.leave(extents)

    async def _make_room(self, extents: range) -> None:
        """The DRL is bounded. Who finds it full waits for the cleaning that is under way, as all others do."""
        async with self._clean_lock:
            while self.volume.drl.crowded_by(extents) and await self._clean(self.volume.drl.surplus):
                pass

    async def clean_ahead(self) -> bool:
        """Make room in the DRL before a write needs it; False where nothing could leave. Failed('home_failed')."""
        async with self._clean_lock:
            self.filling = trio.Event()
            if self.life.ended or not self.volume.drl.is_filling:
                return True
            return await self._clean(self.volume.drl.surplus) > 0

    async def _mark(self, extents: range) -> None:
        """Keep rule 1: these extents are durable on the home copy and on every open travelling one before any data."""
        column = self.volume.settings.drl.index
        width = self.volume.geometry.page_extents
        await self.store.write_pages((column, page) for page in range(extents[0] // width, extents[-1] // width + 1))

    async def _fan_out(self, plan: WritePlan, call: ToCall) -> dict[str, Exception]:
        calls = []
        for target in plan.targets:
            calls.append(call(self.opened[target.plex.uuid], target.parts))
            target.plex.writes += 1
            target.plex.write_bytes += sum(size for _, size in target.parts)
        outcomes = await carry_out(self.system, calls, self.timeout_seconds)
        return errors_of([t.plex for t in plan.targets], outcomes)

    async def until_recorded(self) -> None:
        """Keep rule 5: return when a record that began after the last demotion is on the home copy.
        Failed('home_failed').
        """
        while self.volume.demotions_recorded < self.volume.demotions:
            await self.store.commit()

    async def sync(self, only: Plex | None = None, *, lagging: bool = True) -> Verdict:
        """Fdatasync the open plexes (or one of them; or those that a flush must reach), and return the verdict; its
        error is not raised. Each plex has one round at a time (Turns).
        """
        whom = self.volume.open_plexes if lagging else self.volume.to_flush
        async with self.turns.of(lambda: [p for p in whom() if only in (None, p)]) as plexes:
            plan = self.volume.begin_sync(plexes)
            verdict = self.volume.end_sync(plan, await self._fdatasync(plan))
        self._tell(verdict)
        return verdict

    async def _fdatasync(self, plan: SyncPlan) -> dict[str, Exception]:
        calls = [self.opened[target.plex.uuid].syncing() for target in plan.targets]
        return errors_of([t.plex for t in plan.targets], await self.system.at_once(calls, self.timeout_seconds))

    async def settle(self) -> None:
        """Make durable, and known to the home copy, whatever is current now. Failed('home_failed')."""
        await self.sync()
        await self.store.commit()

    async def clean(self, before_tick: int | None = None) -> int:
        """Keep rule 2: extents leave that no write has used since a tick; return how many. Failed('home_failed')."""
        async with self._clean_lock:
            return 0 if self.life.ended else await self._clean(None, before_tick)

    async def _clean(self, most: int | None, before_tick: int | None = None) -> int:
        volume = self.volume
        self._leave_late()
        token = volume.drl.begin_clean(most, before_tick)
        if not token.extents:
            return 0
        demotions = volume.demotions
        await self.sync()
        if volume.demotions != demotions:
            await self.until_recorded()
            return 0
        if self.leaving is not None:
            await self.leaving(token.extents)
        await self.store.write_pages(volume.touched_pages())
        if volume.demotions != demotions:  # a map gained what these pages do not hold
            await self.until_recorded()
            return 0
        left = volume.drl.end_clean(token, volume.suspect_extents())
        await self.store.write_pages((volume.settings.drl.index, page) for page in sorted(volume.drl.marked.touched))
        return left

    def _tell(self, verdict: Verdict) -> None:
        for sentence in verdict.events:
            self.say(sentence)

    def say(self, sentence: str | None) -> None:
        """Tell a sentence about this volume; nothing for None."""
        if sentence is not None:
            self.noted(self.volume.name, sentence)
