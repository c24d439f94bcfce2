"""A volume that the state directory knows, whether it is started, stopped or failed."""

from dataclasses import dataclass, field

import trio

from fmrd.core.record import VolumeRecord
from fmrd.engine.opening.homes import Home
from fmrd.engine.service import Service
from fmrd.errors import FmrdError

LATE = frozenset({"no_current_plex"})
"""What a start is refused with that a disk may mend by coming later."""


@dataclass
class Unit:
    """A unit is a volume that the state directory knows: started (``service``), stopped, or failed (``failure``)."""

    name: str
    home: Home
    service: Service | None = None
    failure: FmrdError | None = None
    busy: trio.Lock = field(default_factory=trio.Lock)

    @property
    def settings(self) -> VolumeRecord | None:
        """As the home copy has them; None where it could never be read."""
        return self.home.settings(self.name)
