"""The verbs over instant snapshots: taken without a copy, and completed in the background."""

from collections.abc import Sequence

from fmrd.core.json_object import Json
from fmrd.core.volume.plex import Plex
from fmrd.engine.opening.files import let_go
from fmrd.engine.opening.making import obtain, remove_created
from fmrd.engine.opening.taking import PlexWish, look_at
from fmrd.engine.snapshots.breakoffs import Wish
from fmrd.engine.snapshots.instants import begin_sync, take_instant
from fmrd.engine.verbs.plex_verbs import PlexVerbs
from fmrd.engine.verbs.view import volume_json
from fmrd.errors import Failed, FmrdError


class InstantVerbs(PlexVerbs):
    """A part of Verbs."""

    async def _instant(
        self, wish: Wish, plex: PlexWish, freeze: Sequence[str], *, force: bool, sync: bool, dry_run: bool
    ) -> Json:
        service = self.registry.service(wish.volume)
        manners = self._manners(force=force)

        async def work() -> Json:
            geometry, timeout = service.volume.geometry, service.running.timeout_seconds
            [looked] = await look_at(self.context, [plex], geometry, manners, timeout)
            if dry_run:
                kept = f"keep on {plex.path} what is written over"
                return {"notice": f"would take {wish.name} of {wish.volume}, and {kept}"}
            files, new = await obtain(self.context, looked, f"{wish.name}-01", geometry, timeout)
            try:
                unit, seconds = await take_instant(
                    self.registry, wish.volume, wish.name, plex.path, plex.dco_path, files, freeze
                )
            except BaseException as error:
                if not any(p.path == plex.path for p in self._plexes_of(wish.name)):
                    let_go(self.context, files.lanes, files)
                    if new and isinstance(error, FmrdError | OSError):
                        await remove_created(self.context, [(plex, files)], timeout)
                raise
            task = {"task": begin_sync(self.registry, unit).json()} if sync else {}
            shown = volume_json(self.registry.service(unit.name).running, self._path(unit.name))
            return {"volume": shown, "volumes": [shown], "held_seconds": round(seconds, 6)} | task

        return await self._apart(work)

    def _plexes_of(self, name: str) -> Sequence[Plex]:
        """As they are in memory, recorded or not."""
        unit = self.registry.units.get(name)
        ledger = unit.home.ledger if unit is not None else None
        return [p for v in ledger.family.volumes if v.name == name for p in v.plexes] if ledger is not None else []

    async def snapsync(self, *, snapshot: str, rate: int | None = None) -> Json:
        """Let an instant snapshot become a full copy, in the background."""
        unit = self.registry.unit(snapshot)
        if unit.settings is None or unit.settings.link is None:
            raise Failed("snap_unknown", f"volume {snapshot} is no snapshot")
        if unit.settings.link.unkept is None:
            return self._volume(snapshot) | {"notice": f"nothing to change: {snapshot} holds everything itself"}
        return {"task": begin_sync(self.registry, unit, rate or 0).json()}
