"""Every verb of fmrctl stands on this."""

from collections.abc import Awaitable, Callable

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.core.json_object import Json
from fmrd.engine.registry import Registry
from fmrd.engine.units import Unit
from fmrd.engine.verbs.view import stopped_json, unreadable_json, volume_json
from fmrd.errors import Failed


class VerbBase:
    """A verb has the registry, and runs to its end, also when the client that asked goes away. It raises FmrdError."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.context = registry.context

    async def _apart(self, work: Callable[[], Awaitable[Json]]) -> Json:
        try:
            return await self.registry.apart(work)
        except OSError as error:
            raise Failed("io_error", str(error)) from error

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

    async def _ask(self, run: Callable[[], None]) -> None:
        await ask(self.context.system, Lane("admin"), run, self.context.io_timeout_seconds)
