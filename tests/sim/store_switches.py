"""The rules of stores as switches, as those of switches.py."""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from fmrd.core.decisions import instant
from fmrd.core.stores.room import Member
from fmrd.core.volume.plex import Plex
from fmrd.engine.serving import copy_on_write, keeping, reading
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.writes_under_way import Zeroer
from fmrd.engine.stores import giving_up, room
from fmrd.errors import Failed


def _the_original_fails() -> AbstractContextManager[Any]:
    real = keeping.Keeper._at_work
    Work = Callable[[Mirror, Plex, list[int]], Awaitable[None]]

    async def at_work(self: keeping.Keeper, regions: list[int], work: Work) -> str:
        why = await real(self, regions, work)
        if why.startswith("store_full"):
            raise Failed("store_full", why)
        return why

    return patch.object(keeping.Keeper, "_at_work", at_work)


def _the_newest_goes() -> AbstractContextManager[Any]:
    def newest(members: Iterable[Member]) -> Member | None:
        return max([each for each in members if each.held_bytes], key=lambda each: each.taken_at, default=None)

    return patch.object(room, "to_free", newest)


def _given_back_before_it_is_lost() -> AbstractContextManager[Any]:
    async def give_up(mirror: Mirror, tell: Callable[[], None]) -> None:
        origin, plex = giving_up._origin_of(mirror), mirror.volume.plexes[0]
        assert origin is not None
        with mirror.load.request(mirror.volume):
            instant.give_up(origin.volume, mirror.volume)
            tell()
            disk = mirror.opened[plex.uuid]
            punch = Zeroer(disk.backing, ((0, mirror.volume.geometry.length_bytes),), True)
            await mirror.system.in_turn([disk.writing(punch, punch.spans, inline=False)], mirror.timeout_seconds)

    return patch.object(giving_up, "give_up", give_up)


def _lost_counts_at_once() -> AbstractContextManager[Any]:
    return patch.object(instant, "untold", lambda origin, uuid, regions: set())


def _reads_do_not_ask_again() -> AbstractContextManager[Any]:
    real = copy_on_write._read_run

    async def read(mirror: Mirror, regions: range, offset: int, length: int) -> bytes:
        if mirror.volume.plexes[0].map.touches(regions):
            return await real(mirror, regions, offset, length)
        copy_on_write.check_lost(mirror, copy_on_write._origin_of(mirror), regions)
        return await reading.read_all(mirror, offset, length)

    return patch.object(copy_on_write, "_read_run", read)


def _what_is_granted_is_not_counted() -> AbstractContextManager[Any]:
    def grant(self: room.SharedRoom, size: int) -> None:
        self._under_way += size
        self._writers += 1

    return patch.object(room.SharedRoom, "_grant", grant)


SWITCHES = {
    "store: an original never fails for want of room": _the_original_fails,
    "store: the oldest is given up": _the_newest_goes,
    "store: lost before its room is given back": _given_back_before_it_is_lost,
    "store: lost counts once the home copy knows": _lost_counts_at_once,
    "store: a read asks again what it has read": _reads_do_not_ask_again,
    "store: what is granted counts": _what_is_granted_is_not_counted,
}
"""Rule -> a context manager that takes it out."""
