"""A pair is a snapshot and its original, for the verbs over both."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.engine.registry import Registry
from fmrd.engine.service import Service
from fmrd.engine.units import Unit
from fmrd.errors import Failed, Refused


@dataclass(frozen=True)
class Pair:
    """A snapshot, started or not, and its original, which must be started; as they are until the next await."""

    registry: Registry
    unit: Unit
    origin: Service
    volume: Volume
    """The snapshot's."""

    @property
    def service(self) -> Service | None:
        return self.unit.service

    def still(self, plexes: Sequence[Plex]) -> list[Plex]:
        """The same plexes as they are now: a start of the snapshot meanwhile brought others in their place."""
        found = {plex.uuid: plex for plex in self.volume.plexes}
        if any(plex.uuid not in found for plex in plexes):
            raise Failed("snap_unknown", f"plexes of snapshot {self.unit.name} left it meanwhile")
        return [found[plex.uuid] for plex in plexes]

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
    volume = origin.mirror.store.family.by_uuid(unit.settings.uuid)
    if volume.settings.link is None:  # the record that says so has not landed yet
        raise Failed("snap_unknown", f"snapshot {name} was cleared")
    return Pair(registry, unit, origin, volume)


def must_be_closed(pair: Pair) -> None:
    """Refused('volume_open') while somebody has the file of the snapshot open."""
    if pair.service is not None and pair.service.running.open_count:
        raise Refused(
            "volume_open",
            f"snapshot {pair.unit.name} is open ({pair.service.running.open_count} time(s))",
            "unmount it and detach its loop device first",
        )


@asynccontextmanager
async def both(asked: Pair) -> AsyncIterator[tuple[Pair, Service | None]]:
    """The locks of both volumes; the pair as it is under them, since it was looked up before; and the snapshot's
    service, None where it is stopped.
    """
    units = asked.registry.units
    async with units.held(asked.unit), asked.origin.running.verb():
        pair = pair_of(asked.registry, asked.unit.name)
        if pair.origin is not asked.origin:
            raise Failed("volume_stopped", f"volume {asked.origin.volume.name} was stopped meanwhile")
        service = pair.service
        if service is None:
            yield pair, None
            return
        must_be_closed(pair)
        async with service.running.verb():
            yield pair, service


@asynccontextmanager
async def withdrawn(pair: Pair, service: Service, *, ends: bool) -> AsyncIterator[None]:
    """The snapshot serves nobody any more, if it ``ends``, and is closed afterwards, unless the step was refused."""
    if not ends:
        yield
        return
    pair.registry.withdraw(pair.unit)
    try:
        await service.checksums.close()
        await service.copying.halt_all()
        await service.mirror.quiesce()
        yield
    finally:
        if drop_if_gone(pair):
            service.end()
        else:
            service.resume()
            pair.unit.service = service
            pair.registry.serve(pair.unit)


def drop_if_gone(pair: Pair) -> bool:
    """Whether its last plex went: then nobody finds it any more, whether it was started or not."""
    gone = pair.volume not in pair.origin.mirror.store.family.volumes
    if gone:
        pair.registry.units.drop(pair.unit)
    return gone


def and_gone(pair: Pair, step: Callable[[], None]) -> Callable[[], None]:
    """The store of a snapshot that went takes part in no commit any more."""

    def run() -> None:
        step()
        ledger = pair.origin.mirror.store.ledger
        if pair.volume not in ledger.family.volumes:
            ledger.stores.pop(pair.volume.settings.uuid, None)

    return run
