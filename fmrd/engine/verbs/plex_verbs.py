"""These are the verbs over plexes: they come, leave, return, and are dissociated; `recover` brings back all it can."""

from functools import partial

from fmrd.core.json_object import Json
from fmrd.core.states import PlexState
from fmrd.core.volume.plex import Plex
from fmrd.dco.rows.widening import make_room
from fmrd.engine.opening.closing import close
from fmrd.engine.opening.giving_up import give_up
from fmrd.engine.opening.making import must_have_place, obtain, remove_created
from fmrd.engine.opening.taking import PlexWish, look_at
from fmrd.engine.resync.copy_tasks import Then
from fmrd.engine.service import Service
from fmrd.engine.tasks import Task
from fmrd.engine.verbs.verb_base import VerbBase
from fmrd.engine.verbs.view import plex_json
from fmrd.errors import Failed, FmrdError, Refused


class PlexVerbs(VerbBase):
    """This part of Verbs concerns plexes. A plex is given by its name or path; Failed('plex_unknown') for another."""

    async def plex_add(
        self, *, volume: str, path: str, dco: str | None = None, force: bool = False, rate: int | None = None,
        dry_run: bool = False,
    ) -> Json:  # fmt: skip
        return await self._add_plex(volume, PlexWish(path, dco), rate, force=force, dry_run=dry_run, snap=False)

    async def plex_replace(
        self, *, volume: str, plex: str, path: str, dco: str | None = None, force: bool = False,
        rate: int | None = None, dry_run: bool = False,
    ) -> Json:  # fmt: skip
        """Add a plex, and dissociate another one once all is copied to the new one."""
        service = self.registry.service(volume)
        old = service.volume.plex(plex)

        async def leave(new: Plex) -> None:
            if old in service.volume.plexes:
                await self._dissociate_now(service, old)

        wish = PlexWish(path, dco)
        return await self._add_plex(volume, wish, rate, force=force, dry_run=dry_run, snap=False, then=leave)

    async def _add_plex(
        self, volume: str, wish: PlexWish, rate: int | None, *, force: bool, dry_run: bool, snap: bool,
        then: Then | None = None,
    ) -> Json:  # fmt: skip
        service = self.registry.service(volume)
        if service.volume.settings.is_instant:
            raise Refused(
                "snap_instant", f"snapshot {volume} does not hold all of its data itself", f"fmrctl snapsync {volume}"
            )
        path = wish.path
        if any(p.path == path for p in service.volume.plexes):
            raise Failed("plex_exists", f"{path} is a plex of volume {volume} already")
        geometry, timeout = service.volume.geometry, service.running.timeout_seconds
        manners = self._manners(force=force)

        async def work() -> Json:
            rows = must_have_place(service.mirror.store.family, service.volume, wish)
            if not dry_run:
                await make_room(service.mirror.store.ledger, 1, service.volume)
            [looked] = await look_at(self.context, [wish], geometry, manners, timeout, rows)
            if dry_run:
                return {"decision": self._new_plex(volume, path, geometry)}
            name = f"{volume}-{service.volume.settings.next_plex:02d}"
            files, new = await obtain(self.context, looked, name, geometry, timeout)
            try:
                task = await service.attacher.add(path, wish.dco_path, files, rate or 0, snap=snap, then=then)
            except BaseException as error:
                await close(self.context, files.lanes, files)
                if new and isinstance(error, FmrdError | OSError):
                    await remove_created(self.context, [(wish, files)], timeout)
                raise
            return {"task": task.json()}

        return await self._apart(work)

    async def plex_det(self, *, volume: str, plex: str) -> Json:
        """Detach a plex until the next start or attach. Refused('last_plex')."""
        return await self._leave(volume, plex, PlexState.STALE)

    async def plex_off(self, *, volume: str, plex: str) -> Json:
        """Take a plex offline, until plex_on. Refused('last_plex')."""
        return await self._leave(volume, plex, PlexState.OFFLINE)

    async def _leave(self, volume: str, plex: str, state: PlexState) -> Json:
        service = self.registry.service(volume)
        found = service.volume.plex(plex)

        async def work() -> Json:
            service.running.must_have(found)
            if state is PlexState.STALE and not found.is_open and found.state is not PlexState.IOFAIL:
                service.reattacher.forget(found)
                notice: str | None = f"nothing to change: {found.name} is already {found.state}"
            else:
                notice = await service.detach(found, state)
            return {"plex": plex_json(service.running, found)} | ({"notice": notice} if notice else {})

        return await self._apart(work)

    async def plex_on(self, *, volume: str, plex: str) -> Json:
        """Let an OFFLINE plex be STALE, so that it may be attached."""
        service = self.registry.service(volume)
        found = service.volume.plex(plex)
        if found.state is not PlexState.OFFLINE:
            notice = f"nothing to change: {found.name} is {found.state}"
            return {"plex": plex_json(service.running, found), "notice": notice}

        async def work() -> Json:
            await service.back_on(found)
            return {"plex": plex_json(service.running, found)}

        return await self._apart(work)

    async def plex_dis(self, *, volume: str, plex: str) -> Json:
        """Dissociate a plex for good, with its copy of the DCO; its file stays. Refused('last_plex')."""
        service = self.registry.service(volume)
        return await self._dissociate(service, service.volume.plex(plex))

    async def _dissociate(self, service: Service, plex: Plex) -> Json:
        return await self._apart(partial(self._dissociate_now, service, plex))

    async def _dissociate_now(self, service: Service, plex: Plex) -> Json:
        await service.dissociate(plex)
        shown = plex_json(service.running, plex)
        last = service.mirror.store.ledger.last_record
        left = await give_up(self.context, last, [plex]) if last is not None else []
        return {"plex": shown} | self._notice(left)

    async def plex_att(
        self, *, volume: str, plex: str, full: bool = False, discard: bool = False, settled: bool = False,
        rate: int | None = None, dry_run: bool = False,
    ) -> Json:  # fmt: skip
        """Attach a plex (PROTOCOLS, "Join"); its task copies what it missed."""
        service = self.registry.service(volume)
        found = service.volume.plex(plex)

        async def work() -> Json:
            if dry_run:
                d = await service.attacher.decide(found, full=full, discard=discard, settled=settled)
                return {"decision": self._decision(volume, found.name, d.code, d.message, d.regions, d.bytes)}
            task, notice = await service.attacher.attach(
                found, full=full, discard=discard, settled=settled, rate=rate or 0
            )
            return {"task": task.json()} | ({"notice": notice} if notice else {})

        return await self._apart(work)

    async def recover(self, *, volume: str | None = None, waiting: bool = False, dry_run: bool = False) -> Json:
        """Attach every STALE and IOFAIL plex whose backing answers, and mend the holes of the others. ``waiting``: only
        what would be tried again by itself is, at once.
        """
        if waiting:
            self.context.coming.tell()
            return {"tasks": [], "failed": [], "notice": "what is waited for is tried now"}
        names = [volume] if volume is not None else sorted(n for n, u in self.registry.units.items() if u.service)

        async def work() -> Json:
            tasks: list[Task] = []
            failed: list[Json] = []
            decisions: list[Json] = []
            for name in names:
                unit = self.registry.units.get(name)
                if unit is None or unit.service is None:
                    if volume is not None:
                        self.registry.service(name)
                    continue  # it was stopped or removed while the ones before it were looked after
                service = unit.service
                for plex in list(service.volume.plexes) if not service.volume.settings.is_instant else ():
                    holed = plex.is_open and plex.map.any() and not self.context.tasks.running(name, plex.name)
                    if not holed and plex.state not in (PlexState.STALE, PlexState.IOFAIL):
                        continue
                    try:
                        if plex.excluded:
                            why = "was left out, by start --without or an import that did not name it"
                            raise Refused(
                                "plex_state",
                                f"plex {plex.name} ({plex.path}) {why}",
                                f"plex att {name} {plex.name}",
                            )
                        if dry_run:
                            d = await service.attacher.decide(plex)
                            decisions.append(self._decision(name, plex.name, d.code, d.message, d.regions, d.bytes))
                        else:
                            tasks.append((await service.attacher.attach(plex))[0])
                    except (FmrdError, OSError) as error:
                        code = error.code if isinstance(error, FmrdError) else "io_error"
                        failed.append({"volume": name, "plex": plex.name, "code": code, "message": str(error)})
            if dry_run:
                return {"decisions": decisions, "failed": failed}
            notice = {} if tasks or failed else {"notice": "nothing to change: no plex is STALE or IOFAIL"}
            return {"tasks": [t.json() for t in tasks], "failed": failed} | notice

        return await self._apart(work)
