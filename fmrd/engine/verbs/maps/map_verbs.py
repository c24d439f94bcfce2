"""These are the verbs over maps that others use: what changed, and marks."""

from fmrd.core.json_object import Json
from fmrd.engine.maps import marking
from fmrd.engine.maps.changed import Asked, difference, must_be_whole, told
from fmrd.engine.verbs.verb_base import VerbBase


class MapVerbs(VerbBase):
    """This part of Verbs tells what changed, and keeps marks."""

    async def changed(
        self, *, volume: str, since: str | None = None, mark: str | None = None, everything: bool = False,
        whole: bool = False,
    ) -> Json:  # fmt: skip
        """Tell in which regions two states of a volume may differ, taken in one step; with ``everything`` all regions
        of a snapshot. ``whole``: Refused('snap_invalid') where not all of it can be read.
        """
        asked = Asked(volume, since, mark, everything)

        async def work() -> Json:
            if whole:
                must_be_whole(self.registry, volume)
            return await told(self.registry, difference(self.registry, asked))

        return await self._apart(work)

    async def mark(
        self, *, volume: str, name: str | None = None, reset: bool = False, delete: bool = False
    ) -> Json:  # fmt: skip
        """Set a mark, empty one, or let go of one; without a name only tell of all."""
        service = self.registry.service(volume)

        async def work() -> Json:
            if name is not None and delete:
                await marking.delete_mark(service.running, name)
            elif name is not None:
                await marking.set_mark(service.running, name, reset=reset)
            marks = service.volume.settings.marks
            return {"marks": [marking.mark_json(service.volume, each) for each in marks]}

        return await self._apart(work)
