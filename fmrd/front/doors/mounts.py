"""The mount point is seen to: what a dead daemon left there, and how many requests the kernel keeps in flight."""

import contextlib
import ctypes
import errno
import logging
import os
import shutil
import subprocess
from pathlib import Path

import trio

from fmrd.backing import private
from fmrd.errors import Failed

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


async def clear_stale_mount(mount: Path) -> None:
    """Make the directory, and unmount what a killed daemon left on it. Failed('mount_failed') if it is in use, or does
    not answer within a few seconds.
    """
    with trio.move_on_after(ANSWER_SECONDS) as scope:
        await trio.to_thread.run_sync(_clear, mount, abandon_on_cancel=True)
    if scope.cancelled_caught:
        raise Failed("mount_failed", f"{mount} does not answer")


def _clear(mount: Path) -> None:
    while True:
        try:
            os.statvfs(mount)  # stat would be answered from the kernel's cache
            break
        except FileNotFoundError:
            try:
                private.make(mount)
            except OSError as error:
                raise Failed("mount_failed", f"{mount} cannot be made: {error.strerror or error}") from error
            break
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise Failed("mount_failed", f"{mount}: {error.strerror}") from error
        log.warning("unmounting what a daemon that died left on %s", mount)
        unmount(mount)
    if not mount.is_dir():
        raise Failed("mount_failed", f"{mount} is not a directory")
    if os.path.ismount(mount):
        raise Failed("mount_failed", f"something is mounted on {mount} already")


async def drop_if_dead(mount: Path) -> None:
    """A process that was left behind with a call that hangs keeps its mount alive, and answers nothing there. It is
    unmounted, and cut off, so that who waits gets an error; a mount that answers is let be.
    """
    number = mounted_on(mount)
    if not number:
        return
    with trio.move_on_after(ANSWER_SECONDS), contextlib.suppress(OSError):
        await trio.to_thread.run_sync(os.statvfs, mount, abandon_on_cancel=True)
        return
    log.warning("unmounting what a daemon that was left behind keeps on %s", mount)
    await trio.to_thread.run_sync(_cut_off, mount, number)


def _cut_off(mount: Path, number: int) -> None:
    unmount(mount)
    try:
        Path(f"/sys/fs/fuse/connections/{os.minor(number)}/abort").write_text("1")
    except OSError as error:
        log.warning("who still uses that mount waits until the disk answers: %s", error)


def unmount(mount: Path) -> None:
    """Unmount lazily, since a loop device may still hold a file there. Failed('mount_failed'). It blocks."""
    if os.geteuid() == 0:
        if _libc.umount2(os.fsencode(mount), MNT_DETACH) != 0:
            code = ctypes.get_errno()
            raise Failed("mount_failed", f"{mount} holds a dead mount: {os.strerror(code)}")
        return
    helper = shutil.which("fusermount3") or "fusermount3"
    done = subprocess.run([helper, "-u", "-z", str(mount)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed("mount_failed", f"{mount} holds a dead mount: {done.stderr.strip()}")


def mounted_on(mount: Path) -> int:
    """Return the device number of what is mounted there, 0 for nothing. Of the mount itself nothing is asked: it may
    be this very process that would have to answer.
    """
    where = os.fsencode(mount.parent.resolve() / mount.name)
    found = 0
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        _, _, number, _, point, *_ = line.split(b" ")
        if _unescaped(point) == where:
            major, minor = number.split(b":")
            found = os.makedev(int(major), int(minor))  # the last one lies on top
    return found


def _unescaped(point: bytes) -> bytes:
    for code in (b"\\040", b"\\011", b"\\012", b"\\134"):
        point = point.replace(code, bytes([int(code[1:], 8)]))
    return point


async def write_back(mount: Path) -> None:
    """Have the kernel write what programs changed through mappings and did not sync yet; bounded. A mount that does not
    answer any more has nothing to write.
    """

    def run() -> None:
        descriptor = os.open(mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _libc.syncfs(descriptor)
        finally:
            os.close(descriptor)

    try:
        with trio.move_on_after(ANSWER_SECONDS):
            await trio.to_thread.run_sync(run, abandon_on_cancel=True)
    except OSError as error:
        log.warning("%s does not answer: %s", mount, error.strerror)


async def allow_more_in_flight(mount: Path, requests: int) -> None:
    """Let the kernel keep more than 12 asynchronous requests in flight, its default; a loop device wants more.

    Only root can do that, where there is the fuse control file system; without it things are merely slower at depth.
    """

    def run() -> None:
        connection = Path(f"/sys/fs/fuse/connections/{os.minor(os.stat(mount).st_dev)}")
        try:
            (connection / "max_background").write_text(str(requests))
            (connection / "congestion_threshold").write_text(str(requests * 3 // 4))
        except OSError as error:
            log.debug("requests in flight stay at the kernel's default: %s", error)

    await trio.to_thread.run_sync(run, abandon_on_cancel=True)
