"""The volumes that the state directory knows, by name, and who may take or give up a name.

Between the look-up of a name and what is done by it others run: the unit may be gone by then, and its name another's.
So a name is taken in the step that asks whether it is free, a unit is dropped as that unit and not by its name, and
``held`` asks again once nobody else starts, stops, removes or takes it back.
"""

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from fmrd.core.record import VolumeRecord
from fmrd.engine.opening.homes import Home
from fmrd.engine.service import Service
from fmrd.errors import Failed, FmrdError

LATE = frozenset({"no_current_plex", "exhausted"})
"""What a start is refused with that mends itself: a disk comes later, a limit is raised."""


@dataclass(eq=False)
class Unit:
    """A volume that the state directory knows: started (``service``), stopped, or failed (``failure``)."""

    name: str
    home: Home
    service: Service | None = None
    failure: FmrdError | None = None
    busy: trio.Lock = field(default_factory=trio.Lock)

    @property
    def settings(self) -> VolumeRecord | None:
        """As the home copy has them; None where it could never be read."""
        return self.home.settings(self.name)


class Units(dict[str, Unit]):
    """By name; changed by ``add``, ``drop`` and ``rename`` alone."""

    def __init__(self) -> None:
        super().__init__()
        self.reserved: set[str] = set()
        """Names that volumes are about to get."""

    def must_be_free(self, name: str) -> None:
        """Failed('volume_exists') where it is taken: to be asked in the step that takes it. A home copy that still has
        the name is as good as a volume: a new one would be written over it.
        """
        if name in self or name in self.reserved:
            raise Failed("volume_exists", f"volume {name} exists already")
        other = next((unit for unit in self.values() if unit.home.name == name), None)
        if other is not None:
            raise Failed("volume_exists", f"the home copy of volume {other.name} has the name {name} still")

    def rename(self, unit: Unit, name: str) -> None:
        """For whoever reserved the name, and holds the unit."""
        self.reserved.discard(name)
        del self[unit.name]
        unit.name = name
        self[name] = unit

    def add(self, name: str, home: Home) -> Unit:
        self.must_be_free(name)
        unit = self[name] = Unit(name, home)
        return unit

    def drop(self, unit: Unit) -> None:
        """A volume that is no more. Whoever took its name meanwhile stays."""
        if self.knows(unit):
            del self[unit.name]

    def knows(self, unit: Unit) -> bool:
        """It is there still, and not only its name."""
        return self.get(unit.name) is unit

    @asynccontextmanager
    async def held(self, unit: Unit) -> AsyncIterator[None]:
        """Nobody else starts, stops, removes or takes it back. Failed('volume_missing') for one that went while this
        waited for its turn.
        """
        async with unit.busy:
            if not self.knows(unit):
                raise Failed("volume_missing", f"volume {unit.name} is gone meanwhile", errno=errno.ENOENT)
            yield

    def originals(self) -> list[Unit]:
        """Volumes that are no snapshots, by name."""
        units = [self[name] for name in sorted(self)]
        return [u for u in units if u.settings is not None and u.settings.snapshot_of is None]


def must_be_that(unit: Unit, uuid: str | None, snapshot_of: str | None) -> None:
    """Failed('snap_unknown') where a unit is not the volume, or not the snapshot, that somebody saw before."""
    settings = unit.settings
    known = (None, None) if settings is None else (settings.uuid, settings.snapshot_of)
    if (uuid is not None and known[0] != uuid) or (snapshot_of is not None and known[1] != snapshot_of):
        raise Failed("snap_unknown", f"{unit.name} is not that snapshot any more")
