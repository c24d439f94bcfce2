"""Every verb of fmrctl: checked arguments in, the JSON of docs/JSON.md out. Those over volumes are here."""

from collections.abc import Sequence

from fmrd.core.decisions.standing import StartOptions
from fmrd.core.geometry import Geometry
from fmrd.core.json_object import Json
from fmrd.core.record import Column, Record, VolumeRecord
from fmrd.dco.copy import Loaded
from fmrd.engine import growing
from fmrd.engine.opening.giving_up import give_up
from fmrd.engine.opening.homes import Home
from fmrd.engine.opening.importing import import_family, newest_of, read_paths
from fmrd.engine.opening.making import examine, make
from fmrd.engine.opening.taking import PlexWish
from fmrd.engine.verbs.settings import parse_settings
from fmrd.engine.verbs.snap_verbs import SnapVerbs
from fmrd.engine.verbs.task_verbs import TaskVerbs
from fmrd.errors import BadRequest, Failed, Refused


class Verbs(SnapVerbs, TaskVerbs):
    """Every method is a verb; the control server calls them by name. All raise FmrdError."""

    async def make(
        self, *, volume: str, size_bytes: int, plexes: Sequence[Json], from_path: str | None = None,
        force: bool = False, region_size_bytes: int = 64 << 10, drl_extent_bytes: int = 4 << 20, fmr: bool = True,
        rdpol: str = "select", dry_run: bool = False,
    ) -> Json:  # fmt: skip
        """Make a new volume, and start it."""
        if not plexes:
            raise BadRequest("bad_request", "a volume has at least one plex")
        geometry = Geometry(size_bytes, region_size_bytes, drl_extent_bytes, self.context.page_regions)
        settings = VolumeRecord(
            name=volume, uuid=self.context.new_uuid(), length_bytes=size_bytes, region_bytes=region_size_bytes,
            extent_bytes=drl_extent_bytes, page_regions=geometry.page_regions, drl=Column(0, 1),
            plexes=(), fmr=fmr, rdpol=parse_settings({"rdpol": rdpol})["rdpol"],
            io_timeout_seconds=self.context.io_timeout_seconds, hot_extents=self.context.hot_extents,
            next_plex=len(plexes) + 1,
        )  # fmt: skip
        wishes = [PlexWish(p["path"], p.get("dco")) for p in plexes]
        if volume in self.registry.units:
            raise Failed("volume_exists", f"volume {volume} exists already")
        manners = self._manners(force=force, keep=from_path)
        if dry_run:

            async def look() -> Json:
                await examine(self.context, settings, wishes, manners)
                return {"notice": f"would make volume {volume} of {size_bytes} bytes on {len(wishes)} plex(es)"}

            return await self._apart(look)

        async def work() -> Json:
            unit = self.registry.add(volume, Home(self.context, volume))
            try:
                async with unit.busy:
                    await make(self.context, settings, wishes, manners)
            except BaseException:
                del self.registry.units[volume]
                raise
            await self.registry.start(unit, StartOptions())
            return self._volume(volume) | self._tasks_of(volume)

        return await self._apart(work)

    async def import_volume(
        self, *, paths: Sequence[str], prefer: str | None = None, force: bool = False, dry_run: bool = False
    ) -> Json:
        """A volume known only by its plexes."""
        if not paths:
            raise BadRequest("bad_request", "name the plexes to import")

        async def work() -> Json:
            opened = await read_paths(self.context, list(paths))
            try:
                _, record = newest_of(opened, prefer)
                name = record.volume.name
                unit = self.registry.units.get(name)
                home = Home(self.context, name) if unit is None else unit.home
                old = await self._home_of(home) if home.name in self.context.host.homes() else None
                self._must_be_free(record, home, old)
                if dry_run:
                    return {"notice": f"would import volume {name} from {len(opened)} plex(es)"}
            except BaseException:
                for files in opened.values():
                    files.close()
                raise
            finally:
                if dry_run:
                    for files in opened.values():
                        files.close()
            openings = await import_family(home, opened, old, prefer=prefer, force=force)
            assert home.record is not None
            for volume in home.record.volumes:
                self.registry.units.get(volume.name) or self.registry.add(volume.name, home)
            for unit in [u for u in self.registry.units.values() if u.home is home]:
                if home.record.named(unit.name) is None:  # of the line that was given up
                    del self.registry.units[unit.name]
            for opening in openings:
                self.registry.adopt(self.registry.units[opening.mirror.volume.name], opening)
            return self._volume(name)

        return await self._apart(work)

    def _must_be_free(self, record: Record, home: Home, old: Loaded | None) -> None:
        """Nothing of that family is started, and its names are not others'."""
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
        try:
            return await home.read()
        except Refused:
            return None  # unreadable: what the import is for

    async def start(
        self, *, volume: str, without: Sequence[str] = (), accept: str | None = None, force: bool = False
    ) -> Json:
        unit = self.registry.unit(volume)
        if unit.service is not None:
            return self._volume(volume) | {"notice": f"nothing to change: volume {volume} is started already"}

        async def work() -> Json:
            if unit.home.ledger is None:
                await unit.home.read()
            plexes = unit.settings.plexes if unit.settings is not None else ()
            names = [p.name for p in plexes]
            by_path = {p.path: p.name for p in plexes}
            chosen = [by_path.get(n, n) for n in [*without, *([accept] if accept else [])]]
            for name in chosen:
                if name not in names:
                    raise Failed("plex_unknown", f"volume {volume} has no plex {name}")
            options = StartOptions(
                frozenset(by_path.get(n, n) for n in without), by_path.get(accept, accept) if accept else None, force
            )
            await self.registry.start(unit, options)
            return self._volume(volume)

        return await self._apart(work)

    async def stop(self, *, volume: str) -> Json:
        unit = self.registry.unit(volume)
        if unit.service is None:
            return self._volume(volume) | {"notice": f"nothing to change: volume {volume} is stopped already"}

        async def work() -> Json:
            await self.registry.stop(unit)
            return self._volume(volume)

        return await self._apart(work)

    async def remove(self, *, volume: str, erase: bool = False) -> Json:
        unit = self.registry.unit(volume)
        record = unit.home.record
        if record is not None and unit.settings is not None and record.snapshots_of(unit.settings):
            names = ", ".join(s.name for s in record.snapshots_of(unit.settings))
            raise Refused("snap_present", f"volume {volume} has snapshots: {names}", "snapback or snapclear them first")

        async def work() -> Json:
            await self.registry.stop(unit)
            shown = self._volume(volume)
            plexes = unit.settings.plexes if unit.settings is not None else ()
            last = unit.home.record
            await unit.home.forget(volume)
            left = await give_up(self.context, last, plexes, erase=erase) if last is not None else []
            del self.registry.units[volume]
            return shown | self._notice(left)

        return await self._apart(work)

    async def grow(self, *, volume: str, size_bytes: int) -> Json:
        service = self.registry.service(volume)
        length = service.volume.geometry.length_bytes
        if size_bytes < length:
            raise BadRequest("bad_size", f"volume {volume} has {length} bytes, and cannot become shorter")
        if size_bytes == length:
            return self._volume(volume) | {"notice": f"nothing to change: volume {volume} has {length} bytes"}

        async def work() -> Json:
            await growing.grow(service.running, service.copying, service.checksums, size_bytes)
            self.registry.changed(volume)
            return self._volume(volume)

        return await self._apart(work)

    async def set(self, *, volume: str, settings: dict[str, str]) -> Json:
        service = self.registry.service(volume)
        changes = parse_settings(settings)
        if str(changes.get("rdpol", "")).startswith("prefer:"):
            service.volume.plex(changes["rdpol"].removeprefix("prefer:"))

        async def work() -> Json:
            await service.configure(**changes)
            return self._volume(volume)

        return await self._apart(work)

    async def print(self, *, volume: str | None = None) -> Json:
        names = [volume] if volume is not None else sorted(self.registry.units)
        volumes = [self._volume(self.registry.unit(name).name)["volume"] for name in names]
        tasks = [t.json() for t in self.context.tasks.all() if t.ended is None and volume in (None, t.volume)]
        return {"volumes": volumes, "tasks": tasks}

    def _tasks_of(self, volume: str) -> Json:
        running = self.context.tasks.running(volume)
        return {"task": running[0].json(), "tasks": [task.json() for task in running]} if running else {}
