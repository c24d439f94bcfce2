"""A home is one home copy of the DCO, and what is open of its family: a volume and its snapshots, each started on its
own.

The home copy is opened with the first of them and closed with the last. What stands for a volume that is not started is
a Volume as the home copy tells it (`recovery.shelved_volume`), which nothing writes to.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import trio

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.backing.protocol import DcoFile
from fmrd.core.decisions.recovery import shelved_volume
from fmrd.core.decisions.snapback import forget
from fmrd.core.images import CopyImage
from fmrd.core.record import Record, VolumeRecord
from fmrd.core.volume.family import Family
from fmrd.dco.copy import DcoCopy
from fmrd.dco.ledger import Ledger, change
from fmrd.dco.loading import Loaded, Reading
from fmrd.engine.context import Context
from fmrd.engine.copies.remembered import Remembered
from fmrd.engine.opening.closing import let_go
from fmrd.engine.opening.files import CALLS, go_on, off_the_loop
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.open_plex import Lanes
from fmrd.errors import Failed, Refused

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class Home:
    """A home is named as its file in the state directory, which is the original's name. ``lanes``, by plex uuid, and
    its own ``lane`` outlive what is open, since a call that hangs counts until it has landed. Used on trio's thread.
    """

    context: Context
    name: str
    ledger: Ledger | None = None
    lanes: dict[str, Lanes] = field(default_factory=dict)
    lane: Lanes = field(init=False)
    remembered: Remembered | None = None
    mirrors: dict[str, Mirror] = field(default_factory=dict)
    """The mirrors of the volumes that are started, by uuid."""
    busy: trio.Lock = field(default_factory=trio.Lock)
    """Held by whoever opens: one volume of the family is opened at a time."""
    _last: Record | None = None
    _in_use: bool = False  # something is done to the record, or is about to be, though nothing may be started

    def __post_init__(self) -> None:
        self.lane = Lanes(f"{self.name} home")

    @property
    def record(self) -> Record | None:
        """Return the record as it is, or was when it was last open or read; None if it never could be."""
        return self.ledger.last_record if self.ledger is not None else self._last

    def opened(self) -> set[str]:
        """The plexes that are open, by uuid."""
        return {uuid for mirror in self.mirrors.values() for uuid in mirror.opened}

    def lanes_of(self, uuid: str, name: str) -> Lanes:
        """Return the lanes of a plex, the same ones for as long as the daemon runs."""
        return self.lanes.setdefault(uuid, Lanes(name))

    async def read(self, only: str | None = None) -> Loaded:
        """Read the file, or ``only`` a volume's pages, and close it again. Refused('home_damaged') if it has no valid
        record; ('home_missing'), ('dco_feature') and OSError fly through.
        """

        def run() -> tuple[DcoFile | None, Reading, Loaded | None]:
            file = self.context.host.open_home(self.name)
            reading = Reading(file, only)
            done = True
            try:
                loaded = reading.go_on(CALLS)
                done = loaded is not None
            finally:
                if done:
                    file.close()
            return None if done else file, reading, loaded

        lane, timeout = Lane(f"{self.name} home"), self.context.io_timeout_seconds
        file, reading, loaded = await ask(self.context.system, lane, run, timeout)
        if file is not None:
            try:
                loaded = await go_on(self.context, lane, reading, timeout)
            finally:
                let_go(self.context, lane, file)
        assert loaded is not None, "it was read to its end"
        if loaded.image.record is None:
            raise Refused(
                "home_damaged", f"volume {self.name}: no record of the home copy is valid", "fmrctl import PATH..."
            )
        self._last = loaded.image.record
        return loaded

    async def must_not_hang(self) -> None:
        """Raise Failed('home_failed') while a call on the home copy has not returned."""
        await self.lane.closed(self.context.io_timeout_seconds)
        count = self.lane.data.outstanding
        if count and self.ledger is None:
            raise Failed(
                "home_failed", f"volume {self.name}: {count} system call(s) on the home copy have not returned yet"
            )

    async def open(self, record: Record, loaded: Loaded) -> Ledger:
        """Return the ledger, over the file that is there."""
        lane = self.lane.data
        file = await ask(
            self.context.system, lane, lambda: self.context.host.open_home(self.name), self.context.io_timeout_seconds
        )
        home = DcoCopy("home", file, lane, record.family, record.rows)
        home.adopt(loaded)
        return await self._begin(record, home, loaded, loaded.image)

    async def create(self, record: Record, size_bytes: int) -> Ledger:
        """Return the ledger over a new file, which counts once it is published: nothing is known of any page."""
        lane = self.lane.data
        file = await ask(
            self.context.system, lane, lambda: self.context.host.create_home(self.name, size_bytes),
            self.context.io_timeout_seconds,
        )  # fmt: skip
        home = DcoCopy("home", file, lane, record.family, record.rows)
        return await self._begin(record, home, None, CopyImage((None, None)))

    async def _begin(self, record: Record, home: DcoCopy, loaded: Loaded | None, image: CopyImage) -> Ledger:
        try:
            shelved = [
                await off_the_loop(self.context, settings, partial(shelved_volume, record, settings, image))
                for settings in record.volumes
            ]
        except BaseException:
            let_go(self.context, home.lane, home.file)
            raise
        family = Family.of(record, shelved)
        timeout = record.volume.io_timeout_seconds
        ledger = Ledger(family, home, self.context.system, timeout_seconds=timeout)
        ledger.assume(record)
        if loaded is not None:
            self.keep_ahead_of(ledger, loaded)
        self.ledger = ledger
        return ledger

    @staticmethod
    def keep_ahead_of(ledger: Ledger, loaded: Loaded) -> None:
        """Make what is written from now on newer than whatever lies on that copy."""
        ledger.page_sequence = max(ledger.page_sequence, loaded.page_sequence)
        ledger.family.next_epoch = max(ledger.family.next_epoch, loaded.next_epoch)

    async def publish(self) -> None:
        """Give a new home copy its name: the commit point of an import."""
        await ask(
            self.context.system, self.lane.data, lambda: self.context.host.publish_home(self.name),
            self.context.io_timeout_seconds,
        )  # fmt: skip

    def let_go_if_idle(self) -> None:
        """Have the home copy closed when no volume of the family is started any more, in this step."""
        if self.ledger is not None and not self.ledger.stores and not self._in_use:
            self._last = self.ledger.last_record or self._last
            let_go(self.context, self.lane.data, self.ledger.home.file)
            self.ledger = None

    async def close_if_idle(self) -> None:
        """The same, and return when it is closed."""
        self.let_go_if_idle()
        await self.lane.closed(self.context.io_timeout_seconds)

    @asynccontextmanager
    async def kept_open(self) -> AsyncIterator[None]:
        """Keep the home copy open in here, for one at a time, also when the last volume stops meanwhile; or what was
        read of it before that stop would be taken for the newest.
        """
        async with self.busy:
            self._in_use = True
            try:
                yield
            finally:
                self._in_use = False
                await self.close_if_idle()

    async def forget(self, name: str) -> None:
        """A volume that is stopped leaves its family; with the last one the home copy goes too. Failed
        ('volume_missing') for one that the home copy does not name: what it names then is others'.
        """
        async with self.kept_open():
            names = await self._names()
            if name not in names:
                raise Failed("volume_missing", f"the home copy {self.name} names no volume {name}")
            await self.context.forget_checksums(name)
            if names == [name]:
                self._last = None
                await self.ask(partial(self.context.host.remove_home, self.name))
            else:
                await self._forget(self.ledger or await self.reopen(), name)

    async def _names(self) -> list[str]:
        """Of the volumes on it, the one that is asked for last; of one that cannot be read only its own."""
        if self.ledger is None:
            try:
                await self.read()
            except Refused:  # no record of it is valid
                return [self.name]
        record, family = self.record, self.ledger.family if self.ledger is not None else None
        named = [volume.name for volume in record.volumes] if record is not None else []
        return [name for name in named if family is None or any(name == v.name for v in family.volumes)]

    async def _forget(self, ledger: Ledger, name: str) -> None:
        if self.name == name:  # first, or a new volume of that name would overwrite what is the others' now
            taken = await self.ask(self.context.host.homes)
            left = [v.name for v in ledger.family.volumes if v.name != name and v.name not in taken]
            if not left:
                raise Failed(
                    "volume_exists", f"volume {name}: there is another home copy of the name that it would get"
                )
            await self.ask(partial(self.context.host.rename_home, name, left[0]))
            self.name = left[0]

        def step() -> None:
            volume = next((v for v in ledger.family.volumes if v.name == name), None)
            if volume is None:
                raise Failed("volume_missing", f"the home copy {self.name} names no volume {name}")
            forget(ledger.family, volume)

        volume = next((v for v in ledger.family.volumes if v.name == name), None)
        origin = None if volume is None else ledger.family.original_of(volume)
        store = None if origin is None else ledger.stores.get(origin.settings.uuid)
        await change([store] if store is not None else [], step, ledgers=[ledger])

    async def reopen(self) -> Ledger:
        await self.must_not_hang()
        loaded = await self.read()
        assert loaded.image.record is not None
        return await self.open(loaded.image.record, loaded)

    async def ask(self, run: Callable[[], T]) -> T:
        return await ask(self.context.system, Lanes(self.name).data, run, self.context.io_timeout_seconds)

    def settings(self, name: str) -> VolumeRecord | None:
        """Return a volume of the family as it is recorded; None where it is none."""
        return self.record.named(name) if self.record is not None else None
