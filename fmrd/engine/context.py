"""A context is what every volume of the daemon shares: the machine, the clocks, the tasks. All of it is injected."""

import random
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import time

import trio

from fmrd.backing.calls.system_calls import Lane, SystemCalls, ask
from fmrd.backing.protocol import Host
from fmrd.core.geometry import PAGE_REGIONS
from fmrd.core.maps.drl import HOT_EXTENTS
from fmrd.dco.layout import COLUMNS
from fmrd.engine.events.ring import Events
from fmrd.engine.events.telling import copy_ended
from fmrd.engine.plexes.disks_come import Coming
from fmrd.engine.stores.stores import Stores
from fmrd.engine.tasks import TaskList


def _new_uuid() -> str:
    return str(uuid.uuid4())


@dataclass
class Context:
    """A context is made once. ``now`` gives seconds since the epoch, for people; deadlines use trio's clock.
    ``nursery`` is the registry's, and is there once Registry.run has begun.
    """

    host: Host
    system: SystemCalls
    now: Callable[[], float] = time
    new_uuid: Callable[[], str] = _new_uuid
    draw: Callable[[int], int] = random.randrange
    """A number below that."""
    io_timeout_seconds: float = 30.0
    clean_seconds: float = 5.0
    """How long an extent must be idle before the DRL forgets it (one to two of these)."""
    return_seconds: float = 5.0
    """After so long a plex that failed is tried again, at first; 0: never."""
    checksums: bool = True
    """Whether verify keeps some, and goes on after a restart."""
    hot_extents: int = HOT_EXTENTS
    """How many extents the DRL of a volume holds that is made now. Tests make it small: then it is crowded soon."""
    page_regions: int = PAGE_REGIONS
    """How many regions share a page in a volume that is made now. Tests make it small: then there are several pages."""
    columns: int = COLUMNS
    """How many bitmaps a row of the DCO holds of a volume that is made now. Tests make it small: then there are several
    banks of rows.
    """
    nursery: trio.Nursery = field(init=False)
    tasks: TaskList = field(init=False)
    events: Events = field(init=False)
    stores: Stores = field(init=False)
    coming: Coming = field(default_factory=Coming)
    disks: dict[str, trio.Lock] = field(init=False)
    """Two copies never share a disk: a copy holds the locks of its source and its target."""

    def __post_init__(self) -> None:
        self.events = Events(self.now)
        self.tasks = TaskList(self.now, partial(copy_ended, self.events))
        self.disks = defaultdict(trio.Lock)
        self.stores = Stores(self.host, self.system, self.events, lambda work: self.nursery.start_soon(work))

    async def forget_checksums(self, volume: str) -> None:
        """Remove what verify knows of a volume that is not started, and goes, or becomes other data."""
        if self.checksums:
            remove = partial(self.host.remove_checksums, volume)
            await ask(self.system, Lane(f"checksums of {volume}"), remove, self.io_timeout_seconds)
