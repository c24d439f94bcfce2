"""Marks, and what is told of changes, in a schedule: no byte that differs is ever missed.

What a volume held when a mark was set is known as what a snapshot holds is: by a *watch* on the original's oracle.
Where none of the labels that a granule may hold now is one that it may have held then, its region must be told.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bitarray import bitarray

from fmrd.core.decisions import changes
from fmrd.core.marks import RECEIVED
from fmrd.core.volume.volume import Volume
from fmrd.engine.maps.receiving import turn_of
from fmrd.engine.snapshots.pairs import pair_of
from tests.sim import snaps
from tests.sim.disks import GRANULE
from tests.sim.oracle import Broken

if TYPE_CHECKING:
    from tests.sim.life import Life
    from tests.sim.schedule import Schedule

NAMES = ("m0", "m1")
RECV = "RECV-v"
Held = list[set[int]]


@dataclass
class Marks:
    """By name: what the volume may have held then, and of the one that is being set what it holds."""

    held: dict[str, Held] = field(default_factory=dict)
    setting: dict[str, Held] = field(default_factory=dict)
    receives: str | None = None
    """What the volume is to hold by a verb that is under way."""
    turn: str | None = None
    """Of the stream that is received, as who writes it knows it; None where none is, or where data is put back."""

    def crash(self, schedule: "Schedule") -> None:
        """Of a stream only what was noted is surely there."""
        if self.turn is not None and RECV in schedule.snaps.oracles:
            schedule.snaps.oracles[RECV].forgets()

    def knows(self, name: str) -> bool:
        """Is it known which moment the mark is of, just now?"""
        begins = name in self.setting or (name == RECEIVED and self.receives is not None)
        return name in self.held and not begins


@snaps.one_at_a_time
async def mark(life: "Life") -> None:
    marks, oracle = life.schedule.marks, life.schedule.oracle
    if marks.setting:
        return
    name = life.rng.choice(NAMES)
    there = name in names_of(life.service.volume)
    watch = marks.setting[name] = oracle.begin_flush()
    done = await snaps.verb(life, "mark", volume=snaps.NAME, name=name, reset=there)
    if done:
        life.schedule.machine.alive()
    if name in marks.setting:
        del marks.setting[name]
        _was_set(life, name, watch, certain=done)
        oracle.end_flush(watch, acknowledged=False)


async def unmark(life: "Life") -> None:
    name = life.rng.choice(NAMES)
    if name in life.schedule.marks.held and not life.schedule.marks.setting:
        await snaps.verb(life, "mark", volume=snaps.NAME, name=name, delete=True)


@snaps.one_at_a_time
async def receive(life: "Life") -> None:
    """A stream begins, into a snapshot that is written as others are, or that becomes the volume's."""
    schedule = life.schedule
    unit = life.registry.units.get(RECV)
    if unit is None:
        await _begin_to_receive(life)
        return
    receiving = unit.settings.receiving if unit.settings is not None else None
    if receiving is None or RECV not in schedule.snaps.oracles or life.registry.find(RECV) is None:
        return
    if life.registry.find(snaps.NAME) is None:
        return
    now = turn_of(pair_of(life.registry, RECV))
    turn = now if receiving.partial else schedule.marks.turn
    told = {"volume": snaps.NAME, "stream": receiving.stream, "turn": turn}
    if life.rng.random() < 0.4:
        oracle = schedule.snaps.oracles[RECV]
        flush = oracle.begin_flush()
        taken = await snaps.verb(life, "receive_progress", **told, chunks=1, offset_bytes=0, chain="0" * 64)
        schedule.machine.alive()
        oracle.end_flush(flush, acknowledged=taken)
    else:
        schedule.marks.receives = None if receiving.partial else receiving.content.uuid
        await snaps._becomes(life, RECV, "receive_commit", **told)
        taken = RECV not in life.registry.units
        _was_received(life)
    if taken and turn != now:
        raise Broken("what came before the daemon ended, or a flush failed, counts")
    turned(life)


def is_of_a_stream(life: "Life", name: str) -> bool:
    """Does a stream come into it, so that nothing is durable before it is noted?"""
    unit = life.registry.units.get(name)
    receiving = unit.settings.receiving if unit is not None and unit.settings is not None else None
    return receiving is not None and not receiving.partial


def turned(life: "Life", *, heard: bool = True) -> None:
    """What was not noted may be gone. Whoever writes the stream may have ``heard`` of that, and goes on there."""
    marks, oracle = life.schedule.marks, life.schedule.snaps.oracles.get(RECV)
    started = life.registry.find(RECV) is not None and life.registry.find(snaps.NAME) is not None
    if oracle is None or not started or not is_of_a_stream(life, RECV):
        return
    turn = turn_of(pair_of(life.registry, RECV))
    if marks.turn not in (None, turn):
        oracle.forgets()
        life.schedule.count("turned")
    if heard or marks.turn is None:
        marks.turn = turn


async def _begin_to_receive(life: "Life") -> None:
    schedule = life.schedule
    length = life.service.volume.geometry.length_bytes
    number = schedule.snaps.taken
    schedule.snaps.taken += 1
    watch = schedule.snaps.watches[RECV] = schedule.oracle.begin_flush()
    source = snaps.some(life)
    if source is not None and life.rng.random() < 0.3:
        await snaps.verb(life, "restore_begin", volume=snaps.NAME, snapshot=source, spool=f"/recv{number}")
    else:
        await snaps.verb(
            life, "receive_begin", volume=snaps.NAME, stream=schedule.new_uuid(), snapshot=schedule.new_uuid(),
            name="S", length_bytes=length, spool=f"/recv{number}",
        )  # fmt: skip
    if RECV in schedule.snaps.watches:
        if RECV in life.registry.units:
            snaps._appeared(life, RECV, watch)
            schedule.marks.turn = None
            turned(life)
        schedule.oracle.end_flush(watch, acknowledged=False)
        del schedule.snaps.watches[RECV]


def _was_received(life: "Life") -> None:
    """It is all there, and the volume says so; or neither is."""
    marks, wanted = life.schedule.marks, life.schedule.marks.receives
    marks.receives = None
    if wanted is None:
        return
    unit = life.registry.units[snaps.NAME]
    settings = unit.service.volume.settings if unit.service is not None else unit.settings  # stopped meanwhile
    marks_there = settings.marks if settings is not None else ()
    mark = next((each for each in marks_there if each.name == RECEIVED), None)
    says_so = mark is not None and mark.holds is not None and mark.holds.uuid == wanted
    if says_so is (RECV in life.registry.units):
        raise Broken(f"the volume says {'that' if says_so else 'not that'} it holds what was received, and is wrong")
    if says_so:
        life.schedule.count("received")
        marks.held[RECEIVED] = [set(each) for each in life.schedule.oracle.now]


async def at_last(life: "Life") -> None:
    """What has come of a stream is given up."""
    there = RECV in life.registry.units and RECV in life.schedule.snaps.oracles
    if there and await snaps.verb(life, "receive_discard", volume=snaps.NAME):
        del life.schedule.snaps.oracles[RECV]


async def compare(life: "Life") -> None:
    look_at_maps(life)


def look(life: "Life") -> None:
    """After a crash: what was being set is there, or is not, or is the old one still."""
    marks = life.schedule.marks
    for name, watch in list(marks.setting.items()):
        del marks.setting[name]
        _was_set(life, name, watch, certain=False)
        life.schedule.oracle.end_flush(watch, acknowledged=False)
    _was_received(life)
    turned(life, heard=False)
    there = names_of(life.service.volume)
    marks.held = {name: held for name, held in marks.held.items() if name in there}


def _was_set(life: "Life", name: str, watch: Held, *, certain: bool) -> None:
    held = life.schedule.marks.held
    if name in held and not certain:
        held[name] = [a | b for a, b in zip(held[name], watch, strict=False)]
    else:
        held[name] = [set(each) for each in watch]


def names_of(volume: Volume) -> set[str]:
    return {mark.name for mark in volume.settings.marks}


def look_at_maps(life: "Life") -> None:
    """Broken where something differs for certain, and its region is not told."""
    if life.registry.find(snaps.NAME) is None:
        return
    origin, schedule = life.service.volume, life.schedule
    marks = [mark for mark in origin.settings.marks if schedule.marks.knows(mark.name)]
    for mark in marks:
        told = changes.written_since(origin, mark)
        _compare(origin, told, schedule.oracle.now, schedule.marks.held[mark.name], f"mark {mark.name}")
    volumes = list(_snapshots(life, origin))
    for snapshot in volumes:
        held = schedule.snaps.oracles[snapshot.name].now
        told = changes.since_original(origin, snapshot)
        _compare(snapshot, told, held, schedule.oracle.now, f"{snapshot.name} and its original")
        for other in volumes:
            if other is not snapshot:
                told = changes.since_snapshot(origin, snapshot, other)
                theirs = schedule.snaps.oracles[other.name].now
                _compare(snapshot, told, held, theirs, f"{snapshot.name} and {other.name}")
        for mark in marks:
            if snapshot.settings.uuid in mark.covers:
                told = changes.since_mark(origin, snapshot, mark)
                _compare(snapshot, told, held, schedule.marks.held[mark.name], f"{snapshot.name} and mark {mark.name}")


def _snapshots(life: "Life", origin: Volume) -> Iterator[Volume]:
    """Those of which it is known what they hold."""
    known, busy = life.schedule.snaps.oracles, {*life.schedule.snaps.watches, *life.schedule.snaps.restores}
    if not busy:
        family = life.service.mirror.store.family
        yield from (each for each in family.snapshots_of(origin) if each.name in known)


def _compare(volume: Volume, told: bitarray, now: Sequence[set[int]], then: Sequence[set[int]], what: str) -> None:
    for granule, (ours, theirs) in enumerate(zip(now, then, strict=False)):
        at = granule * GRANULE
        if ours.isdisjoint(theirs) and at < volume.geometry.length_bytes:
            [region] = volume.geometry.regions_of(at, GRANULE)
            if not told[region]:
                raise Broken(f"{what}: granule {granule} holds {sorted(ours)}, then {sorted(theirs)}, and is not told")


OPERATIONS = {"mark": mark, "unmark": unmark, "compare": compare, "receive": receive}
WEIGHTS = {"mark": 6, "unmark": 1, "compare": 12, "receive": 0}
CHANGES = frozenset({"mark", "unmark", "receive"})
