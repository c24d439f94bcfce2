"""A volume is the truth about itself. Each public method is one synchronous step, so nobody sees a change half done.

It does no I/O: it returns plans and judges outcomes. The rules it keeps by itself: 1 (choose_targets asserts that the
marks are durable), 3 (choose_targets marks closed gates in the same step), 4 (a gate that closes here does so by
_close), 6 (promote), 9 (faults.py, in the step that closes). The rest is a matter of order, in dco/ and engine/.

The long ones are worked out beside it: reading.py, writing.py, flushing.py, pages.py; and faults.py, by break-offs too.
"""

from collections.abc import Mapping, Sequence

from bitarray import bitarray, frozenbitarray

from fmrd.core.plans import FINE, ReadPart, SyncPlan, Verdict, WritePlan
from fmrd.core.reasons import Reason
from fmrd.core.states import OPEN_GATE, PROMOTED, PlexState
from fmrd.core.volume import faults, flushing, lagging, pages, reading, writing
from fmrd.core.volume.facts import VolumeFacts
from fmrd.core.volume.plex import Plex
from fmrd.errors import Failed, PlexChanged, Refused


class Volume(VolumeFacts):
    """A volume is its facts and the steps in which they change. Offsets and lengths are bytes; errors, by plex uuid."""

    # Reads

    def plan_read(self, offset: int, length: int, without: tuple[Plex, ...] = ()) -> list[ReadPart]:
        """Return who serves which bytes: only plexes that are current there. Failed('io_error') where nobody is."""
        candidates = [p for p in self.open_plexes() if p not in without]
        return reading.parts_of(self, offset, length, candidates)

    def holders(self, offset: int, length: int) -> list[Plex]:
        """Return the plexes that are current in all of it."""
        found = []
        for plex in self.plexes:
            if plex.state in OPEN_GATE and (
                plex.map.blank or not plex.map.touches(self.geometry.regions_of(offset, length))
            ):
                found.append(plex)
        return found

    # Writes

    def choose_targets(self, offset: int, length: int) -> WritePlan:
        """Return who takes which bytes. By rule 1 the DRL is durable here; by rule 3 closed gates remember now."""
        regions = self.geometry.regions_of(offset, length)
        extents = self.geometry.extents_of(offset, length)
        assert self.drl.is_durable(extents), "rule 1: mark before write"
        if self.tracks:
            self._track(regions)
        for plex in self.plexes:
            if plex.state not in OPEN_GATE:
                self._remember(plex, regions)
            elif plex.trails and plex.lags:
                lagging.leave_behind(plex, offset, length, self.plexes)
                self.left_behind(plex)
        return WritePlan(offset, length, regions, extents, writing.targets_of(self, offset, length))

    plain_targets = writing.plain_targets

    def _remember(self, plex: Plex, regions: range) -> None:
        """Keep rule 3; a function of its own, so that the simulation can take the rule out."""
        plex.map.mark(regions)

    def _track(self, regions: range) -> None:
        """Mark what a snapshot, or the original, is compared by; the simulation can take this out, as ``_remember``."""
        for track in self.tracks.values():
            track.map.mark(regions)

    def end_write(self, plan: WritePlan, errors: Mapping[str, Exception], *, settled: bool = False) -> Verdict:
        """Judge a write, while its bytes are held. Who hears ``settle`` settles, and asks again with ``settled``."""
        if not errors and writing.is_fine(plan):
            return FINE
        verdict, demoted = writing.judge(self, plan, errors, settled=settled)
        for plex in demoted:
            self._close(plex, PlexState.IOFAIL, errors[plex.uuid])
        return verdict

    # Flushes

    def begin_sync(self, plexes: Sequence[Plex] | None = None) -> SyncPlan:
        """Return the plan of an fdatasync of every open plex (or of these), which is about to begin."""
        return SyncPlan(tuple(flushing.begin(p) for p in (self.open_plexes() if plexes is None else plexes)))

    def end_sync(self, plan: SyncPlan, errors: Mapping[str, Exception]) -> Verdict:
        """Judge it: a plex whose fdatasync failed is demoted, or, as the last copy, has holes and suspect regions."""
        failed = flushing.end_batches(self, plan, errors)
        events: list[str] = []
        for plex in failed:
            self.demotions, why = self.demotions + 1, errors[plex.uuid]
            if faults.may_close(plex, self.plexes):
                self._close(plex, PlexState.IOFAIL, why)
                events.append(f"plex {plex.name} detached (IOFAIL) after a flush error: {why}")
            else:
                flushing.stays(self, plex)
                events.append(f"plex {plex.name} failed a flush and is the last copy of some regions: {why}")
        return Verdict(self.suspicion(), events=tuple(events))

    def suspicion(self) -> Failed | None:
        """Return the error of a flush while regions are suspect, else None."""
        return flushing.suspicion(self)

    def suspect_extents(self) -> bitarray | None:
        """Return the extents that must stay in the DRL, bits by extent; None if there are none."""
        return flushing.suspect_extents(self)

    # Gates

    def _close(self, plex: Plex, state: PlexState, why: object = None) -> None:
        """Rule 4, fmr=off, and a plex that others changed: what is not surely on it goes into its map."""
        plex.close_gate(state, runs=self.drl.runs(), why=why)
        plex.stamp = None
        if plex.reason in (Reason.RECOVERY, Reason.RESTORE):
            plex.reason = Reason.NONE
        if not self.settings.fmr:
            plex.map.fill()
            plex.reason = Reason.FULL_FMR_OFF
        if isinstance(why, PlexChanged):
            plex.map.fill()
            plex.reason = Reason.FULL_BACKING_CHANGED
        self.gate_closed(plex)

    def close_gate(self, plex: Plex, state: PlexState, *, failing: bool = False) -> None:
        """Detach; Refused('last_plex') where nobody else holds a region durably, tested in this same step (rule 9)."""
        if plex.is_open:
            missing = faults.count_uncovered(plex, self.plexes)
            if missing:
                raise Refused(
                    "last_plex",
                    f"plex {plex.name} is the last current copy of {missing} region(s) of volume {self.name}",
                    "attach another plex and let it finish, or stop the volume",
                )
            self._close(plex, state)
            self.demotions += 1
        else:
            plex.state = state
        if failing:
            plex.errors += 1

    def fail_plex(self, plex: Plex, why: object) -> str | None:
        """Demote a plex, if it may go, for an error of its DCO copy or a hang. Return a sentence for the log."""
        if not plex.is_open or plex not in self.plexes:  # out already, or another volume's by now
            return None
        plex.errors += 1
        if not faults.may_close(plex, self.plexes):
            return f"plex {plex.name} failed and stays, as the last copy of some regions: {why}"
        self._close(plex, PlexState.IOFAIL, why)
        self.demotions += 1
        return f"plex {plex.name} detached (IOFAIL): {why}"

    def copied(self, plex: Plex, regions: range, dropped: int) -> bool:
        """A resync copied these: current now, durable after the next fdatasync (rule 2b). ``dropped`` is that of the
        plex when the copy began. Return False where an fdatasync failed since, and may have dropped what was copied.
        """
        if plex.dropped == dropped:
            plex.drained(regions)
        return plex.dropped == dropped

    def copied_these(self, plex: Plex, start: int, bits: bitarray, dropped: int) -> bool:
        """A resync copied the regions that ``bits`` names, counted from ``start``: as ``copied``."""
        if plex.dropped != dropped:
            return False
        plex.drained_these(start, bits)
        return True

    def recovered(self, plex: Plex) -> None:
        """The map of an ACTIVE plex is empty again after a crash, a hole or a restore."""
        plex.reason = Reason.NONE

    def may_repair(self, plex: Plex, regions: range) -> bool:
        """Do others hold the regions durably? A read repair makes the plex doubtful until its next fdatasync."""
        held = all(faults.held_elsewhere(plex, region, self.plexes, ()) for region in regions)
        return held and plex in self.plexes and plex.is_current(regions)

    def repaired(self, plex: Plex, regions: range) -> None:
        """The same bytes were written back: no mark is needed, and no promise is made before the next fdatasync."""
        plex.young.mark(regions)

    def distrust_others(self, regions: range) -> None:
        """Where open plexes differed and are made equal, a detached one or a snapshot may hold what was given up."""
        self._track(regions)
        lagging.doubt(self.plexes, regions)
        for plex in self.plexes:
            if not plex.is_open:
                self._remember(plex, regions)

    def make_holes(self, plex: Plex, regions: range) -> bool:
        """Make holes of regions that failed here, outside a write, where others hold them durably. True if any."""
        held = [r for r in regions if r not in plex.map and faults.held_elsewhere(plex, r, self.plexes, (plex,))]
        for region in held:
            plex.map.mark(range(region, region + 1))
        self.demotions += bool(held)
        return bool(held)

    def relieve(self, plex: Plex) -> bool:
        """Make holes of suspect regions that others hold durably by now, to be copied back. True if any."""
        before = plex.map.count()
        faults.make_holes_of_suspects(plex, self.plexes)
        gained = plex.map.count() > before
        self.demotions += gained
        return gained

    def open_gate(self, plex: Plex) -> None:
        """Open the gate, in the step that ends a join (Store.join)."""
        plex.state = PlexState.SNAPATT if plex.snap else PlexState.TEMP
        plex.generation += 1
        plex.stamp = None
        plex.excluded = False

    def promote(self, plex: Plex) -> bool:
        """By rule 6 in sync means that each region is durably on it, and the home copy knows. True if it is now."""
        if plex.attaching and plex.settled:
            plex.state = PROMOTED[plex.state]
            plex.reason = Reason.NONE
            return True
        return False

    def add_plex(self, plex: Plex) -> None:
        """Add a new plex, its gate closed and its map all ones."""
        self.plexes.append(plex)

    def remove_plex(self, plex: Plex) -> None:
        """Dissociate a plex whose gate is closed."""
        assert not plex.is_open, "rule 9 is asked where a gate closes"
        self.plexes.remove(plex)

    # What the DCO holds

    def page(self, column: int, page: int) -> frozenbitarray:
        """Return the content of a page as it must be written now; a write of it is under way from here on."""
        return pages.content(self, column, page)

    def page_written(self, column: int, page: int, content: frozenbitarray) -> None:
        """A write of that content ended on the home copy and on every open travelling one."""
        pages.written(self, column, page, content)

    def page_failed(self, column: int, page: int) -> None:
        """The home copy did not take it: the page is due again."""
        pages.failed(self, column, page)

    def page_on_home(self, column: int, page: int) -> frozenbitarray:
        """Return what the home copy holds of a page (while none of it is being written); all ones if it has none."""
        return pages.on_home(self, column, page)

    def touched_pages(self) -> list[tuple[int, int]]:
        """Return (column, page) of every map page whose content is not surely in the DCO."""
        return [(b.column.index, page) for b in self.bitmaps() for page in sorted(b.due_pages)]
