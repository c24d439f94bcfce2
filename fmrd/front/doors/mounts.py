"""The mount point is seen to: what a dead daemon left there, and how many requests the kernel keeps in flight."""

import ctypes
import errno
import logging
import os
import shutil
import subprocess
from pathlib import Path

import trio

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
            mount.mkdir(mode=0o700, parents=True)
            break
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise Failed("mount_failed", f"{mount}: {error.strerror}") from error
        log.warning("unmounting what a daemon that died left on %s", mount)
        unmount(mount)
    if os.path.ismount(mount):
        raise Failed("mount_failed", f"something is mounted on {mount} already")


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


async def write_back(mount: Path) -> None:
    """Have the kernel write what programs changed through mappings and did not sync; it takes seconds at most."""

    def run() -> None:
        descriptor = os.open(mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _libc.syncfs(descriptor)
        finally:
            os.close(descriptor)

    with trio.move_on_after(ANSWER_SECONDS):
        await trio.to_thread.run_sync(run, abandon_on_cancel=True)


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
