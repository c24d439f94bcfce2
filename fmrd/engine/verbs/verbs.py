"""Every verb of fmrctl is here: checked arguments in, the JSON of docs/JSON.md out. Those over volumes are below."""

from collections.abc import Sequence

from fmrd.core.decisions.standing import StartOptions
from fmrd.core.geometry import EXTENT_BYTES, Geometry
from fmrd.core.json_object import Json
from fmrd.core.record import VolumeRecord
from fmrd.core.records.parts import Column
from fmrd.engine import growing
from fmrd.engine.far.setting import who_lags
from fmrd.engine.opening.giving_up import give_up
from fmrd.engine.opening.homes import Home
from fmrd.engine.opening.making import examine, make, must_have_room, to_be_copied
from fmrd.engine.opening.taking import PlexWish
from fmrd.engine.stores.store_verbs import StoreVerbs
from fmrd.engine.units import must_be_that
from fmrd.engine.verbs.all_verbs import AllVerbs
from fmrd.engine.verbs.import_verbs import ImportVerbs
from fmrd.engine.verbs.maps.map_verbs import MapVerbs
from fmrd.engine.verbs.maps.receive_verbs import ReceiveVerbs
from fmrd.engine.verbs.measure_verbs import MeasureVerbs
from fmrd.engine.verbs.name_verbs import NameVerbs
from fmrd.engine.verbs.settings import parse_settings
from fmrd.engine.verbs.snap_verbs import SnapVerbs
from fmrd.engine.verbs.task_verbs import TaskVerbs
from fmrd.errors import BadRequest, Failed, Refused


class Verbs(AllVerbs, NameVerbs, ImportVerbs, SnapVerbs, ReceiveVerbs, MapVerbs, TaskVerbs, MeasureVerbs, StoreVerbs):
    """Public methods are verbs, which the control server calls by name where front/arguments.py knows them. All raise
    FmrdError. With ``dry_run`` nothing is changed, and what would be done is told.
    """

    async def make(
        self, *, volume: str, size_bytes: int, plexes: Sequence[Json], from_path: str | None = None,
        force: bool = False, region_size_bytes: int = 64 << 10, drl_extent_bytes: int | None = None, fmr: bool = True,
        rdpol: str = "select", dry_run: bool = False,
    ) -> Json:  # fmt: skip
        """Make a new volume, and start it. What was made is removed again if it fails."""
        if not plexes:
            raise BadRequest("bad_request", "a volume has at least one plex")
        extent_bytes = max(EXTENT_BYTES, region_size_bytes) if drl_extent_bytes is None else drl_extent_bytes
        geometry = Geometry(size_bytes, region_size_bytes, extent_bytes, self.context.page_regions)
        settings = VolumeRecord(
            name=volume, uuid=self.context.new_uuid(), length_bytes=size_bytes, region_bytes=region_size_bytes,
            extent_bytes=extent_bytes, page_regions=geometry.page_regions, drl=Column(0, 1),
            plexes=(), fmr=fmr, rdpol=parse_settings({"rdpol": rdpol})["rdpol"],
            io_timeout_seconds=self.context.io_timeout_seconds, hot_extents=self.context.hot_extents,
            next_plex=len(plexes) + 1,
        )  # fmt: skip
        wishes = [PlexWish(p["path"], p.get("dco")) for p in plexes]
        self.registry.units.must_be_free(volume)
        manners = self._manners(force=force, keep=from_path)
        if dry_run:

            async def look() -> Json:
                looked = await examine(self.context, settings, wishes, manners)
                notice = f"would make volume {volume} of {size_bytes} bytes on {len(wishes)} plex(es)"
                copied = [self._new_plex(volume, path, geometry) for path in to_be_copied(looked, from_path)]
                return {"notice": notice, "decisions": copied}

            return await self._apart(look)

        async def work() -> Json:
            unit = self.registry.units.add(volume, Home(self.context, volume))
            try:
                async with unit.busy:
                    await make(self.context, settings, wishes, manners)
            except BaseException:
                self.registry.units.drop(unit)
                raise
            await self.registry.start(unit, StartOptions())
            return self._shown(unit) | self._tasks_of(volume)

        return await self._apart(work)

    async def start(
        self, *, volume: str, without: Sequence[str] = (), accept: str | None = None, force: bool = False,
        settled: bool = False,
    ) -> Json:  # fmt: skip
        """Start a volume (PROTOCOLS, "Start at home"). Its options are those of StartOptions."""
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
                frozenset(by_path.get(n, n) for n in without), by_path.get(accept, accept) if accept else None, force,
                settled,
            )  # fmt: skip
            await self.registry.start(unit, options)
            return self._shown(unit)

        return await self._apart(work)

    async def stop(self, *, volume: str) -> Json:
        """Stop a volume in order. Refused('volume_open')."""
        unit = self.registry.unit(volume)
        if unit.service is None:
            return self._volume(volume) | {"notice": f"nothing to change: volume {volume} is stopped already"}

        async def work() -> Json:
            await self.registry.stop(unit)
            return self._shown(unit)

        return await self._apart(work)

    async def remove(
        self, *, volume: str, erase: bool = False, uuid: str | None = None, snapshot_of: str | None = None
    ) -> Json:  # fmt: skip
        """Forget a volume; with ``erase`` its plex files go too. Refused('snap_present') or ('volume_open'). With
        ``uuid`` and ``snapshot_of`` only if it is that still: Failed('snap_unknown').
        """
        unit = self.registry.unit(volume)

        def check() -> None:
            must_be_that(unit, uuid, snapshot_of)
            record = unit.home.record
            found = record.snapshots_of(unit.settings) if record is not None and unit.settings is not None else ()
            if found:
                names = ", ".join(s.name for s in found)
                raise Refused(
                    "snap_present", f"volume {volume} has snapshots: {names}", "snapback or snapclear them first"
                )

        check()

        async def work() -> Json:
            async with self.registry.units.held(unit):
                await self.registry.stop_held(unit, check=check)
                shown = self._shown(unit)
                plexes = unit.settings.plexes if unit.settings is not None else ()
                last = unit.home.record
                await unit.home.forget(volume)
                try:
                    left = await give_up(self.context, last, plexes, erase=erase) if last is not None else []
                finally:  # it is forgotten, whatever is left behind
                    self.registry.units.drop(unit)
                return shown | self._notice(left)

        return await self._apart(work)

    async def grow(
        self, *, volume: str, size_bytes: int | None = None, more_bytes: int = 0, most: bool = False
    ) -> Json:
        """Make a volume longer while it is in use: to a length, by so much, or to the most that its devices hold."""
        service = self.registry.service(volume)
        length = service.volume.geometry.length_bytes
        if size_bytes is None:
            size_bytes = growing.room(service.running) if most else length + more_bytes
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
        """Change settings of a volume (settings.py)."""
        service = self.registry.service(volume)
        changes = parse_settings(settings)
        if str(changes.get("rdpol", "")).startswith("prefer:"):
            service.volume.plex(changes["rdpol"].removeprefix("prefer:"))
        if changes.get("comment"):
            must_have_room(service.mirror.store.family, service.volume, **changes)
        if "write_behind" in changes:
            who_lags(service.volume, changes["write_behind"])

        async def work() -> Json:
            await service.configure(**changes)
            return self._volume(volume)

        return await self._apart(work)

    async def print(self, *, volume: str | None = None) -> Json:
        """Show one volume or all, and the tasks that run."""
        names = [volume] if volume is not None else sorted(self.registry.units)
        volumes = [self._volume(self.registry.unit(name).name)["volume"] for name in names]
        tasks = [t.json() for t in self.context.tasks.all() if t.ended is None and volume in (None, t.volume)]
        return {"volumes": volumes, "tasks": tasks, "opening": self.registry.arriving.names()}

    def _tasks_of(self, volume: str) -> Json:
        running = self.context.tasks.running(volume)
        return {"task": running[0].json(), "tasks": [task.json() for task in running]} if running else {}
