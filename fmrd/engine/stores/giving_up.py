"""An instant snapshot is given up: it is lost durably, and only then its room is given back (PROTOCOLS, "Stores")."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from fmrd.core.decisions import instant
from fmrd.core.stores.room import Member
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.writes_under_way import Zeroer

log = logging.getLogger(__name__)
Begin = Callable[[Callable[[], Awaitable[Any]]], None]


class Going:
    """Those that are being given up, beside everything else: the home copy and the disks of one's original may take
    longer than whoever needs the room can wait for. ``begin`` begins that.
    """

    def __init__(self, begin: Begin) -> None:
        self.uuids: set[str] = set()
        self._begin = begin

    async def give_up(self, mirror: Mirror, tell: Callable[[], None], seconds: float) -> bool:
        """As ``give_up``; return False where it has not ended in that time: it goes on then."""
        uuid, ended = mirror.volume.settings.uuid, trio.Event()
        errors: list[Exception] = []
        waited_for = True

        async def run() -> None:
            try:
                if may_go(mirror):  # others may have begun to stop it
                    await give_up(mirror, tell)
            except Exception as error:  # raised below, by whoever still waits for it
                errors.append(error)
                if not waited_for:
                    log.warning("snapshot %s is given up, and has its room still: %s", mirror.volume.name, error)
            finally:
                self.uuids.discard(uuid)
                ended.set()

        self.uuids.add(uuid)
        self._begin(run)
        with trio.move_on_after(seconds):
            await ended.wait()
        waited_for = False
        if errors:
            raise errors[0]
        return ended.is_set()


def _origin_of(mirror: Mirror) -> Mirror | None:
    """The original's, if it is started."""
    original = mirror.store.family.original_of(mirror.volume)
    return None if original is None else mirror.kin.get(original.settings.uuid)


def may_go(mirror: Mirror) -> bool:
    """Tell whether it can be given up in this step: it is an instant snapshot, nobody stops it or takes its plex, its
    disk answers, and its original is there to be told, and not about to stop.
    """
    volume, origin = mirror.volume, _origin_of(mirror)
    if not volume.settings.is_instant or origin is None or mirror.load.closed or mirror.life.ended:
        return False
    if origin.load.closed or origin.life.ended:
        return False  # what it writes down last would not have it
    if volume.settings.uuid not in origin.volume.unkept or not volume.plexes:
        return False
    disk = mirror.opened.get(volume.plexes[0].uuid)
    return disk is not None and not disk.lane.hung


def what_is_lost(mirror: Mirror) -> tuple[bool, bool]:
    """Return whether it has lost something, and whether everything."""
    origin = _origin_of(mirror)
    assert origin is not None, "may_go was asked in this step"
    unkept = origin.volume.unkept[mirror.volume.settings.uuid]
    return unkept.map.any(), instant.is_given_up(origin.volume, mirror.volume)


def member(mirror: Mirror, held_bytes: int) -> Member:
    """Return what is known of one that ``may_go``."""
    settings = mirror.volume.settings
    some, everything = what_is_lost(mirror)
    at = settings.taken.at if settings.taken is not None else 0.0
    return Member(settings.uuid, settings.name, at, held_bytes, some, everything, settings.receiving is not None)


def told(chosen: Member, mirror: Mirror, store: str, why: str) -> tuple[str, str]:
    """Return how an event says so: a sentence, and what to do."""
    origin = mirror.volume.settings.snapshot_of
    what = "it was invalid already" if chosen.lost_some else "it was the oldest there"
    return (
        f"snapshot {chosen.name} of volume {origin} is invalid: {why}, and {what}; the {chosen.held_bytes} bytes that "
        "it had kept are given back",
        f"fmrctl store resize {store} SIZE, then take another one of {origin}",
    )


async def give_up(mirror: Mirror, tell: Callable[[], None]) -> None:
    """Lose all of a snapshot that ``may_go``, and give its room back; ``tell`` is called where it was not lost before.
    While this is under way it counts as a request of the snapshot's, whose plex stays its own, and of the original's,
    which does not stop before it is written down. OSError, FmrdError: then
    it is lost, and its room is given back when somebody needs it next.
    """
    origin, volume, store = _origin_of(mirror), mirror.volume, mirror.store
    assert origin is not None, "may_go was asked in this step"
    plex = volume.plexes[0]
    disk, unkept = mirror.opened[plex.uuid], origin.volume.unkept[volume.settings.uuid]
    with mirror.load.request(volume), origin.load.request(origin.volume):
        known = instant.is_given_up(origin.volume, volume)
        instant.give_up(origin.volume, volume)
        if not known:
            tell()
        await origin.store.write_pages((unkept.column.index, page) for page in sorted(unkept.due_pages))
        await store.write_pages(volume.touched_pages())
        spans = [volume.geometry.bytes_of(run) for run in plex.map.runs()]
        punch = Zeroer(disk.backing, tuple([(at, at + size) for at, size in spans]), True)
        plex.dropped += 1  # a write under way beside this heals nothing
        try:
            call = disk.writing(punch, punch.spans, inline=False)
            [outcome] = await mirror.system.in_turn([call], mirror.timeout_seconds)
        finally:
            plex.dropped += 1
        if outcome.error is not None:
            raise outcome.error
