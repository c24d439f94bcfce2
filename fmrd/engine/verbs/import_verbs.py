"""The verb that takes up a volume from its plexes alone."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from fmrd.core.json_object import Json
from fmrd.core.record import Record
from fmrd.dco.loading import Loaded
from fmrd.engine.opening.closing import close_all
from fmrd.engine.opening.homes import Home
from fmrd.engine.opening.importing import import_family, newest_of, read_paths
from fmrd.engine.verbs.verb_base import VerbBase
from fmrd.errors import BadRequest, Failed, Refused


class ImportVerbs(VerbBase):
    """This is ``import``."""

    async def import_volume(
        self, *, paths: Sequence[str], prefer: str | None = None, force: bool = False, dry_run: bool = False
    ) -> Json:
        """Import a volume known only by its plexes, and start it (PROTOCOLS, "Import")."""
        if not paths:
            raise BadRequest("bad_request", "name the plexes to import")

        async def work() -> Json:
            left = await read_paths(self.context, list(paths))
            try:
                _, record = newest_of(left, prefer)
                name = record.volume.name
                unit = self.registry.units.get(name)
                home = Home(self.context, name) if unit is None else unit.home
                old = await self._home_of(home)
                self._must_be_free(record, home, old)
                if dry_run:
                    opened, left = left, {}
                    await import_family(home, opened, old, prefer=prefer, force=force, dry_run=True)
                    return {"notice": f"would import volume {name} from {len(opened)} plex(es)"}
                async with self._names_held(record, home):
                    self._must_be_free(record, home, old)
                    opened, left = left, {}
                    openings = await import_family(home, opened, old, prefer=prefer, force=force)
                    for opening in openings:
                        self.registry.adopt(self.registry.unit(opening.mirror.volume.name), opening)
                return self._volume(name)
            finally:
                await close_all(self.context, left)

        return await self._apart(work)

    @asynccontextmanager
    async def _names_held(self, record: Record, home: Home) -> AsyncIterator[None]:
        """Those of an import: nobody starts, removes or makes one of them meanwhile. At its end the units are those
        that the home copy names.
        """
        units = self.registry.units
        new = [units.add(volume.name, home) for volume in record.volumes if volume.name not in units]
        mine = sorted((unit for unit in units.values() if unit.home is home), key=lambda unit: unit.name)
        done = False
        try:
            async with AsyncExitStack() as locks:
                for unit in mine:
                    await locks.enter_async_context(units.held(unit))
                yield
                done = True
        finally:
            assert not done or home.record is not None, "it was imported"
            named = {v.name for v in home.record.volumes} if done and home.record is not None else set()
            for unit in mine if done else new:
                if unit.name not in named and unit.service is None:  # of the line that was given up; or it was refused
                    units.drop(unit)

    def _must_be_free(self, record: Record, home: Home, old: Loaded | None) -> None:
        """Nothing of that family may be started, and its names must not be others'."""
        before = old.image.record if old is not None else None
        if before is not None and before.family != record.family:
            raise Failed("volume_exists", f"another volume {home.name} exists here")
        for volume in record.volumes:
            unit = self.registry.units.get(volume.name)
            if unit is not None and unit.home is not home:
                raise Failed("volume_exists", f"another volume {volume.name} exists here")
            if unit is not None and unit.service is not None:
                raise Failed("volume_running", f"volume {volume.name} is started", f"fmrctl stop {volume.name}")

    async def _home_of(self, home: Home) -> Loaded | None:
        """None where there is none."""
        try:
            return await home.read()
        except Failed as error:
            if error.code != "home_missing":
                raise
            return None
        except Refused:
            return None  # unreadable: what the import is for
