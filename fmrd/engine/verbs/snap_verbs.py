"""These are the verbs over snapshots: prepare a plex, break it off, give it back, and forget what ties two volumes."""

from collections.abc import Sequence

import trio

from fmrd.core.decisions import snapshot
from fmrd.core.decisions.snapback import Target
from fmrd.core.json_object import Json
from fmrd.core.reasons import Reason
from fmrd.core.states import PlexState, TaskType
from fmrd.core.volume.plex import Plex
from fmrd.engine.opening.taking import PlexWish
from fmrd.engine.service import Service
from fmrd.engine.snapshots import breakoffs, foretold, pairs, restores, snapbacks, undos
from fmrd.engine.snapshots.breakoffs import Wish
from fmrd.engine.snapshots.frozen import must_be_freezable
from fmrd.engine.tasks import Task
from fmrd.engine.verbs.instant_verbs import InstantVerbs
from fmrd.engine.verbs.view import detached_json, plex_json, snapshots_json
from fmrd.errors import BadRequest, Failed, Refused

SNAP_STATES = (PlexState.SNAPATT, PlexState.SNAPDONE)


class SnapVerbs(InstantVerbs):
    """This part of Verbs concerns snapshots."""

    async def snapstart(
        self, *, volume: str, path: str, dco: str | None = None, force: bool = False, rate: int | None = None,
        dry_run: bool = False,
    ) -> Json:  # fmt: skip
        """A plex to be broken off later: copied in full, and kept current from then on."""
        service = self.registry.service(volume)
        if service.volume.settings.snapshot_of is not None:
            raise Refused("snap_of_snap", f"volume {volume} is a snapshot of {service.volume.settings.snapshot_of}")
        return await self._add_plex(volume, PlexWish(path, dco), rate, force=force, dry_run=dry_run, snap=True)

    async def snapwait(self, *, volume: str, count: int = 1) -> Json:
        """Return when so many plexes are SNAPDONE and hold everything, also after a crash: they can be broken off.
        Failed('snap_missing') where none is on its way.
        """
        service = self.registry.service(volume)
        while len(ready := snapshot.ready(service.volume)) < max(count, 1):
            tasks = await self._on_their_way(service)
            if service.running.life.ended or not tasks:
                raise Failed(
                    "snap_missing",
                    f"volume {volume} has no{' further' * bool(ready)} snapshot plex on its way",
                    f"fmrctl snapstart {volume} PATH",
                )
            await tasks[0].finished.wait()
            await trio.lowlevel.checkpoint()
        shown = [plex_json(service.running, plex) for plex in ready]
        return {"plex": shown[0]} | ({"plexes": shown} if count > 1 else {})

    async def _on_their_way(self, service: Service) -> list[Task]:
        """Return the copies that a snapshot plex waits for; one that a restart or an error left without is attached."""
        tasks, volume = self.context.tasks, service.volume
        coming = [p for p in volume.plexes if p.snap and p.state is not PlexState.OFFLINE and not p.excluded]
        found = [task for plex in coming for task in tasks.running(volume.name, plex.name)]
        if not found and any(p.state is PlexState.ACTIVE for p in coming):  # others are being restored from it
            found = tasks.running(volume.name)
        left = [p for p in coming if not p.is_open or p.map.any()]
        return found or [(await service.attacher.attach(plex))[0] for plex in left[:1]]

    async def snapabort(self, *, volume: str, plex: str | None = None) -> Json:
        """Give up a SNAPATT or SNAPDONE plex; its file stays."""
        service = self.registry.service(volume)
        if plex is not None:
            chosen = [service.volume.plex(plex)]
        else:
            chosen = [p for p in reversed(service.volume.plexes) if p.snap]
            chosen.sort(key=lambda p: p.state is not PlexState.SNAPATT)
        if not chosen or not chosen[0].snap:
            raise Failed("snap_missing", f"volume {volume} has no snapshot plex to give up")
        return await self._dissociate(service, chosen[0])

    async def plex_convert(self, *, volume: str, plex: str) -> Json:
        """Make a regular plex SNAPDONE; never the last one."""
        service = self.registry.service(volume)
        found = service.volume.plex(plex)
        if found.state is PlexState.SNAPDONE:
            notice = f"nothing to change: {found.name} is already SNAPDONE"
            return {"plex": plex_json(service.running, found), "notice": notice}

        async def work() -> Json:
            await service.convert(found)
            return {"plex": plex_json(service.running, found)}

        return await self._apart(work)

    async def snapshot(
        self, *, volumes: Sequence[str] = (), all: bool = False, name: str | None = None, nmirror: int = 1,
        freeze: Sequence[str] = (), instant: str | None = None, dco: str | None = None, store: str | None = None,
        force: bool = False, sync: bool = False, dry_run: bool = False,
    ) -> Json:  # fmt: skip
        """Break SNAPDONE plexes off, of every volume named, at one instant; or take one snapshot that is copied on
        write (``instant``, or in ``store``).
        """
        names = list(volumes)
        if all:
            names += [unit.name for unit in self.registry.units.originals() if unit.name not in names]
        if not names or len(set(names)) != len(names) or not 1 <= nmirror <= 8:
            raise BadRequest("bad_request", "name each volume once (or --all), and 1 to 8 mirrors")
        if ((sync or force) and instant is None and store is None) or (instant is not None and len(names) != 1):
            raise BadRequest("bad_request", "--instant PATH is for one volume, and --sync and --force go with it")
        chosen = breakoffs.names_for(self.registry, names, name)
        wishes = [Wish(volume, snap, nmirror) for volume, snap in zip(names, chosen, strict=True)]
        if store is not None:
            if len(names) != 1 or instant is not None or sync or force:
                raise BadRequest("bad_request", "--store NAME is for one volume, without PATH, --sync and --force")
            return await self._in_store(wishes[0], store, freeze, dry_run=dry_run)
        if instant is not None:
            return await self._instant(
                wishes[0], PlexWish(instant, dco), freeze, force=force, sync=sync, dry_run=dry_run
            )

        async def work() -> Json:
            breakoffs.check(self.registry, wishes)
            await must_be_freezable(self.registry, freeze)
            if dry_run:
                return {"notice": "would take " + ", ".join(f"{w.name} of {w.volume}" for w in wishes)}
            units, seconds = await breakoffs.break_off(self.registry, wishes, freeze)
            shown = [self._shown(unit)["volume"] for unit in units]
            return {"volume": shown[0], "volumes": shown, "held_seconds": round(seconds, 6)}

        return await self._apart(work)

    async def snapback(
        self, *, snapshot: str, from_replica: bool = False, plexes: Sequence[str] = (), all_plexes: bool = False,
        keep_undo: bool = False, force: bool = False, rate: int | None = None, dry_run: bool = False,
    ) -> Json:  # fmt: skip
        """Return a snapshot to the original, and copy what changed; with ``from_replica`` onto the original."""
        pair = pairs.pair_of(self.registry, snapshot)
        self._must_not_be_in_store(pair.unit)
        if keep_undo and not from_replica:
            raise BadRequest(
                "bad_request", "--keep-undo goes with --from-replica: without it the original stays as it is"
            )
        chosen = pair.plexes(plexes, every=all_plexes or (from_replica and not plexes))
        if dry_run:
            if from_replica:
                check = foretold.check_restore(pair, chosen, force=force, keep_undo=keep_undo)
            else:
                check = foretold.check_back(pair, chosen)
            return self._foretold(pair, await check)

        async def work() -> Json:
            if from_replica:
                tasks = await restores.restore(pair, chosen, rate or 0, force=force, keep_undo=keep_undo)
            else:
                tasks = await snapbacks.back(pair, chosen, rate or 0)
            if not tasks:
                reason = (Reason.NOTHING_MISSED, f"{snapshot} and {pair.origin.volume.name} hold the same")
                tasks = [self.context.tasks.ended(TaskType.SNAPBACK, pair.origin.volume.name, chosen[0].name, reason)]
            return {"task": tasks[0].json(), "tasks": [t.json() for t in tasks]}

        return await self._apart(work)

    async def refresh(
        self, *, snapshot: str, freeze: Sequence[str] = (), rate: int | None = None, dry_run: bool = False
    ) -> Json:
        """Give a snapshot back, and take it anew under the same name when its plexes have arrived."""
        pair = pairs.pair_of(self.registry, snapshot)
        self._must_not_be_in_store(pair.unit)
        plexes = list(pair.volume.plexes)
        await must_be_freezable(self.registry, freeze)  # before it is given up
        if dry_run:
            return self._foretold(pair, await foretold.check_back(pair, plexes))
        wish = Wish(pair.origin.volume.name, snapshot, len(plexes))
        names = {plex.name for plex in plexes}

        async def again(plex: Plex) -> None:
            returned = [p for p in pair.origin.volume.plexes if p.name in names]
            if len(returned) == len(names) and all(p.state is PlexState.SNAPDONE for p in returned):
                await breakoffs.break_off(self.registry, [wish], freeze)

        async def work() -> Json:
            tasks = await snapbacks.back(pair, plexes, rate or 0, again)
            return {"task": tasks[-1].json(), "tasks": [t.json() for t in tasks]}

        return await self._apart(work)

    async def undo(
        self, *, volume: str, force: bool = False, rate: int | None = None, dry_run: bool = False
    ) -> Json:  # fmt: skip
        """Put back what --keep-undo kept, by the same maps. Failed('undo_missing')."""
        pair = pairs.pair_of(self.registry, undos.pair_name(self.registry, volume))
        clone = undos.clone_of(pair.volume)
        if dry_run:
            return self._foretold(pair, await foretold.check_restore(pair, [clone], force=force, keep_undo=False))

        async def work() -> Json:
            then = undos.clean_up(pair.origin, clone.uuid)
            tasks = await restores.restore(pair, [clone], rate or 0, force=force, kind=TaskType.UNDO, then=then)
            if not tasks:
                await then(clone)
                reason = (Reason.NOTHING_MISSED, f"volume {volume} is as it was")
                tasks = [self.context.tasks.ended(TaskType.UNDO, volume, clone.name, reason)]
            return {"task": tasks[0].json(), "tasks": [t.json() for t in tasks]}

        return await self._apart(work)

    async def snapclear(self, *, snapshot: str) -> Json:
        """Forget what ties a snapshot to its original. Refused('snap_instant')."""
        pair = pairs.pair_of(self.registry, snapshot)

        async def work() -> Json:
            await snapbacks.clear(pair)
            return self._shown(pair.unit)

        return await self._apart(work)

    async def snapprint(self, *, volume: str | None = None) -> Json:
        """Show every association and every detached plex, of one volume or of all."""
        services = [
            unit.service
            for unit in self.registry.units.originals()
            if unit.service is not None and volume in (None, unit.name, *self._snapshots_of(unit.service))
        ]
        if volume is not None:
            self.registry.unit(volume)
        return {
            "snapshots": [shown for service in services for shown in snapshots_json(service.running)],
            "detached": [shown for service in services for shown in detached_json(service.running)],
        }

    @staticmethod
    def _snapshots_of(service: Service) -> list[str]:
        return [s.name for s in service.mirror.store.family.snapshots_of(service.volume)]

    def _foretold(self, pair: pairs.Pair, targets: Sequence[Target]) -> Json:
        """One decision a plex that is copied to; where none is, that nothing is missed."""
        geometry, found = pair.origin.volume.geometry, []
        copied = [target for target in targets if target.regions]
        for target in copied or targets[:1]:
            regions, size = target.regions, geometry.bytes_in(target.regions, target.last)
            code = Reason.FAST if regions else Reason.NOTHING_MISSED
            message = f"plex {target.plex.name} {target.why}"
            name = pair.origin.volume.name
            found.append(self._decision(name, target.plex.name, code, message, regions, size))
        return {"decision": found[0], "decisions": found}
