"""fmrd is put together here: options, one nursery, signals, and an orderly stop."""

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from fmrd.backing.calls.idle_time import IdleTime
from fmrd.backing.calls.ring_calls import system_calls
from fmrd.backing.host import LinuxHost
from fmrd.backing.ring.ring import Ring
from fmrd.engine.context import Context
from fmrd.engine.registry import Registry
from fmrd.engine.verbs.verbs import Verbs
from fmrd.errors import Failed, FmrdError
from fmrd.front.conf.heeding import Configured
from fmrd.front.daemon.attention import Attention
from fmrd.front.daemon.control import Control
from fmrd.front.daemon.keeping import become_keeper
from fmrd.front.daemon.log import log_to_standard_error
from fmrd.front.daemon.memory import prepare_memory
from fmrd.front.daemon.mounts_seen import watch_mounts
from fmrd.front.daemon.supervisor import Supervisor, supervisor_of
from fmrd.front.doors.channel import takeover
from fmrd.front.doors.channel.door import ChannelDoor
from fmrd.front.doors.mounts import drop_if_dead, write_back
from fmrd.front.metrics.metrics import Metrics, options
from fmrd.front.metrics.server import Where
from fmrd.front.places import HOOKS, a_path, default_places
from fmrd.front.told.outlets import Outlets

if TYPE_CHECKING:
    from fmrd.front.doors.fusefs import FuseDoor

log = logging.getLogger("fmrd")

DOORS = ("channel", "pyfuse3")
FINISH_SECONDS = 5.0
"""How long an orderly stop waits for requests that do not end."""


@dataclass
class Daemon:
    """A daemon lives as long as the process. ``run`` returns after an orderly stop; FmrdError where it cannot run."""

    state: Path
    mount: Path
    socket: Path
    door: str = "channel"
    uring: bool = True
    hooks: Path = HOOKS
    metrics: Metrics = field(default_factory=Metrics)
    supervisor: Supervisor = field(default_factory=Supervisor)
    _stop: trio.Event = field(default_factory=trio.Event)
    _may_leave: bool = False
    _mount_gone: Failed | None = None

    async def run(self) -> None:
        """Own the state directory, serve, and stop in order when told. CONCURRENCY, "Who runs", has the tasks."""
        system = system_calls(uring=self.uring)
        host = await trio.to_thread.run_sync(_own, self.state, self.mount, system.ring)
        registry = Registry(Context(host, system), str(self.mount))
        if host.left_behind and takeover.DEVICE not in self.supervisor.kept:
            await drop_if_dead(self.mount)
        door = self._door(registry, system.idle)
        outlets = await trio.to_thread.run_sync(Outlets, registry, self.state, self.hooks)
        control = Control(self.socket, Verbs(registry), door.caught_up, outlets.history.found, outlets.nights)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outlets.run)
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
                nursery.start_soon(self._heed, signals, nursery.cancel_scope)
                await nursery.start(self._serve, door)
                opened = trio.Event()
                nursery.start_soon(_open, registry, opened)
                await registry.running.wait()
                nursery.start_soon(watch_mounts, registry.context.coming.tell)
                await nursery.start(self.metrics.run, registry)
                control_scope = await nursery.start(_until_told, control)
                nursery.start_soon(self._announce, opened)
                await self._stop.wait()
                heard = self.supervisor.notify("STOPPING=1")
                control_scope.cancel()
                if self._may_leave and heard and door.leave():
                    log.info("leaving %s to the next fmrd", self.mount)
                    await _ended(door)
                    await registry.close()
                else:
                    await write_back(self.mount)
                    await registry.close()
                    await _ended(door)
                await trio.to_thread.run_sync(outlets.close)
                nursery.cancel_scope.cancel()
        if self._mount_gone is not None:
            raise self._mount_gone

    def _door(self, registry: Registry, idle: IdleTime) -> "ChannelDoor | FuseDoor":
        if self.door == "pyfuse3":
            door = _pyfuse3_door(registry, self.mount)
            takeover.drop(self.supervisor)
            return door
        return ChannelDoor(registry, self.mount, self.supervisor, idle)

    async def _serve(self, door: "ChannelDoor | FuseDoor", task_status: trio.TaskStatus[None]) -> None:
        """Without its mount the daemon is of no use: it stops in order, and fails."""
        async with trio.open_nursery() as nursery:
            await nursery.start(door.run)
            task_status.started()
        if not self._stop.is_set():
            self._mount_gone = Failed(
                "mount_failed", f"{self.mount} was unmounted, or cut off, by somebody else: stopping in order"
            )
            log.error("%s", self._mount_gone.message)
            self._stop.set()

    async def _heed(self, signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
        """The first signal asks for an orderly stop, a second one for an end at once (then the DRL has work).
        SIGTERM is what a restart or an upgrade sends: where somebody keeps the mount, files that are open stay open.
        """
        async for number in signals:
            name = signal.Signals(number).name
            if number == signal.SIGHUP:
                log.info("SIGHUP: there is nothing to be read again")
                continue
            if self._stop.is_set():
                log.warning("%s again: leaving at once", name)
                everything.cancel()
                return
            log.info("%s: stopping in order", name)
            self._may_leave = number == signal.SIGTERM
            self._stop.set()

    async def _announce(self, opened: trio.Event) -> None:
        await opened.wait()
        log.info("ready: volumes in %s, commands on %s", self.mount, self.socket)
        self.supervisor.notify("READY=1")


def _pyfuse3_door(registry: Registry, mount: Path) -> "FuseDoor":
    """Make that door; Failed('door_missing') where its library, which the other one does not need, is not there."""
    try:
        from fmrd.front.doors.fusefs import FuseDoor
    except ImportError as error:
        raise Failed("door_missing", f"--door pyfuse3: that library cannot be imported ({error})") from error
    return FuseDoor(registry, mount)


async def _ended(door: "ChannelDoor | FuseDoor") -> None:
    with trio.move_on_after(FINISH_SECONDS):
        await door.stop()


async def _open(registry: Registry, opened: trio.Event) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(registry.run)
        opened.set()


async def _until_told(control: Control, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(control.run)
            task_status.started(scope)


def _own(state: Path, mount: Path, ring: Ring | None) -> LinuxHost:
    try:
        host = LinuxHost(state, mount, ring)
        host.lock()
    except OSError as error:
        raise Failed("state_failed", f"{state} cannot be used: {error.strerror or error}") from error
    return host


@click.command(cls=Configured, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--state", type=a_path, metavar="DIRECTORY", envvar="FMRD_STATE", help="Directory of the home copies.")
@click.option("--mount", type=a_path, metavar="DIRECTORY", envvar="FMRD_MOUNT", help="Where volumes appear as files.")
@click.option("--socket", type=a_path, metavar="PATH", envvar="FMRD_SOCKET", help="Control socket of fmrctl.")
@click.option(
    "--door", type=click.Choice(DOORS), default="channel", show_default=True, envvar="FMRD_DOOR",
    help="Who speaks with the kernel: fmrd itself, or pyfuse3.",
)  # fmt: skip
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True,
    envvar="FMRD_LOG_LEVEL",
)  # fmt: skip
@click.option("--keeper", is_flag=True, help="Run fmrd as a child, again when it dies; hold the mount meanwhile.")
@click.option(
    "--uring/--no-uring", default=True, show_default=True, envvar="FMRD_URING",
    help="Write to local disks by io_uring where the kernel has it, or by threads.",
)  # fmt: skip
@click.option("--hooks", type=a_path, default=HOOKS, show_default=True, metavar="DIRECTORY", envvar="FMRD_HOOKS",
              help="Programs that are run with each event.")  # fmt: skip
@options
@click.version_option(package_name="fmrd")
def main(
    state: Path | None, mount: Path | None, socket: Path | None, door: str, log_level: str, keeper: bool, uring: bool,
    hooks: Path, metrics: Where | None, metrics_file: Path | None,
) -> None:  # fmt: skip
    """Serve mirrored volumes as files, in the foreground, until SIGTERM or SIGINT. Logs go to standard error.

    Without options the places are /var/lib/fmrd, /run/fmrd/volumes and /run/fmrd/fmrd.sock for root, and the user's
    XDG state and runtime directories for others. Missing directories are made. SIGHUP does nothing: settings are
    changed by fmrctl set, and count at once.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # whenever it comes, and whatever terminal goes
    log_to_standard_error(log_level)
    places = default_places()
    daemon = Daemon(
        (state or places.state).absolute(), (mount or places.mount).absolute(),
        (socket or places.socket).absolute(), door, uring, hooks.absolute(),
        Metrics(metrics, metrics_file and metrics_file.absolute()),
    )  # fmt: skip
    if keeper:
        become_keeper(
            ["--state", daemon.state, "--mount", daemon.mount, "--socket", daemon.socket, "--door", door,
             "--hooks", daemon.hooks, "--log-level", log_level, "--uring" if uring else "--no-uring",
             *daemon.metrics.words()], door,
        )  # fmt: skip
    daemon.supervisor = supervisor_of(os.environ, os.getpid())
    prepare_memory()
    error: FmrdError | None = None
    try:
        trio.run(daemon.run, clock=Attention(), strict_exception_groups=True)
    except* FmrdError as group:
        error = _first(group)
    if error is not None:  # not in the handler: Python 3.11 before 3.11.4 wraps what is raised there in a group
        log.error("%s", error)
        if error.hint:
            log.error("hint: %s", error.hint)
        sys.exit(error.exit_status)


def _first(group: BaseExceptionGroup[FmrdError]) -> FmrdError:
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    assert isinstance(inner, FmrdError)
    return inner


if __name__ == "__main__":
    main()
