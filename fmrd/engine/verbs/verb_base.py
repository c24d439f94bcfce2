"""Every verb of fmrctl stands on this."""

from collections.abc import Awaitable, Callable, Sequence

from fmrd.core.geometry import Geometry
from fmrd.core.json_object import Json
from fmrd.core.reasons import Reason
from fmrd.engine.opening.taking import Manners, PlexWish
from fmrd.engine.registry import Registry
from fmrd.engine.units import Unit
from fmrd.engine.verbs.view import stopped_json, unreadable_json, volume_json
from fmrd.errors import failed_by


class VerbBase:
    """A verb has the registry, and runs to its end, also when the client that asked goes away. It raises FmrdError."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.context = registry.context

    async def _apart(self, work: Callable[[], Awaitable[Json]]) -> Json:
        try:
            return await self.registry.apart(work)
        except OSError as error:
            raise failed_by(error) from error

    def _path(self, name: str) -> str:
        return f"{self.registry.mount_path}/{name}"

    def _volume(self, name: str) -> Json:
        return self._shown(self.registry.unit(name))

    def _shown(self, unit: Unit) -> Json:
        """Also of one that is gone by now: of what a verb did it is told, whatever came after it."""
        name = unit.name
        if unit.service is not None:
            return {"volume": volume_json(unit.service.running, self._path(name))}
        failure = unit.failure
        error = None if failure is None else {"code": failure.code, "message": failure.message, "hint": failure.hint}
        if unit.settings is None:
            return {"volume": unreadable_json(name, self._path(name), error)}
        return {"volume": stopped_json(unit.settings, self._path(name), error=error)}

    def _decision(self, volume: str, plex: str, code: str, message: str, regions: int, size: int) -> Json:
        """Return what would be copied, and for how long, by the speed of earlier copies."""
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

    def _new_plex(self, volume: str, path: str, geometry: Geometry) -> Json:
        """The decision of one that holds nothing yet."""
        message = f"a new plex on {path}: all of it is copied"
        return self._decision(volume, path, Reason.FULL_NEW_PLEX, message, geometry.regions, geometry.length_bytes)

    def _manners(self, *, force: bool, keep: str | None = None) -> Manners:
        """How a path may be taken, by all that the records here name."""
        taken: dict[str, str] = {}
        closed: list[str] = []
        families: set[str] = set()
        for unit in self.registry.units.values():
            record, opened = unit.home.record, unit.home.opened()
            if record is not None:
                families.add(record.family)
            for plex in unit.settings.plexes if unit.settings is not None else ():
                for path in PlexWish(plex.path, plex.dco_path).paths:
                    taken[path] = f"it belongs to plex {plex.name} of volume {unit.name}"
                    closed += [path] if plex.uuid not in opened else []
        mount = self.registry.mount_path or None
        return Manners(mount, taken, closed, frozenset(families), force=force, keep=keep)

    @staticmethod
    def _notice(sentences: Sequence[str]) -> Json:
        return {"notice": "; ".join(sentences)} if sentences else {}
