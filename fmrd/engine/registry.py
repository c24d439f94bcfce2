"""The registry has all volumes of the daemon: it opens them, serves them to a door, and closes them."""

import errno
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio

from fmrd.core.decisions.standing import StartOptions
from fmrd.engine.apart import Apart
from fmrd.engine.context import Context
from fmrd.engine.copies.remembered import Remembered
from fmrd.engine.events import telling
from fmrd.engine.opening import late
from fmrd.engine.opening.homes import Home
from fmrd.engine.opening.start import Opening, start_at_home
from fmrd.engine.opening.still_opening import Arriving
from fmrd.engine.served import Served, number_of
from fmrd.engine.service import Service
from fmrd.engine.units import LATE, Unit, Units
from fmrd.engine.verify import verifying
from fmrd.errors import Failed, FmrdError, Refused, failed_by

log = logging.getLogger(__name__)
T = TypeVar("T")


class Registry:
    """A registry is used on trio's thread. ``run`` lasts for the daemon's life; ``close`` ends it in order."""

    def __init__(self, context: Context, mount_path: str = "") -> None:
        self.context = context
        self.mount_path = mount_path
        self.units = Units()
        self._served: dict[str, Served] = {}
        self.arriving = Arriving()
        self._watchers: list[Callable[[Served], None]] = []
        self._scope = trio.CancelScope()
        self._apart = Apart()
        self.running = trio.Event()
        """Set once verbs may be called."""

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
            home.remembered = Remembered(await home.read())
        except (FmrdError, OSError) as error:
            if self._is_free(home.name, home):
                self._failed(self.units.add(home.name, home), error)
        volumes = home.record.volumes if home.record is not None else ()
        units = [self.units.add(v.name, home) for v in volumes if self._is_free(v.name, home)]
        settings = [unit.settings for unit in units if unit.settings is not None]
        self.arriving.read(home.name, {each.name: number_of(each.uuid) for each in settings if not each.stopped})
        # An original that is written before its instant snapshots are there would lose what they were to keep.
        instant = any(each.is_instant for each in settings)
        for unit in units:
            await self._open_at_boot(unit, served=not instant)
        home.remembered = None
        for unit in units if instant else ():
            self.serve(unit)
            self.arriving.ended(unit.name)

    def _is_free(self, name: str, home: Home) -> bool:
        taken = name in self.units
        if taken:
            log.error("volume %s of the home copy %s is left out: there is another one of that name", name, home.name)
        return not taken

    async def _open_at_boot(self, unit: Unit, *, served: bool) -> None:
        until = trio.current_time() + self.context.io_timeout_seconds
        start = partial(self._start_once, unit, served=served)
        try:
            if unit.settings is not None and not unit.settings.stopped:
                await late.once_disks_answer(start, unit.home, until)
        except (FmrdError, OSError) as error:
            self._failed(unit, error)
            if unit.failure is not None and unit.failure.code in LATE and self.context.return_seconds:
                self.context.nursery.start_soon(late.once_disks_come, partial(self._start_once, unit), self.context)
        if served or unit.service is None:
            self.arriving.ended(unit.name)

    async def _start_once(self, unit: Unit, *, served: bool = True) -> bool:
        """Return when there is no more to be tried, True."""
        if unit.service is None and self.units.knows(unit) and not self.closing:
            await self.start(unit, StartOptions(), served=served)
        return True

    def _failed(self, unit: Unit, error: FmrdError | OSError) -> None:
        unit.failure = error if isinstance(error, FmrdError) else failed_by(error)
        telling.refused(self.context.events, unit.name, unit.failure)

    def unit(self, name: str) -> Unit:
        """Return the unit of that name; Failed('volume_missing')."""
        try:
            return self.units[name]
        except KeyError:
            unread = self.arriving.unread
            yet = f" yet: the daemon still reads {', '.join(sorted(unread))}" if unread else ""
            raise Failed("volume_missing", f"there is no volume {name}{yet}", errno=errno.ENOENT) from None

    def service(self, name: str) -> Service:
        """Return the service of a started volume; Failed('volume_missing') or ('volume_stopped')."""
        unit = self.unit(name)
        if unit.service is None:
            if self.arriving.may_come(name=name):
                raise Failed("volume_stopped", f"volume {name} is still being opened", "try again in a moment")
            why = f": {unit.failure.message}" if unit.failure is not None else ""
            raise Failed("volume_stopped", f"volume {name} is stopped{why}", f"fmrctl start {name}", errno=errno.ENODEV)
        return unit.service

    async def start(self, unit: Unit, options: StartOptions, *, served: bool = True) -> Service:
        """PROTOCOLS, "Start at home", then everything that runs by itself."""
        async with self.units.held(unit):
            if unit.service is not None:
                return unit.service
            return self.adopt(unit, await start_at_home(unit.home, unit.name, options), served=served)

    def adopt(self, unit: Unit, opening: Opening, *, served: bool = True) -> Service:
        """Take an open volume in: what runs by itself begins, and doors see it, unless they must wait for ``serve``."""
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
            served = self._served[unit.name] = Served(unit.name, unit.service.running)
            self._tell(served)

    async def stop(self, unit: Unit) -> None:
        """Close it in order; its file disappears first, so that nothing new can open it. Refused('volume_open') while
        its file is open.
        """
        async with self.units.held(unit):
            await self.stop_held(unit)

    async def stop_held(
        self, unit: Unit, *, stopped: bool = True, even_open: bool = False, check: Callable[[], None] = lambda: None
    ) -> None:
        """The same for who holds it. ``even_open``: the daemon goes down. ``check`` may refuse it in the step that
        withdraws it, when no other verb is under way any more.
        """
        service = unit.service
        if service is None:
            check()
            return

        def leave() -> None:
            check()
            if service.running.open_count and not even_open:
                raise Refused(
                    "volume_open",
                    f"volume {unit.name} is open ({service.running.open_count} time(s))",
                    "unmount it and detach its loop device first",
                )
            self.withdraw(unit)

        await service.close(leave, stopped=stopped)

    def withdraw(self, unit: Unit) -> None:
        """Let its file disappear, in this step; it serves nobody any more."""
        served = self._served.pop(unit.name, None)
        if served is not None:
            served.withdrawn = True
            self._tell(served)
        unit.service = None

    @property
    def closing(self) -> bool:
        return self._apart.closed

    async def close(self) -> None:
        """Stop all volumes, each on its own, and end ``run``."""

        async def one(unit: Unit) -> None:
            try:
                async with unit.busy:
                    if self.units.knows(unit):
                        await self.stop_held(unit, stopped=False, even_open=True)
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

    def served(self) -> list[Served]:
        return [self._served[name] for name in sorted(self._served)]

    def find(self, name: str) -> Served | None:
        return self._served.get(name)

    def numbered(self, number: int) -> Served | None:
        """Return the volume that a door calls by that number, if it is served."""
        return next((served for served in self._served.values() if served.number == number), None)

    def watch(self, callback: Callable[[Served], None]) -> None:
        """``callback`` is called, in that step, when a volume appears, goes, changes length or becomes other data."""
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
