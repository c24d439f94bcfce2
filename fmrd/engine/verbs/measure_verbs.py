"""These are the verbs over what is measured."""

from fmrd.core.json_object import Json
from fmrd.engine.measured.figures import figures_json
from fmrd.engine.measured.pictures import picture_of
from fmrd.engine.verbs.verb_base import VerbBase


class MeasureVerbs(VerbBase):
    """This part of Verbs only looks. Failed('volume_missing'), ('volume_stopped')."""

    async def stat(self, *, volume: str | None = None) -> Json:
        """Give what one started volume, or all of them, and their plexes did so far (Figures.json)."""
        if volume is not None:
            services = [self.registry.service(volume)]
        else:
            units = [self.registry.units[name] for name in sorted(self.registry.units)]
            services = [unit.service for unit in units if unit.service is not None]
        return {"figures": [each for service in services for each in figures_json(service.running)]}

    async def map(self, *, volume: str, plex: str | None = None, cells: int = 64) -> Json:
        """Give the picture of a started volume, or of what one plex or snapshot has in it. Failed('plex_unknown')."""
        return {"picture": await picture_of(self.registry.service(volume).running, plex, cells)}
