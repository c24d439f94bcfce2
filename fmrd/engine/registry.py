"""All volumes of the daemon: opening them, serving them to a door, closing them."""

import errno
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import trio

from fmrd.core.decisions.standing import StartOptions
from fmrd.core.record import VolumeRecord
from fmrd.engine.apart import Apart
from fmrd.engine.context import Context
from fmrd.engine.opening.homes import Home
from fmrd.engine.opening.start import Opening, start_at_home
from fmrd.engine.opening.still_opening import Arriving
from fmrd.engine.served import Served, number_of
from fmrd.engine.service import Service
from fmrd.engine.verify import verifying
from fmrd.errors import Failed, FmrdError, Refused

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class Unit:
    """A volume that the state directory knows: started (``service``), stopped, or failed (``failure``)."""

    name: str
    home: Home
    service: Service | None = None
    failure: FmrdError | None = None
    busy: trio.Lock = field(default_factory=trio.Lock)

    @property
    def settings(self) -> VolumeRecord | None:
        """As the home copy has them; None where it could never be read."""
        return self.home.settings(self.name)


class Registry:
    """``run`` for the daemon's life; ``close`` ends it in order."""

    def __init__(self, context: Context, mount_path: str = "") -> None:
        self.context = context
        self.mount_path = mount_path
        self.units: dict[str, Unit] = {}
        self._served: dict[str, Served] = {}
        self.arriving = Arriving()
        self._watchers: list[Callable[[Served], None]] = []
        self._scope = trio.CancelScope()
        self._apart = Apart()
        self.running = trio.Event()
        """Verbs may be called."""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open every volume; report started when each is open or has failed, or after io_timeout."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                self.context.nursery = nursery
                self.running.set()
                done = trio.Event()
                self.arriving.found(self.context.host.homes())
                nursery.start_soon(self._open_all, done)
                with trio.move_on_after(self.context.io_timeout_seconds):
                    await done.wait()
                task_status.started()
                await trio.sleep_forever()

    async def _open_all(self, done: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            for name in sorted(self.arriving.unread or ()):
                nursery.start_soon(self._open_family, Home(self.context, name))
        done.set()

    async def _open_family(self, home: Home) -> None:
        """A volume that is refused keeps none of its family down."""
        try:
            await home.read()
        except (FmrdError, OSError) as error:
            self._failed(self.add(home.name, home), error)
        units = []
        if home.record is not None:
            units = [self.add(volume.name, home) for volume in home.record.volumes if self._is_free(volume.name, home)]
        settings = [unit.settings for unit in units if unit.settings is not None]
        self.arriving.read(home.name, {each.name: number_of(each.uuid) for each in settings if not each.stopped})
        # An original that is written before its instant snapshots are there would lose what they were to keep.
        instant = any(each.is_instant for each in settings)
        for unit in units:
            await self._open_at_boot(unit, served=not instant)
        for unit in units if instant else ():
            self.serve(unit)
            self.arriving.ended(unit.name)

    def _is_free(self, name: str, home: Home) -> bool:
        taken = name in self.units
        if taken:
            log.error("volume %s of the home copy %s is left out: there is another one of that name", name, home.name)
        return not taken

    async def _open_at_boot(self, unit: Unit, *, served: bool) -> None:
        try:
            if unit.settings is not None and not unit.settings.stopped:
                await self.start(unit, StartOptions(), served=served)
        except (FmrdError, OSError) as error:
            self._failed(unit, error)
        if served or unit.service is None:
            self.arriving.ended(unit.name)

    def _failed(self, unit: Unit, error: FmrdError | OSError) -> None:
        unit.failure = error if isinstance(error, FmrdError) else Failed("io_error", str(error))
        log.error("volume %s does not start: %s", unit.name, unit.failure)

    def add(self, name: str, home: Home) -> Unit:
        unit = Unit(name, home)
        self.units[name] = unit
        return unit

    def unit(self, name: str) -> Unit:
        try:
            return self.units[name]
        except KeyError:
            unread = self.arriving.unread
            yet = f" yet: the daemon still reads {', '.join(sorted(unread))}" if unread else ""
            raise Failed("volume_missing", f"there is no volume {name}{yet}", errno=errno.ENOENT) from None

    def originals(self) -> list[Unit]:
        """Volumes that are no snapshots, by name."""
        units = [self.units[name] for name in sorted(self.units)]
        return [u for u in units if u.settings is not None and u.settings.snapshot_of is None]

    def service(self, name: str) -> Service:
        """Of a started volume."""
        unit = self.unit(name)
        if unit.service is None:
            if self.arriving.may_come(name=name):
                raise Failed("volume_stopped", f"volume {name} is still being opened", "try again in a moment")
            why = f": {unit.failure.message}" if unit.failure is not None else ""
            raise Failed("volume_stopped", f"volume {name} is stopped{why}", f"fmrctl start {name}", errno=errno.ENODEV)
        return unit.service

    async def start(self, unit: Unit, options: StartOptions, *, served: bool = True) -> Service:
        """PROTOCOLS, "Start at home", then everything that runs by itself."""
        async with unit.busy:
            if unit.service is not None:
                return unit.service
            return self.adopt(unit, await start_at_home(unit.home, unit.name, options), served=served)

    def adopt(self, unit: Unit, opening: Opening, *, served: bool = True) -> Service:
        """An open volume: what runs by itself begins, and doors see it, unless they must wait for ``serve``."""
        unit.service = Service(self.context, opening)
        unit.failure = None
        unit.home.mirrors[opening.mirror.volume.settings.uuid] = opening.mirror
        unit.service.start()
        if self.context.checksums:
            self.context.nursery.start_soon(
                verifying.go_on, unit.service.running, unit.service.checksums, partial(self.changed, unit.name)
            )
        if served:
            self.serve(unit)
        return unit.service

    def serve(self, unit: Unit) -> None:
        if unit.service is not None and unit.name not in self._served:
            served = Served(unit.name, unit.service.running)
            self._served[unit.name] = served
            self._tell(served)

    async def stop(self, unit: Unit, *, stopped: bool = True, even_open: bool = False) -> None:
        """Close it in order; its file disappears first, so that nothing new can open it. Refused('volume_open') while
        its file is open, unless ``even_open``: the daemon goes down.
        """
        async with unit.busy:
            service = unit.service
            if service is None:
                return
            if service.running.open_count and not even_open:
                raise Refused(
                    "volume_open",
                    f"volume {unit.name} is open ({service.running.open_count} time(s))",
                    "unmount it and detach its loop device first",
                )
            self.withdraw(unit)
            await service.close(stopped=stopped)

    def withdraw(self, unit: Unit) -> None:
        """Its file disappears, and it serves nobody any more."""
        served = self._served.pop(unit.name, None)
        if served is not None:
            served.withdrawn = True
            self._tell(served)
        unit.service = None

    @property
    def closing(self) -> bool:
        """The daemon goes down."""
        return self._apart.closed

    async def close(self) -> None:
        """Stop all volumes, each on its own, and end ``run``."""

        async def one(unit: Unit) -> None:
            try:
                await self.stop(unit, stopped=False, even_open=True)
            except (FmrdError, OSError) as error:
                log.error("volume %s was not closed in order: %s", unit.name, error)

        self._apart.closed = True
        await self._stop_all(one)
        await self._apart.all_ended()
        await self._stop_all(one)  # what a verb under way had still started
        self._scope.cancel()

    async def _stop_all(self, stop: Callable[[Unit], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            for unit in self.units.values():
                nursery.start_soon(stop, unit)

    # What a door needs

    def served(self) -> list[Served]:
        return [self._served[name] for name in sorted(self._served)]

    def find(self, name: str) -> Served | None:
        return self._served.get(name)

    def numbered(self, number: int) -> Served | None:
        return next((served for served in self._served.values() if served.number == number), None)

    def watch(self, callback: Callable[[Served], None]) -> None:
        """Called when a volume appears, disappears, changes length or becomes other data."""
        self._watchers.append(callback)

    def changed(self, name: str) -> None:
        if name in self._served:
            self._served[name].changed()
            self._tell(self._served[name])

    def _tell(self, served: Served) -> None:
        for watcher in self._watchers:
            watcher(served)

    async def apart(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a verb to its end, even if whoever asked goes away. Failed('stopping') when the daemon goes down."""
        return await self._apart.run(self.context.nursery, work)
