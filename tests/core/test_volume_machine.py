"""A volume against a model of its disks: any order of writes, copies, fdatasyncs, pages, records, gates and crashes.

The engine's part is played by the rules here, in steps that a simulation of it (tests/sim) would take at random; what
this one adds is that hypothesis shrinks what it finds. Everything of the DCO is one home copy: old or new while a
write of it is under way, and after one that failed.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace

from bitarray import frozenbitarray
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fmrd.core.decisions.recovery import open_volume, seed
from fmrd.core.decisions.standing import Found, StartOptions, judge_plexes
from fmrd.core.images import CopyImage, PageSlot
from fmrd.core.maps.drl import CleanToken
from fmrd.core.plans import FINE, SyncPlan, WritePlan
from fmrd.core.record import Record
from fmrd.core.states import PlexState
from fmrd.core.volume import writing
from fmrd.core.volume.family import Family
from fmrd.core.volume.plex import Plex
from fmrd.errors import FmrdError, Refused
from tests.core.making import EIO, REGION, REGIONS, Rig
from tests.core.model import Disk, Oracle

SPANS = [range(0, 1), range(0, 2), range(1, 2), range(2, 3), range(5, 7)]
"""Where writes go: few places, so that what happens happens to the same ones, in two extents of one page and beyond."""
Key = tuple[int, int]


@dataclass
class Write:
    plan: WritePlan
    label: int
    failing: list[Plex]
    acknowledged: bool | None = None


@dataclass
class Sync:
    plan: SyncPlan
    marks: dict[str, list[int]]
    flush: list[set[int]]
    token: CleanToken
    demotions: int
    done: bool = False


@dataclass
class Copying:
    target: Plex
    generation: int
    dropped: int
    region: int


@dataclass
class Home:
    """The home copy of the DCO. ``pages`` and ``records``: what may be read; more than one while it is open which."""

    pages: dict[Key, list[frozenbitarray]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)


class AVolumeAndItsDisks(RuleBasedStateMachine):
    @initialize(plexes=st.sampled_from([2, 3, 2, 1]), attaching=st.booleans())
    def make(self, plexes: int, attaching: bool) -> None:
        states = [PlexState.ACTIVE] * plexes
        if plexes > 1 and attaching:
            states[-1] = PlexState.TEMP
        rig = Rig(*states)
        self.volume, self.family = rig.volume, rig.family
        self.disks = {plex.uuid: Disk() for plex in rig.plexes}
        self.oracle = Oracle()
        self.forget()
        self.home = Home()
        self.volume.drl.end_clean(self.volume.drl.begin_clean())
        self.commit(everything=True)

    def forget(self) -> None:
        """What was under way is no more."""
        self.writes: list[Write] = []
        self.syncs: list[Sync] = []
        self.copies: list[Copying] = []
        self.flying: dict[Key, frozenbitarray] = {}
        self.landing: Record | None = None
        self.waiting: list[Write | Sync] = []
        """Verdicts that wait for the record (rule 5)."""
        self.events = 0

    # The home copy

    def page_begins(self, key: Key) -> None:
        self.flying[key] = self.volume.page(*key)
        self.home.pages[key] = [*self.home.pages.get(key, []), self.flying[key]]

    def page_ends(self, key: Key) -> None:
        content = self.flying.pop(key)
        self.home.pages[key] = [content]
        self.volume.page_written(*key, content)

    def write_pages(self, keys: list[Key]) -> None:
        for key in keys:
            if key in self.flying:
                self.page_ends(key)
            self.page_begins(key)
            self.page_ends(key)

    def commit(self, *, everything: bool = False) -> None:
        self.commit_begins(everything=everything)
        self.commit_ends()

    def commit_begins(self, *, everything: bool = False) -> None:
        self.family.sequence += 1
        self.demotions = self.volume.demotions
        self.landing = self.family.record(self.family.sequence)
        self.family.begin_commit(self.landing)
        columns = self.volume.columns() if everything else []
        keys = {(column.index, page) for column in columns for page in range(self.volume.geometry.pages)}
        self.write_pages(sorted(keys | set(self.volume.touched_pages())))
        self.home.records = [*self.home.records[-1:], self.landing]

    def commit_ends(self) -> None:
        assert self.landing is not None
        self.family.end_commit(self.landing)
        self.home.records = [self.landing]
        for plex in self.volume.open_plexes():
            plex.has = self.landing.position
        self.landing = None
        self.volume.demotions_recorded = max(self.volume.demotions_recorded, self.demotions)
        self.acknowledge()

    def behind(self) -> bool:
        """Is there anything that a record would tell?"""
        gates = any(plex.is_open is not plex.home_open for plex in self.volume.plexes)
        return gates or bool(self.due()) or self.volume.demotions_recorded < self.volume.demotions

    @precondition(lambda self: self.landing is None and self.behind())
    @rule(at_once=st.booleans())
    def a_record_is_written(self, at_once: bool) -> None:
        self.commit_begins()
        if at_once:
            self.commit_ends()

    @precondition(lambda self: self.landing is not None)
    @rule(fails=st.booleans())
    def the_record_has_landed_or_failed(self, fails: bool) -> None:
        if fails:
            self.home.records = self.home.records[-2:]
            self.landing = None
        else:
            self.commit_ends()

    def due(self) -> list[Key]:
        return [key for key in self.volume.touched_pages() if key not in self.flying]

    @precondition(lambda self: self.due())
    @rule(data=st.data())
    def a_page_is_written(self, data: st.DataObject) -> None:
        self.page_begins(data.draw(st.sampled_from(self.due())))

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), fails=st.booleans())
    def a_page_has_landed_or_failed(self, data: st.DataObject, fails: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.flying)))
        if fails:
            del self.flying[key]
            self.volume.page_failed(*key)
        else:
            self.page_ends(key)

    # Writes

    def free(self) -> list[range]:
        return [span for span in SPANS if not self.held(span)]

    @precondition(lambda self: self.free())
    @rule(whole=st.booleans(), at_once=st.booleans(), data=st.data())
    def a_write_is_issued(self, whole: bool, at_once: bool, data: st.DataObject) -> None:
        """Not whole: it begins one sector late, so it heals nothing in its first region. Where it fails it may have
        been done all the same.
        """
        regions = data.draw(st.sampled_from(self.free()))
        self.events += 1
        offset, length = self.volume.geometry.bytes_of(regions)
        offset, length = (offset, length) if whole else (offset + 512, length - 512)
        extents = self.volume.geometry.extents_of(offset, length)
        self.volume.drl.enter(extents)
        if not self.volume.drl.is_durable(extents):
            self.write_pages([(0, page) for page in {extent // 2 for extent in extents}])
        plan = self.volume.choose_targets(offset, length)
        label = self.oracle.issue(regions)
        failing = self.some([target.plex for target in plan.targets], data)
        for target in plan.targets:
            if target.plex in failing and data.draw(st.booleans()):
                continue
            for at, size in target.parts:
                for region in self.volume.geometry.regions_of(at, size):
                    self.disks[target.plex.uuid].write(region, label)
        self.writes.append(Write(plan, label, failing))
        if at_once:
            self.end_write(self.writes[-1], data)

    @precondition(lambda self: self.writes)
    @rule(data=st.data())
    def a_write_ends(self, data: st.DataObject) -> None:
        self.end_write(data.draw(st.sampled_from(self.writes)), data)

    def end_write(self, write: Write, data: st.DataObject) -> None:
        errors = {plex.uuid: EIO for plex in write.failing}
        if not errors and writing.is_fine(write.plan):
            before = [plex.map.bits.copy() for plex in self.volume.plexes]
            assert writing.judge(self.volume, write.plan, {}, settled=False) == (FINE, [])
            assert before == [plex.map.bits for plex in self.volume.plexes]
        verdict = self.volume.end_write(write.plan, errors)
        if verdict.settle:
            self.finish_syncs()
            self.begin_sync()
            self.end_sync(self.syncs[0], self.some(self.volume.open_plexes(), data))
            if self.landing is not None:
                self.commit_ends()
            if data.draw(st.booleans()):
                self.commit()
            verdict = self.volume.end_write(write.plan, errors, settled=True)
            assert not verdict.settle
        self.volume.drl.leave(write.plan.extents)
        self.writes.remove(write)
        write.acknowledged = verdict.error is None
        self.waiting.append(write)
        self.acknowledge()

    def some(self, plexes: list[Plex], data: st.DataObject) -> list[Plex]:
        """Those that fail; mostly none."""
        if not plexes or data.draw(st.integers(0, 2)):
            return []
        return data.draw(st.lists(st.sampled_from(plexes), unique_by=id, max_size=2))

    def acknowledge(self) -> None:
        if self.volume.demotions_recorded < self.volume.demotions:
            return
        for disk in self.disks.values():
            disk.recorded()
        for verdict in self.waiting:
            if isinstance(verdict, Sync):
                self.oracle.end_flush(verdict.flush, acknowledged=verdict.done)
            elif verdict.acknowledged:
                self.oracle.acknowledge(verdict.plan.regions, verdict.label)
        self.waiting = []

    def held(self, regions: range) -> bool:
        """Is a write or a copy under way there (rule 10), or an answer still to be given?"""
        busy = {r for w in self.writes for r in w.plan.regions} | {c.region for c in self.copies}
        busy |= {r for w in self.waiting if isinstance(w, Write) for r in w.plan.regions}
        return bool(busy & set(regions))

    # Flushes, and the cleaning of the DRL

    @precondition(lambda self: not self.syncs and any(any(d.unsynced) for d in self.disks.values()))
    @rule()
    def begin_sync(self) -> None:
        token, demotions = self.volume.drl.begin_clean(), self.volume.demotions
        plan = self.volume.begin_sync()
        marks = {target.plex.uuid: self.disks[target.plex.uuid].mark() for target in plan.targets}
        self.syncs.append(Sync(plan, marks, self.oracle.begin_flush(), token, demotions))

    @precondition(lambda self: self.syncs)
    @rule(data=st.data(), clean=st.booleans())
    def a_flush_ends(self, data: st.DataObject, clean: bool) -> None:
        sync = self.syncs[0]
        self.end_sync(sync, self.some([target.plex for target in sync.plan.targets], data))
        if clean and self.volume.demotions == sync.demotions:
            self.write_pages(self.volume.touched_pages())
            self.volume.drl.end_clean(sync.token, self.volume.suspect_extents())
            self.write_pages([(0, page) for page in sorted(self.volume.drl.marked.touched)])

    def end_sync(self, sync: Sync, failing: list[Plex]) -> None:
        self.syncs.remove(sync)
        for uuid, mark in sync.marks.items():
            self.disks[uuid].end_sync(mark, failed=uuid in {plex.uuid for plex in failing})
        verdict = self.volume.end_sync(sync.plan, {plex.uuid: EIO for plex in failing})
        sync.done = verdict.error is None
        self.waiting.append(sync)
        self.acknowledge()

    def finish_syncs(self) -> None:
        for sync in list(self.syncs):
            self.end_sync(sync, [])

    # Copies and gates

    def wanted(self) -> list[tuple[Plex, int]]:
        """What a resync could copy now."""
        plexes = self.volume.open_plexes()
        return [(p, r) for p in plexes for r in p.map.bits.search(1) if not self.held(range(r, r + 1))]

    def source(self, target: Plex, region: int) -> Plex | None:
        """The plex that a copy would be read from."""
        try:
            [part] = self.volume.plan_read(region * REGION, REGION, without=(target,))
        except FmrdError:
            return None
        return part.plex

    @precondition(lambda self: self.wanted())
    @rule(data=st.data())
    def a_copy_begins(self, data: st.DataObject) -> None:
        target, region = data.draw(st.sampled_from(self.wanted()))
        source = self.source(target, region)
        if source is not None:
            self.copies.append(Copying(target, target.generation, target.dropped, region))
            self.disks[target.uuid].write(region, self.disks[source.uuid].cache[region])

    @precondition(lambda self: self.copies)
    @rule(fails=st.sampled_from([False, False, True]))
    def a_copy_ends(self, fails: bool) -> None:
        copy = self.copies.pop(0)
        if copy.target.generation != copy.generation:
            return
        if fails:
            self.volume.fail_plex(copy.target, EIO)
        else:
            self.volume.copied(copy.target, range(copy.region, copy.region + 1), copy.dropped)

    @precondition(lambda self: self.wanted())
    @rule()
    def a_resync_runs_to_its_end(self) -> None:
        for target, region in self.wanted():
            source = self.source(target, region)
            if source is not None:
                self.disks[target.uuid].write(region, self.disks[source.uuid].cache[region])
                self.volume.copied(target, range(region, region + 1), target.dropped)

    @precondition(lambda self: any(plex.attaching and plex.settled for plex in self.volume.plexes))
    @rule()
    def plexes_are_promoted(self) -> None:
        for plex in self.volume.plexes:
            self.volume.promote(plex)

    @precondition(lambda self: len(self.volume.open_plexes()) > 1)
    @rule(data=st.data(), by_error=st.booleans())
    def a_plex_leaves(self, data: st.DataObject, by_error: bool) -> None:
        plex = data.draw(st.sampled_from(self.volume.open_plexes()))
        if by_error:
            self.volume.fail_plex(plex, EIO)
        else:
            with suppress(Refused):
                self.volume.close_gate(plex, PlexState.STALE)

    def welcome(self) -> list[Plex]:
        """Those that may join: not while a call issued on them earlier has not ended."""
        busy = {t.plex.uuid for w in self.writes for t in w.plan.targets} | {c.target.uuid for c in self.copies}
        busy |= {uuid for sync in self.syncs for uuid in sync.marks}
        return [p for p in self.volume.plexes if not p.is_open and p.uuid not in busy]

    @precondition(lambda self: self.landing is None and self.welcome())
    @rule(data=st.data())
    def a_plex_joins(self, data: st.DataObject) -> None:
        plex = data.draw(st.sampled_from(self.welcome()))
        self.commit()
        plex.has = self.home.records[-1].position
        self.volume.open_gate(plex)

    # The end

    @precondition(lambda self: self.events > 2)
    @rule(data=st.data(), power=st.booleans(), between=st.booleans())
    def crash_and_start(self, data: st.DataObject, power: bool, between: bool) -> None:
        """``between``: and once more after the opening commit, before a source was chosen."""
        self.oracle.crash(power=power)
        for _, disk in sorted(self.disks.items()):
            if power:
                disk.lose_power(lambda labels: data.draw(st.sampled_from(labels)))
            else:
                disk.kill()
        self.start(data)
        if between:
            self.start(data)
        if self.volume.drl.count:
            seed(self.volume)
            self.commit()
        self.everybody_agrees()

    def start(self, data: st.DataObject) -> None:
        record = data.draw(st.sampled_from(self.home.records))
        self.home.records = [record]
        pages = {}
        for (column, page), contents in sorted(self.home.pages.items()):
            epoch = next(c.epoch for c in self.volume.columns() if c.index == column)
            slot = PageSlot(epoch, 1, data.draw(st.sampled_from(contents)))
            self.home.pages[column, page] = [slot.bits]
            pages[column, page] = (slot, slot)
        home = CopyImage((record, record), pages)
        found = {p.uuid: Found(True, replace(home, owner=p.uuid)) for p in record.volume.plexes}
        away = self.some(self.volume.plexes, data)
        settings, options = record.volume, StartOptions()
        try:
            partly = found | {plex.uuid: Found(False) for plex in away}
            volume, _ = open_volume(record, settings, home, partly, judge_plexes(record, settings, partly, options))
        except Refused:  # without those that are away; with all of them it must do
            volume, _ = open_volume(record, settings, home, found, judge_plexes(record, settings, found, options))
        self.volume = volume
        self.family = Family.of(record, [volume])
        self.family.begin_lineage(f"after {record.sequence}")
        self.forget()
        self.commit(everything=True)

    @invariant()
    def everybody_agrees(self) -> None:
        """Where nothing is under way, every plex that may serve a read returns what is allowed, and all the same."""
        for region in range(REGIONS):
            if self.held(range(region, region + 1)):
                continue
            current = [p for p in self.volume.plexes if p.is_current(range(region, region + 1))]
            assert current, f"nobody holds region {region}"
            for plex in current:
                self.oracle.seen(region, self.disks[plex.uuid].cache[region])

    @invariant()
    def what_is_suspect_is_in_the_drl(self) -> None:
        dirty = self.volume.drl.regions()
        for plex in self.volume.open_plexes():
            assert plex.suspect is None or not (plex.suspect.bits & ~dirty).any()


TestAVolumeAndItsDisks = AVolumeAndItsDisks.TestCase
TestAVolumeAndItsDisks.settings = settings(max_examples=max(200, settings().max_examples))
