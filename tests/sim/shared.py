"""A store in a schedule: its instant snapshots share a quota of a few regions, and are given up where it is full."""

from typing import TYPE_CHECKING

from fmrd.engine.events.ring import Event
from fmrd.errors import FmrdError
from tests.sim.disks import GRANULE
from tests.sim.oracle import Broken

if TYPE_CHECKING:
    from tests.sim.life import Life

STORE = "/store"
NAME = "v"
MOST = 3
"""Snapshots of a schedule at once."""
REGION_BYTES = 8192


async def add(life: "Life") -> None:
    size = life.rng.choice([2, 4, 7, 10]) * REGION_BYTES
    more = life.rng.choice([0, 0, 3]) * REGION_BYTES
    await life.verbs.store_add(
        name="s", directory=STORE, size_bytes=size, step_bytes=more // 3, most_bytes=size + more if more else 0
    )


def is_in_order(life: "Life", error: FmrdError, volume: str) -> bool:
    """A snapshot in a store may be invalid, and may have no room for what is written to it; its original never fails
    for either. What was on its way to one while it was given up is taken by nobody.
    """
    if not life.schedule.profile.store or volume == NAME:
        return False
    return error.code in ("snap_invalid", "store_full") or (error.code == "io_error" and "no plex took" in str(error))


def must_fit(life: "Life") -> None:
    """Broken where more is in the store than its quota. What a call that hung writes later nobody knows of, and what
    was punched may be there again after a power failure.
    """
    profile = life.schedule.profile
    if not profile.store or profile.hangs or life.schedule.counts.get("power"):
        return
    room = life.registry.context.stores.rooms["s"]
    used = sum(GRANULE * sum(map(bool, disk.cache)) for path, disk in life.schedule.machine.plexes.items()
               if path.startswith(f"{STORE}/"))  # fmt: skip
    if used > room.declared.size_bytes:
        raise Broken(f"{used} bytes are in the store, {room.declared.size_bytes} may be")


def look(life: "Life", event: Event) -> None:
    """In the step in which one is given up: Broken where an older one that holds something could have been."""
    life.schedule.count(event.kind)
    if event.kind != "snapshot_given_up":
        return
    assert event.volume is not None
    if "invalid already" in event.message:
        return
    for unit in life.registry.units.values():
        if unit.service is None or not unit.service.volume.settings.is_instant or unit.service.mirror.load.closed:
            continue
        [plex] = unit.service.volume.plexes
        original = life.service.volume.unkept[unit.service.volume.settings.uuid]
        older = int(unit.name[4:-2]) < int(event.volume[4:-2])
        held = any(life.schedule.machine.plexes[plex.path].cache)
        if older and held and not original.map.any() and not unit.service.mirror.opened[plex.uuid].lane.hung:
            raise Broken(f"{event.volume} was given up, and {unit.name} is older")
