"""The verbs of fmrctl over the registry: checked arguments in, the JSON of CONTRACT.md out."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from fmrd.core.geometry import Geometry
from fmrd.core.record import Column, VolumeRecord
from fmrd.core.recovery import StartOptions
from fmrd.core.states import PlexState
from fmrd.engine.files import let_go
from fmrd.engine.importing import import_family, newest_of, read_paths
from fmrd.engine.making import PlexWish, make, obtain, undo
from fmrd.engine.opening import read_home
from fmrd.engine.registry import Registry, Unit
from fmrd.engine.settings import parse_settings
from fmrd.engine.tasks import Task
from fmrd.engine.view import plex_json, stopped_json, unreadable_json, volume_json
from fmrd.errors import BadRequest, Failed, FmrdError, Refused

Json = dict[str, Any]


class Verbs:
    """Every method is a verb; the control server calls them by name. All raise FmrdError."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.context = registry.context

    async def _apart(self, work: Callable[[], Awaitable[Json]]) -> Json:
        try:
            return await self.registry.apart(work)
        except OSError as error:
            raise Failed("io_error", str(error)) from error

    # Volumes

    async def make(
        self, *, volume: str, size_bytes: int, plexes: Sequence[Json], from_path: str | None = None,
        force: bool = False, region_size_bytes: int = 64 << 10, drl_extent_bytes: int = 4 << 20, fmr: bool = True,
        rdpol: str = "select", dry_run: bool = False, hot_extents: int = 1024, page_regions: int | None = None,
    ) -> Json:  # fmt: skip
        """A new volume, started. The last two arguments are for tests that need small measures."""
        if not plexes:
            raise BadRequest("bad_request", "a volume has at least one plex")
        geometry = Geometry(size_bytes, region_size_bytes, drl_extent_bytes)
        settings = VolumeRecord(
            name=volume, uuid=self.context.new_uuid(), length_bytes=size_bytes, region_bytes=region_size_bytes,
            extent_bytes=drl_extent_bytes, page_regions=page_regions or geometry.page_regions, drl=Column(0, 1),
            plexes=(), fmr=fmr, rdpol=parse_settings({"rdpol": rdpol})["rdpol"],
            io_timeout_seconds=self.context.io_timeout_seconds, hot_extents=hot_extents, next_plex=len(plexes) + 1,
        )  # fmt: skip
        wishes = [PlexWish(p["path"], p.get("dco")) for p in plexes]
        if volume in self.registry.units:
            raise Failed("volume_exists", f"volume {volume} exists already")
        if dry_run:
            geometry.check()
            return {"notice": f"would make volume {volume} of {size_bytes} bytes on {len(wishes)} plex(es)"}

        async def work() -> Json:
            unit = self.registry.add(volume)
            try:
                async with unit.busy:
                    await make(self.context, settings, wishes, from_path=from_path, force=force)
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

        async def work() -> Json:
            opened = await read_paths(self.context, list(paths))
            try:
                _, record = newest_of(opened, prefer)
                name = record.volume.name
                unit = self.registry.units.get(name)
                home = None
                if unit is not None and name in self.context.host.homes():
                    if unit.service is not None:
                        raise Failed("volume_running", f"volume {name} is started", f"fmrctl stop {name}")
                    home = await self._home_of(unit)
                    if home is not None and home.image.record and home.image.record.family != record.family:
                        raise Failed("volume_exists", f"another volume {name} exists here")
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
            opening = await import_family(self.context, opened, home, prefer=prefer, force=force)
            self.registry.adopt(unit or self.registry.add(name), opening)
            return self._volume(name)

        return await self._apart(work)

    async def _home_of(self, unit: Unit) -> Any:
        try:
            return await read_home(self.context, unit.name)
        except Refused:
            return None  # unreadable: what the import is for

    async def start(
        self, *, volume: str, without: Sequence[str] = (), accept: str | None = None, force: bool = False
    ) -> Json:
        unit = self.registry.unit(volume)
        if unit.service is not None:
            return self._volume(volume) | {"notice": f"nothing to change: volume {volume} is started already"}

        async def work() -> Json:
            record = (await read_home(self.context, volume)).image.record
            names = [] if record is None else [p.name for p in record.volume.plexes]
            by_path = {} if record is None else {p.path: p.name for p in record.volume.plexes}
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

        async def work() -> Json:
            await self.registry.stop(unit)
            shown = self._volume(volume)
            record = unit.record

            def run() -> None:
                host = self.context.host
                host.remove_home(volume)
                for plex in record.volume.plexes if record is not None else ():
                    host.remove_dco(plex.path, plex.dco_path)
                    if erase:
                        host.remove_plex(plex.path)

            await self._ask(run)
            del self.registry.units[volume]
            return shown

        return await self._apart(work)

    async def _ask(self, run: Callable[[], None]) -> None:
        from fmrd.backing.hops import Lane, ask

        await ask(self.context.hops, Lane("admin"), run, self.context.io_timeout_seconds)

    async def grow(self, *, volume: str, size_bytes: int) -> Json:
        service = self.registry.service(volume)
        length = service.volume.geometry.length_bytes
        if size_bytes < length:
            raise BadRequest("bad_size", f"volume {volume} has {length} bytes, and cannot become shorter")
        if size_bytes == length:
            return self._volume(volume) | {"notice": f"nothing to change: volume {volume} has {length} bytes"}

        async def work() -> Json:
            await service.grow(size_bytes)
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

    def _volume(self, name: str) -> Json:
        unit = self.registry.unit(name)
        path = f"{self.registry.mount_path}/{name}"
        if unit.service is not None:
            return {"volume": volume_json(unit.service, path)}
        failure = unit.failure
        error = None if failure is None else {"code": failure.code, "message": failure.message, "hint": failure.hint}
        if unit.record is None:
            return {"volume": unreadable_json(name, path, error or {})}
        return {"volume": stopped_json(unit.record.volume, path, settled=unit.record.settled, error=error)}

    def _tasks_of(self, volume: str) -> Json:
        running = self.context.tasks.running(volume)
        return {"task": running[0].json()} if running else {}

    # Plexes

    async def plex_add(
        self, *, volume: str, path: str, dco: str | None = None, rate: int | None = None, dry_run: bool = False
    ) -> Json:
        service = self.registry.service(volume)
        if any(p.path == path for p in service.volume.plexes):
            raise Failed("plex_exists", f"{path} is a plex of volume {volume} already")
        geometry = service.volume.geometry
        if dry_run:
            message = f"a new plex on {path}: all of it is copied"
            return {
                "decision": self._decision(
                    volume, path, "full_new_plex", message, geometry.regions, geometry.length_bytes
                )
            }

        async def work() -> Json:
            wish = PlexWish(path, dco)
            name = f"{volume}-{service.volume.settings.next_plex:02d}"
            timeout = service.timeout_seconds
            files, new = await obtain(
                self.context, wish, name, geometry, existing=False, devices=True, timeout_seconds=timeout
            )
            try:
                task = await service.joins.add(path, dco, files, rate or 0)
            except BaseException as error:
                let_go(self.context, files.lanes, files)
                if new and isinstance(error, FmrdError | OSError):
                    await undo(self.context, [wish], timeout)
                raise
            return {"task": task.json()}

        return await self._apart(work)

    async def plex_det(self, *, volume: str, plex: str, force: bool = False) -> Json:
        return await self._leave(volume, plex, PlexState.STALE)

    async def plex_off(self, *, volume: str, plex: str) -> Json:
        return await self._leave(volume, plex, PlexState.OFFLINE)

    async def _leave(self, volume: str, plex: str, state: PlexState) -> Json:
        service = self.registry.service(volume)
        found = service.volume.plex(plex)

        async def work() -> Json:
            if state is PlexState.STALE and not found.is_open:
                notice: str | None = f"nothing to change: {found.name} is already {found.state}"
            else:
                notice = await service.detach(found, state)
            return {"plex": plex_json(service, found)} | ({"notice": notice} if notice else {})

        return await self._apart(work)

    async def plex_on(self, *, volume: str, plex: str) -> Json:
        service = self.registry.service(volume)
        found = service.volume.plex(plex)
        if found.state is not PlexState.OFFLINE:
            notice = f"nothing to change: {found.name} is {found.state}"
            return {"plex": plex_json(service, found), "notice": notice}

        async def work() -> Json:
            await service.set_state(found, PlexState.STALE)
            return {"plex": plex_json(service, found)}

        return await self._apart(work)

    async def plex_dis(self, *, volume: str, plex: str) -> Json:
        service = self.registry.service(volume)
        found = service.volume.plex(plex)

        async def work() -> Json:
            await service.dissociate(found)
            shown = plex_json(service, found)
            await self._ask(partial(self.context.host.remove_dco, found.path, found.dco_path))
            return {"plex": shown}

        return await self._apart(work)

    async def plex_att(
        self, *, volume: str, plex: str, full: bool = False, discard: bool = False, force: bool = False,
        rate: int | None = None, dry_run: bool = False,
    ) -> Json:  # fmt: skip
        service = self.registry.service(volume)
        found = service.volume.plex(plex)

        async def work() -> Json:
            if dry_run:
                d = await service.joins.decide(found, full=full, discard=discard)
                return {"decision": self._decision(volume, found.name, d.code, d.message, d.regions, d.bytes)}
            task, notice = await service.joins.attach(found, full=full, discard=discard, rate=rate or 0)
            return {"task": task.json()} | ({"notice": notice} if notice else {})

        return await self._apart(work)

    def _decision(self, volume: str, plex: str, code: str, message: str, regions: int, size: int) -> Json:
        ended = [t for t in self.context.tasks.all() if t.ended and t.done_bytes > 0]
        speed = (
            sum(t.done_bytes for t in ended) / sum(max((t.ended or 0) - t.started, 1e-3) for t in ended)
            if ended
            else 200e6
        )
        return {
            "volume": volume, "plex": plex, "reason": {"code": code, "message": message},
            "regions": regions, "bytes": size, "estimate_seconds": round(size / speed, 1),
        }  # fmt: skip

    async def recover(self, *, volume: str | None = None, dry_run: bool = False) -> Json:
        """Attach every STALE and IOFAIL plex whose backing answers, and mend the holes of the others."""
        names = [volume] if volume is not None else sorted(n for n, u in self.registry.units.items() if u.service)

        async def work() -> Json:
            tasks: list[Task] = []
            failed: list[Json] = []
            decisions: list[Json] = []
            for name in names:
                service = self.registry.service(name)
                for plex in list(service.volume.plexes):
                    holed = plex.is_open and plex.map.any() and not self.context.tasks.running(name, plex.name)
                    if not holed and plex.state not in (PlexState.STALE, PlexState.IOFAIL):
                        continue
                    try:
                        if dry_run:
                            d = await service.joins.decide(plex)
                            decisions.append(self._decision(name, plex.name, d.code, d.message, d.regions, d.bytes))
                        else:
                            tasks.append((await service.joins.attach(plex))[0])
                    except (FmrdError, OSError) as error:
                        code = error.code if isinstance(error, FmrdError) else "io_error"
                        failed.append({"volume": name, "plex": plex.name, "code": code, "message": str(error)})
            if dry_run:
                return {"decisions": decisions, "failed": failed}
            notice = {} if tasks or failed else {"notice": "nothing to change: no plex is STALE or IOFAIL"}
            return {"tasks": [t.json() for t in tasks], "failed": failed} | notice

        return await self._apart(work)

    # Tasks

    async def task_list(self, *, all: bool = False) -> Json:
        return {"tasks": [t.json() for t in self.context.tasks.all() if all or t.ended is None]}

    async def task_get(self, *, id: int) -> Json:
        return {"task": self.context.tasks.find(id).json()}

    async def task_pause(self, *, id: int) -> Json:
        task = self.context.tasks.find(id)
        task.pause()
        return {"task": task.json()}

    async def task_resume(self, *, id: int) -> Json:
        task = self.context.tasks.find(id)
        task.resume()
        return {"task": task.json()}

    async def task_set(self, *, id: int, rate: int) -> Json:
        task = self.context.tasks.find(id)
        task.set_rate(rate)
        return {"task": task.json()}

    async def task_abort(self, *, id: int) -> Json:
        """Backs out as if an error had occurred: the plex is STALE, its map kept."""
        task = self.context.tasks.find(id)
        task.abort()

        async def work() -> Json:
            await task.finished.wait()
            service = self.registry.service(task.volume)
            plex = service.volume.plex(task.plex)
            if plex.attaching:
                await service.detach(plex)
            return {"task": task.json()}

        return await self._apart(work)

    async def task_wait(self, *, id: int) -> Json:
        task = self.context.tasks.find(id)
        await task.finished.wait()
        return {"task": task.json()}
