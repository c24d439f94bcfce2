"""`rename`: a volume that is stopped gets another name, in one commit of its family."""

from fmrd.core.json_object import Json
from fmrd.engine.opening.renaming import rename
from fmrd.engine.verbs.verb_base import VerbBase
from fmrd.errors import Failed


class NameVerbs(VerbBase):
    """This part of Verbs concerns names."""

    async def rename(self, *, volume: str, name: str) -> Json:
        """Rename a volume. The record is the commit point; then the home copy's file follows, where it had the old
        name. Failed('volume_running'), ('volume_exists').
        """
        unit = self.registry.unit(volume)
        units = self.registry.units
        if volume == name:
            return self._volume(volume) | {"notice": f"nothing to change: that is the name of volume {volume}"}
        units.must_be_free(name)
        if unit.service is not None:
            raise Failed("volume_running", f"volume {volume} is started", f"fmrctl stop {volume}")

        async def work() -> Json:
            async with units.held(unit):
                if unit.service is not None:
                    raise Failed("volume_running", f"volume {volume} is started", f"fmrctl stop {volume}")
                units.must_be_free(name)
                units.reserved.add(name)
                try:
                    await self.context.forget_checksums(volume)
                    left = await rename(unit.home, volume, name)
                    units.rename(unit, name)
                finally:
                    units.reserved.discard(name)
            return self._shown(unit) | self._notice(left)

        return await self._apart(work)
