"""A pair is a snapshot and its original, for the verbs over both."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.engine.registry import Registry, Unit
from fmrd.engine.service import Service
from fmrd.errors import Failed, Refused


@dataclass(frozen=True)
class Pair:
    """A pair has a snapshot, started or not, and its original, which must be started."""

    registry: Registry
    unit: Unit
    origin: Service
    volume: Volume
    """The snapshot's."""

    @property
    def service(self) -> Service | None:
        return self.unit.service

    def plexes(self, names: Sequence[str], *, every: bool) -> list[Plex]:
        """Return the snapshot's plexes that were asked for; without a word, one. Failed('plex_unknown')."""
        if every:
            return list(self.volume.plexes)
        return [self.volume.plex(name) for name in names] or self.volume.plexes[:1]


def pair_of(registry: Registry, name: str) -> Pair:
    """Return the pair of a snapshot. Failed('snap_unknown') for a volume that is no snapshot, ('volume_stopped') if its
    original is not started.
    """
    unit = registry.unit(name)
    if unit.settings is None or unit.settings.snapshot_of is None:
        raise Failed("snap_unknown", f"volume {name} is no snapshot")
    origin = registry.service(unit.settings.snapshot_of)
    return Pair(registry, unit, origin, origin.mirror.store.family.by_uuid(unit.settings.uuid))


@asynccontextmanager
async def both(pair: Pair) -> AsyncIterator[Service | None]:
    """Hold the locks of both volumes in here, and give the snapshot's service, None where it is stopped.
    Refused('volume_open') while the snapshot is open.
    """
    async with pair.unit.busy, pair.origin.running.verb():
        service = pair.unit.service
        if service is None:
            yield None
            return
        if service.running.open_count:
            raise Refused(
                "volume_open",
                f"snapshot {pair.unit.name} is open ({service.running.open_count} time(s))",
                "unmount it and detach its loop device first",
            )
        async with service.running.verb():
            yield service
