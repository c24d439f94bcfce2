"""Every rule as a switch: the real code with one rule taken out. Each must be caught by some schedule, or it is idle.

A switch patches the one place that keeps the rule (core/INVARIANTS.md names it); everything else stays as it is.
"""

import inspect
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from bitarray import bitarray, frozenbitarray
from bitarray.util import zeros

from fmrd.backing.calls.system_calls import Lane
from fmrd.core import images, stamps
from fmrd.core.decisions import joining, standing
from fmrd.core.maps.drl import DirtyRegionLog
from fmrd.core.maps.regionmap import RegionMap
from fmrd.core.plans import SyncPlan, WritePlan
from fmrd.core.states import PlexState
from fmrd.core.volume import faults
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco.copy import DcoCopy
from fmrd.dco.group_commit import Batch, GroupCommit
from fmrd.dco.ledger import Ledger
from fmrd.dco.store import Store
from fmrd.engine.far.turns import Turns
from fmrd.engine.opening import stamping, start
from fmrd.engine.opening.files import Lanes
from fmrd.engine.resync.resync import Resync
from fmrd.engine.running import Running
from fmrd.engine.serving import reading
from fmrd.engine.serving.flights import Flights
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.open_plex import OpenPlex
from fmrd.engine.serving.quick import Quick
from fmrd.engine.serving.ranges import Claim, Ranges
from fmrd.engine.verify.checksums import Checksums
from fmrd.front.daemon.attention import Attention

_cleaning: ContextVar[bool] = ContextVar("_cleaning", default=False)
"""Is the task at work a cleaning of the DRL?"""


@contextmanager
def while_cleaning() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether the task at work is cleaning the DRL."""
    real = Mirror._clean

    async def clean(self: Mirror, *arguments: Any) -> int:
        token = _cleaning.set(True)
        try:
            return await real(self, *arguments)
        finally:
            _cleaning.reset(token)

    with patch.object(Mirror, "_clean", clean):
        yield _cleaning.get


@contextmanager
def _no_mark() -> Iterator[None]:
    async def mark(self: Mirror, extents: range) -> None:
        pass

    with patch.object(Mirror, "_mark", mark), patch.object(DirtyRegionLog, "is_durable", lambda self, extents: True):
        yield


@contextmanager
def _clean_without_fdatasync() -> Iterator[None]:
    real = Mirror._fdatasync

    async def fdatasync(self: Mirror, plan: SyncPlan) -> dict[str, Exception]:
        return {} if _cleaning.get() else await real(self, plan)

    with while_cleaning(), patch.object(Mirror, "_fdatasync", fdatasync):
        yield


@contextmanager
def _clean_without_maps() -> Iterator[None]:
    real = Volume.touched_pages

    def touched(self: Volume) -> list[tuple[int, int]]:
        return [] if _cleaning.get() else real(self)

    with while_cleaning(), patch.object(Volume, "touched_pages", touched):
        yield


@contextmanager
def _page_without_unsynced() -> Iterator[None]:
    def page(self: Plex, page: int) -> frozenbitarray:
        content = bitarray(self.map.page(page))
        if not self.home_open:
            start = page * self.geometry.page_regions
            content |= self.on_home[start : start + len(content)]
        return frozenbitarray(content)

    with patch.object(Plex, "page", page):
        yield


@contextmanager
def _forgetful_gate() -> Iterator[None]:
    with patch.object(Volume, "_remember", lambda self, plex, regions: None):
        yield


@contextmanager
def _detach_without_drl() -> Iterator[None]:
    real = Plex.close_gate

    def close_gate(self: Plex, state: PlexState, *inherited: bitarray, **options: Any) -> None:
        self.young = RegionMap(self.geometry.regions, self.geometry.page_regions)
        self.syncing = []
        self.suspect = None
        real(self, state, **options)

    with patch.object(Plex, "close_gate", close_gate):
        yield


@contextmanager
def _hasty_verdict() -> Iterator[None]:
    async def until_recorded(self: Mirror) -> None:
        pass

    with patch.object(Mirror, "until_recorded", until_recorded):
        yield


@contextmanager
def _current_by_memory() -> Iterator[None]:
    """Current is current: synced or not, known to the home copy or not."""

    def in_doubt(self: Plex, within: range) -> bitarray:
        return self.map.these(within) if self.is_open else ~zeros(len(within))

    with patch.object(Plex, "in_doubt", in_doubt), patch.object(Plex, "is_durable", lambda p, r: r not in p.map):
        yield


@contextmanager
def _hasty_promotion() -> Iterator[None]:
    async def checkpoint(self: Resync) -> None:
        pass

    with (
        _current_by_memory(),
        patch.object(Plex, "settled", property(lambda self: not self.map.any())),
        patch.object(Resync, "checkpoint", checkpoint),
    ):
        yield


@contextmanager
def _no_source_chosen() -> Iterator[None]:
    with patch.object(start, "seed", lambda volume: 0):
        yield


@contextmanager
def _doubt_is_clean() -> Iterator[None]:
    with patch.object(images, "ones", zeros):
        yield


@contextmanager
def _one_slot() -> Iterator[None]:
    """Pages and records are overwritten where they lie."""

    def written(self: DcoCopy, pages: Any, committed: Any) -> None:
        self._sound.update(page.key for page in pages)

    with ExitStack() as stack:
        stack.enter_context(patch.object(DcoCopy, "pages_written", written))
        stack.enter_context(patch.object(DcoCopy, "record_written", lambda self: None))
        yield


@contextmanager
def _last_one_goes() -> Iterator[None]:
    with patch.object(faults, "uncovered_parts", lambda *rest: iter(())):
        yield


@contextmanager
def _no_exclusion() -> Iterator[None]:
    @asynccontextmanager
    async def hold(self: Ranges, *spans: tuple[int, int], wanted: object = None) -> AsyncIterator[None]:
        yield

    with patch.object(Ranges, "hold", hold):
        yield


class _Open:
    """A lock that lets everybody in."""

    def acquire_nowait(self) -> None:
        pass

    def release(self) -> None:
        pass

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *details: object) -> None:
        pass


@contextmanager
def _without_lock(owner: type, name: str) -> Iterator[None]:
    real: Any = owner.__init__  # type: ignore[misc]  # of either class

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **options)
        getattr(self, name).lock = _Open()

    with patch.object(owner, "__init__", init):
        yield


@contextmanager
def _copies_before_home() -> Iterator[None]:
    real = Ledger._record_on_home

    async def record_on_home(self: Ledger, record: Any) -> None:
        for store in self.stores.values():
            await store.record_on_copies(record, None)
        await real(self, record)

    with patch.object(Ledger, "_record_on_home", record_on_home):
        yield


@contextmanager
def _join_while_hanging() -> Iterator[None]:
    async def lanes_of(self: Running, plex: Plex) -> Lanes:
        lanes = self.home.lanes[plex.uuid] = Lanes(plex.name)  # the old ones would tell of the late call
        return lanes

    with patch.object(Running, "lanes_of", lanes_of), patch.object(Lanes, "outstanding", 0):
        yield


@contextmanager
def _foreign_is_welcome() -> Iterator[None]:
    real = standing._judge

    def judge(record: Any, *rest: Any) -> Any:
        with patch.object(type(record), "knows", lambda self, position: True):
            return real(record, *rest)

    with patch.object(standing, "_judge", judge):
        yield


@contextmanager
def _theirs_is_not_asked() -> Iterator[None]:
    """By the home's map and the DRL of the plex's own copy, as of any plex."""

    def written(volume: Volume, told: Any) -> Any:
        return told.dirt

    with patch.object(joining, "_written_elsewhere", written):
        yield


@contextmanager
def _only_theirs_is_asked() -> Iterator[None]:
    real = joining.inherit

    def inherit(plex: Plex, decision: Any) -> None:
        if "elsewhere" in decision.message:
            plex.map.empty()
        real(plex, decision)

    with patch.object(joining, "inherit", inherit):
        yield


async def _nothing(*_: object) -> None:
    pass


def _forgetful_quick_write() -> AbstractContextManager[object]:
    def targets(self: Volume, offset: int, length: int) -> list[Plex] | None:
        found = self.open_plexes()
        return found if found == self.holders(offset, length) and all(p.suspect is None for p in found) else None

    return patch.object(Volume, "plain_targets", targets)


def _touch_unseen(self: DirtyRegionLog, offset: int, length: int) -> bool:
    return self.is_durable(self.geometry.extents_of(offset, length))


@contextmanager
def _begun_without_its_bytes() -> Iterator[None]:
    def hold(self: Flights, plan: WritePlan, span: Claim) -> None:
        self._mirror.volume.drl.enter(plan.extents)
        self._mirror.load.requests += 1

    real = Ranges.release

    def release(self: Ranges, spans: Claim) -> None:
        if spans in self.held:
            real(self, spans)

    with patch.object(Flights, "hold", hold), patch.object(Ranges, "release", release):
        yield


@contextmanager
def _begun_without_its_extents() -> Iterator[None]:
    def hold(self: Flights, plan: WritePlan, span: Claim) -> None:
        self._mirror.ranges.take(span)
        self._mirror.load.requests += 1

    real = DirtyRegionLog.leave

    def leave(self: DirtyRegionLog, extents: range) -> None:
        real(self, range(extents.start, extents.start) if any(e not in self._pending for e in extents) else extents)

    with patch.object(Flights, "hold", hold), patch.object(DirtyRegionLog, "leave", leave):
        yield


def without(owner: Any, name: str, what: str) -> AbstractContextManager[object]:
    """One condition taken out of a function: where its text says ``what`` last, it says False."""
    function = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(function))
    before, found, behind = source.rpartition(what)
    assert found, f"{name} does not say {what}"
    names: dict[str, Any] = {}
    exec(f"{before}False{behind}", function.__globals__, names)
    return patch.object(owner, name, names[name])


def _flushes_join_a_round() -> AbstractContextManager[object]:
    real = GroupCommit.served

    async def served(self: Any, batch: Any, work: Any) -> Any:
        async def joined(batch: Any) -> None:
            if type(batch) is Batch:  # a flush, not pages, or records
                self.next = batch
            await work(batch)
            if type(batch) is Batch:
                self.next = Batch()

        return await real(self, batch, joined)

    return patch.object(GroupCommit, "served", served)


@contextmanager
def _rounds_at_once() -> Iterator[None]:
    @asynccontextmanager
    async def of(self: Turns, choose: Callable[[], list[Plex]]) -> AsyncIterator[list[Plex]]:
        yield choose()

    now = patch.object(Turns, "take_now", lambda *_: True), patch.object(Turns, "give_back", _nothing_now)
    with patch.object(Turns, "of", of), now[0], now[1]:
        yield


def _nothing_now(*_: object) -> None:
    pass


def _repair_by_what_was_read() -> AbstractContextManager[object]:
    real = reading._pread
    known: dict[tuple[str, int, int], Any] = {}

    async def pread(mirror: Mirror, part: Any) -> Any:
        key = part.plex.uuid, part.offset, part.length
        if not mirror.ranges.holders or key not in known:
            known[key] = await real(mirror, part)
        return known[key]

    return patch.object(reading, "_pread", pread)


@contextmanager
def _content_is_not_asked() -> Iterator[None]:
    def changed(left: stamps.Stamp | None, now: stamps.Stamp | None, *, is_block: bool) -> str:
        return stamps.changed(None if left is None else replace(left, content=()), now, is_block=is_block)

    with patch.object(joining, "changed", changed), patch.object(standing, "changed", changed):
        yield


@contextmanager
def _changed_is_failed() -> Iterator[None]:
    """Neither its map nor its stamp tells that somebody else changed it."""
    real = Volume._close

    def close(self: Volume, plex: Plex, state: PlexState, why: object = None) -> None:
        real(self, plex, state)

    with patch.object(Volume, "_close", close), patch.object(stamping, "PlexChanged", ZeroDivisionError):
        yield


SWITCHES = {
    "1 mark before write": _no_mark,
    "2a fdatasync before clear": _clean_without_fdatasync,
    "2a maps before clear": _clean_without_maps,
    "2b unsynced stays in the map": _page_without_unsynced,
    "3 a closed gate remembers": _forgetful_gate,
    "4 detach inherits the DRL": _detach_without_drl,
    "5 a verdict waits for the record": _hasty_verdict,
    "6 sync before promote": _hasty_promotion,
    "7 after a crash one copy is right": _no_source_chosen,
    "8 doubt is dirt": _doubt_is_clean,
    "8 two slots": _one_slot,
    "9 the last one stays": _last_one_goes,
    "10 ranges exclude": _no_exclusion,
    "10 page writes are serial": lambda: _without_lock(Store, "pages"),
    "10 commits are serial": lambda: _without_lock(Ledger, "commits"),
    "quick: whoever holds the bytes is waited for": lambda: patch.object(Ranges, "is_free", lambda *_: True),
    "quick: a closed gate remembers": _forgetful_quick_write,
    "quick: a cleaning sees it": lambda: patch.object(DirtyRegionLog, "touch", _touch_unseen),
    "what may still land is not read": lambda: patch.object(OpenPlex, "may_change", lambda *_: False),
    "quick: a cleaning ends the tick": lambda: patch.object(DirtyRegionLog, "end_tick", lambda self: self._tick),
    "quick: an unrecorded demotion is waited for": lambda: without(
        Quick, "write", "volume.demotions_recorded < volume.demotions\n"
    ),
    "now: what one does not take is asked of all again": lambda: without(
        Quick, "write", "not (taken := disk.backing.pwrite_now(offset, data))"
    ),
    "begun: its bytes are held until it ends": _begun_without_its_bytes,
    "begun: its extents are pending until it ends": _begun_without_its_extents,
    "2a a demotion during a cleaning ends it": lambda: without(Mirror, "_clean", "volume.demotions != demotions"),
    "a flush joins no round under way": _flushes_join_a_round,
    "one round of fdatasyncs at a time": _rounds_at_once,
    "a repair reads anew, with the bytes held": _repair_by_what_was_read,
    "home first": _copies_before_home,
    "an error does not end a far write": lambda: patch.object(Lane, "failed", lambda *_: None),
    "what others changed is not believed": _changed_is_failed,
    "no DCO is no damaged DCO": lambda: patch.object(joining, "_must_be_named", lambda *_: None),
    "a pause of the daemon is no disk's fault": lambda: patch.object(
        Attention, "current_time", lambda clock: clock._now()
    ),
    "nothing hangs at a join": _join_while_hanging,
    "pages count for the position": lambda: patch.object(images, "is_newer", lambda *_: False),
    "a foreign plex is refused": _foreign_is_welcome,
    "what was written elsewhere is seen": _content_is_not_asked,
    "checksums: wiped before the DRL forgets": lambda: patch.object(Checksums, "_wipe", _nothing),
    "checksums: what is marked has none": lambda: patch.object(Checksums, "_marked", lambda *_: False),
    "split brain: by the map there too": _theirs_is_not_asked,
    "split brain: by the map here too": _only_theirs_is_asked,
}
"""Rule -> a context manager that takes it out."""
