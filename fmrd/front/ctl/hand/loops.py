"""`fmrctl loop` puts a volume on a loop device, `unloop` takes it off; and whoever makes a volume longer tells them."""

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator

import click

from fmrd.core.json_object import Json
from fmrd.core.printable import printable
from fmrd.errors import Failed, Refused
from fmrd.front.ctl.app import App
from fmrd.front.ctl.hand.holders import Loop, loops_on, mounted

LOOP_SET_CAPACITY = 0x4C07


@click.command()
@click.argument("volume")
@click.option("--partscan", is_flag=True, help="Its partitions appear as /dev/loopNp1, /dev/loopNp2...")
@click.option("--read-only", is_flag=True, help="Nobody writes through it.")
@click.pass_obj
def loop(app: App, volume: str, partscan: bool, read_only: bool) -> None:
    """Put a volume on a loop device, with direct I/O, and print that; one that it has already is kept."""
    path = started(app, volume)
    with alone(path):
        result = put_on_loop(path, volume, partscan=partscan, read_only=read_only)
        if read_only and not loops_on(path)[0].read_only:
            where = result["device"]
            raise Refused("volume_open", f"volume {volume} can be written on {where}", f"fmrctl unloop {volume}")
    app.show(result, lambda shown: app.out.print(shown["device"]))


@click.command()
@click.argument("volume")
@click.pass_obj
def unloop(app: App, volume: str) -> None:
    """Take a volume off its loop devices. Refused while one of them is mounted."""
    [shown] = app.ask("print", volume=volume)["volumes"]
    found = loops_on(shown["path"])
    points = mounted()
    for each in found:
        where = [point for key in each.keys for point in points.get(key, [])]
        if where:
            on = printable(where[0])
            raise Refused("volume_open", f"volume {volume}: {each.device} is mounted on {on}", f"umount {on}")
    for each in found:
        losetup("--detach", each.device)
    notice = {} if found else {"notice": f"nothing to change: volume {volume} is on no loop device"}
    result: Json = {"devices": [each.device for each in found], **notice}

    def people(shown: Json) -> None:
        for device in shown["devices"]:
            app.out.print(f"{device} is free")

    app.show(result, people)


def started(app: App, volume: str) -> str:
    """Return where the volume's file is; Failed('volume_stopped')."""
    [shown] = app.ask("print", volume=volume)["volumes"]
    if shown["kstate"] != "ENABLED":
        raise Failed("volume_stopped", f"volume {volume} is stopped", f"fmrctl start {volume}")
    return str(shown["path"])


def put_on_loop(path: str, volume: str, *, partscan: bool = False, read_only: bool = False) -> Json:
    """Return the device that it is on already, or a new one; by whoever is ``alone``. Refused('volume_open') where the
    one that is there cannot be written, and that is wanted.
    """
    there: list[Loop] = [each for each in loops_on(path) if each.whole]
    if not there:
        options = ["--direct-io=on", *(["--partscan"] if partscan else []), *(["--read-only"] if read_only else [])]
        return {"device": losetup("--find", "--show", *options, path)}
    device = there[0].device
    if there[0].read_only and not read_only:
        raise Refused("volume_open", f"volume {volume} is on {device} already, read-only", f"fmrctl unloop {volume}")
    return {"device": device, "notice": f"nothing to change: volume {volume} is on {device}"}


@contextlib.contextmanager
def alone(path: str) -> Iterator[None]:
    """Only one at a time looks for a device of a volume, makes one, and uses or drops it, systemd/fmrd-loop too: a file
    system that is mounted on two devices of one volume destroys itself. Failed('loop_failed').
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Failed("loop_failed", f"{printable(path)} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def losetup(*words: str) -> str:
    """Return what it prints; Failed('loop_failed')."""
    program = shutil.which("losetup", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        raise Failed("loop_failed", "losetup is not installed", "it is in the package util-linux or mount")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed("loop_failed", f"losetup: {printable(done.stderr.strip() or 'it failed', 500)}")
    return done.stdout.strip()


def tell_loops(path: str) -> None:
    """The volume is longer: loop devices on it are to follow. Who may not tell them leaves it to losetup -c."""
    with contextlib.suppress(OSError):
        for each in loops_on(path):
            descriptor = os.open(each.device, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(descriptor, LOOP_SET_CAPACITY)
            finally:
                os.close(descriptor)
