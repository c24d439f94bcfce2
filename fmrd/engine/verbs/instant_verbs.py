"""These are the verbs over instant snapshots: taken without a copy, and completed in the background."""

from collections.abc import Callable, Sequence

from fmrd.core.decisions.snapshot import INSTANT_BITMAPS
from fmrd.core.json_object import Json
from fmrd.core.records.parts import Receiving
from fmrd.core.volume.volume import Volume
from fmrd.dco.rows.widening import make_room
from fmrd.engine.opening.closing import close
from fmrd.engine.opening.files import dco_bytes
from fmrd.engine.opening.making import must_have_place, obtain, remove_created
from fmrd.engine.opening.taking import PlexWish, look_at
from fmrd.engine.snapshots.breakoffs import Wish, must_be_original
from fmrd.engine.snapshots.frozen import must_be_freezable
from fmrd.engine.snapshots.instants import begin_sync, take_instant
from fmrd.engine.units import Unit
from fmrd.engine.verbs.plex_verbs import PlexVerbs
from fmrd.errors import Failed, FmrdError, Refused


class InstantVerbs(PlexVerbs):
    """This part of Verbs takes and completes instant snapshots."""

    async def _instant(
        self, wish: Wish, plex: PlexWish, freeze: Sequence[str], *, force: bool, sync: bool, dry_run: bool,
        receiving: Receiving | None = None, check: Callable[[Volume], None] = lambda volume: None,
    ) -> Json:  # fmt: skip
        service = self.registry.service(wish.volume)
        room = self.context.stores.of_path(plex.path) if sync else None
        if room is not None:
            raise Refused("snap_in_store", f"{plex.path} lies in store {room.name}: no full copy is made there")
        manners = self._manners(force=force)

        async def work() -> Json:
            must_be_original(service.volume)
            await must_be_freezable(self.registry, freeze)
            rows = must_have_place(service.mirror.store.family, service.volume, plex, INSTANT_BITMAPS)
            if not dry_run:
                await make_room(service.mirror.store.ledger, INSTANT_BITMAPS, service.volume)
            geometry, timeout = service.volume.geometry, service.running.timeout_seconds
            [looked] = await look_at(self.context, [plex], geometry, manners, timeout, rows)
            if dry_run:
                kept = f"keep on {plex.path} what is written over"
                return {"notice": f"would take {wish.name} of {wish.volume}, and {kept}"}
            files, new = await obtain(self.context, looked, f"{wish.name}-01", geometry, timeout)
            try:
                unit, seconds = await take_instant(
                    self.registry, wish.volume, wish.name, plex.path, plex.dco_path, files, freeze, receiving,
                    check,
                )  # fmt: skip
            except BaseException as error:
                family = service.mirror.store.family
                if not any(p.path == plex.path for v in family.volumes for p in v.plexes):  # taken, recorded or not
                    await close(self.context, files.lanes, files)
                    if new and isinstance(error, FmrdError | OSError):
                        await remove_created(self.context, [(plex, files)], timeout)
                raise
            task = {"task": begin_sync(self.registry, unit).json()} if sync else {}
            shown = self._shown(unit)["volume"]
            return {"volume": shown, "volumes": [shown], "held_seconds": round(seconds, 6)} | task

        return await self._apart(work)

    async def _in_store(self, wish: Wish, name: str, freeze: Sequence[str], *, dry_run: bool) -> Json:
        """The same in a store, in a file named after the snapshot. Failed('store_full') where not even its copy of the
        DCO fits: nobody is given up for a new one.
        """
        room = self.context.stores.room(name)
        service = self.registry.service(wish.volume)
        plex = PlexWish(room.declared.path_of(wish.name), None)
        rows = must_have_place(service.mirror.store.family, service.volume, plex, INSTANT_BITMAPS)
        size = dco_bytes(service.volume.geometry, rows)

        async def make_sure() -> Json:
            await room.reserve(size, dry_run=dry_run)
            return {}

        await self._apart(make_sure)
        return await self._instant(wish, plex, freeze, force=False, sync=False, dry_run=dry_run)

    def _must_not_be_in_store(self, unit: Unit) -> None:
        """Refused('snap_in_store') of what would make a full copy where several share the room."""
        settings = unit.settings
        room = None if settings is None or not settings.is_instant else self.context.stores.of_path(
            settings.plexes[0].path
        )  # fmt: skip
        if room is not None and settings is not None:
            what = f"snapshot {unit.name} lies in store {room.name}, and would become a full copy there"
            raise Refused("snap_in_store", what, f"fmrctl restore {settings.snapshot_of} --from {unit.name}")

    async def snapsync(self, *, snapshot: str, rate: int | None = None) -> Json:
        """Let an instant snapshot become a full copy, in the background."""
        unit = self.registry.unit(snapshot)
        if unit.settings is None or unit.settings.link is None:
            raise Failed("snap_unknown", f"volume {snapshot} is no snapshot")
        if unit.settings.link.unkept is None:
            return self._volume(snapshot) | {"notice": f"nothing to change: {snapshot} holds everything itself"}
        self._must_not_be_in_store(unit)
        return {"task": begin_sync(self.registry, unit, rate or 0).json()}
