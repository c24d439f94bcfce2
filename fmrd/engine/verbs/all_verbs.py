"""Verbs over all volumes at once: all of them, or none."""

from collections.abc import Awaitable, Callable

from fmrd.core.decisions.standing import StartOptions
from fmrd.core.json_object import Json
from fmrd.engine.units import Unit
from fmrd.engine.verbs.verb_base import VerbBase
from fmrd.errors import Failed, FmrdError, Refused


class AllVerbs(VerbBase):
    """This part of Verbs starts and stops everything."""

    async def start_all(self) -> Json:
        """Start every volume that is not; those that were stopped again where one cannot be."""

        async def work() -> Json:
            begun: list[Unit] = []
            try:
                for unit in self._originals_first():
                    if unit.service is None:
                        await self.registry.start(unit, StartOptions(), served=False)
                        begun.append(unit)
            except (FmrdError, OSError) as error:
                left = await self._back(begun, self.registry.stop)
                raise Failed("not_all", f"no volume was started: {error}{left}") from error
            for unit in begun:  # together: an original that is written before its instant snapshot is there loses to it
                self.registry.serve(unit)
            return self._all(begun, "started")

        return await self._apart(work)

    async def stop_all(self) -> Json:
        """Stop every volume that is started. Refused('volume_open') while the file of any is open."""

        async def work() -> Json:
            units = [unit for unit in self._originals_first() if unit.service is not None]
            used = [u.name for u in units if u.service is not None and u.service.running.open_count]
            if used:
                raise Refused("volume_open", f"no volume was stopped: {', '.join(used)} are open", "unmount them first")
            ended: list[Unit] = []
            try:
                for unit in units:
                    await self.registry.stop(unit)
                    ended.append(unit)
            except (FmrdError, OSError) as error:
                left = await self._back(ended, lambda unit: self.registry.start(unit, StartOptions()))
                raise Failed("not_all", f"no volume was stopped: {error}{left}") from error
            return self._all(ended, "stopped")

        return await self._apart(work)

    @staticmethod
    async def _back(units: list[Unit], undo: Callable[[Unit], Awaitable[object]]) -> str:
        """Undo what was done to these, the last one first; return what to say where that cannot be."""
        left = []
        for unit in reversed(units):
            try:
                await undo(unit)
            except (FmrdError, OSError) as error:
                left.append(f"{unit.name} ({error})")
        return f"; this could not be taken back on {', '.join(left)}" if left else ""

    def _originals_first(self) -> list[Unit]:
        """Nothing writes to an original once its instant snapshot is stopped: that could not keep what is lost."""
        units = [self.registry.units[name] for name in sorted(self.registry.units)]
        return sorted(units, key=lambda unit: unit.settings is not None and unit.settings.snapshot_of is not None)

    def _all(self, units: list[Unit], done: str) -> Json:
        shown = [self._shown(unit)["volume"] for unit in sorted(units, key=lambda unit: unit.name)]
        return {"volumes": shown} | ({} if shown else {"notice": f"nothing to change: all volumes are {done} already"})
