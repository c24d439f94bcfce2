"""Marks are set, set anew and let go of here. Each is one commit, and its instant is one like a snapshot's: no write of
the volume is under way in it, so that each is in the map or was before.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace

from fmrd.core.decisions.changes import find_mark
from fmrd.core.json_object import Json
from fmrd.core.maps.bitmap import Bitmap
from fmrd.core.marks import MOST_MARKS, RECEIVED
from fmrd.core.records.parts import Mark
from fmrd.core.volume.family import Family
from fmrd.core.volume.volume import Volume
from fmrd.dco.ledger import change
from fmrd.dco.rows.widening import make_room
from fmrd.engine.running import Running
from fmrd.errors import BadRequest, Failed, FmrdError, Refused


async def set_mark(running: Running, name: str, *, reset: bool) -> None:
    """Set a mark, or with ``reset`` empty it. Failed('mark_exists'), ('mark_missing') or ('plex_too_many'), Refused
    ('snap_of_snap') on a snapshot, whose map is there already.
    """
    family = running.mirror.store.family

    def step() -> None:
        volume = running.volume
        known = next((mark for mark in volume.settings.marks if mark.name == name), None)
        if reset:
            known = find_mark(volume, name)
        elif known is not None:
            raise Failed(
                "mark_exists", f"volume {volume.name} has a mark {name} already",
                f"fmrctl mark {volume.name} {name} --reset sets it anew",
            )  # fmt: skip
        put(family, volume, Mark(name, running.context.new_uuid(), volume.settings.drl, running.context.now()))

    must_take_marks(running.volume)
    must_be_free(name)
    if not reset:
        must_have_room(running.volume, name)
    await at_an_instant(running, step)


async def delete_mark(running: Running, name: str) -> None:
    """Let go of a mark, and of its column. Failed('mark_missing')."""
    async with running.verb():
        find_mark(running.volume, name)
        await change([running.mirror.store], lambda: drop(running.volume, name))


async def at_an_instant(running: Running, step: Callable[[], None]) -> None:
    """Take a step while no write of the volume is under way, and commit it. There is a column for it then."""
    async with running.verb():
        await make_room(running.mirror.store.ledger, 1, running.volume)
        with contextlib.suppress(FmrdError):  # so that a crash later does not bring back what was written before
            await running.mirror.clean()
        async with running.mirror.ranges.hold((0, running.volume.geometry.length_bytes)):
            await change([running.mirror.store], step)


def put(family: Family, volume: Volume, mark: Mark) -> None:
    """The step: a mark with an empty map (all ones without FastResync), in the place of one of its name. Its column is
    a new one. Failed('plex_too_many').
    """
    must_have_room(volume, mark.name)
    column = family.new_column(volume)
    drop(volume, mark.name)
    volume.tracks[mark.uuid] = Bitmap(column, volume.geometry, full=not volume.settings.fmr)
    volume.settings = replace(volume.settings, marks=(*volume.settings.marks, replace(mark, column=column)))


def drop(volume: Volume, name: str) -> None:
    """The step: no mark of that name, and no map of it, is left."""
    for mark in volume.settings.marks:
        if mark.name == name:
            del volume.tracks[mark.uuid]
    left = tuple(mark for mark in volume.settings.marks if mark.name != name)
    volume.settings = replace(volume.settings, marks=left)


def must_take_marks(volume: Volume) -> None:
    """Refused('snap_of_snap')."""
    if volume.settings.snapshot_of is not None:
        raise Refused(
            "snap_of_snap", f"volume {volume.name} is a snapshot, whose own map tells what was written to it",
            f"fmrctl changed {volume.name}",
        )  # fmt: skip


def must_have_room(volume: Volume, name: str) -> None:
    """Failed('plex_too_many') where a mark of that name would be one too many."""
    if sum(each.name != name for each in volume.settings.marks) >= MOST_MARKS:
        raise Failed(
            "plex_too_many", f"volume {volume.name} has {MOST_MARKS} marks already, the most that can be",
            f"fmrctl mark {volume.name} NAME --delete lets go of one",
        )  # fmt: skip


def must_be_free(name: str) -> None:
    """BadRequest('bad_name') for the name of what streams bring."""
    if name == RECEIVED:
        raise BadRequest("bad_name", f"the mark {RECEIVED!r} is that of 'fmrctl receive'", "another name")


def mark_json(volume: Volume, mark: Mark) -> Json:
    """Return a mark, and how much was written since."""
    written = volume.tracks[mark.uuid].map
    count = written.count()
    return {
        "name": mark.name,
        "since": mark.since,
        "dirty_regions": count,
        "dirty_bytes": volume.geometry.bytes_in(count, written.has_last),
        "percent_dirty": round(written.percent(), 2),
        "holds": None if mark.holds is None else {"name": mark.holds.name, "uuid": mark.holds.uuid},
    }
