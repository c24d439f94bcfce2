"""This takes over the mount of an fmrd that is gone: the descriptor of /dev/fuse and the memory of the open files,
which the supervisor kept (README, "When fmrd itself dies").
"""

import contextlib
import logging
import os
import stat
from pathlib import Path

from fmrd.front.daemon.supervisor import Supervisor
from fmrd.front.doors.channel.device import Device, open_and_mount
from fmrd.front.doors.channel.handles import Handles
from fmrd.front.doors.channel.protocol import Notify
from fmrd.front.doors.channel.replies import notification
from fmrd.front.doors.mounts import clear_stale_mount, mounted_on

log = logging.getLogger(__name__)

DEVICE, HANDLES = "fmrd-device", "fmrd-handles"
"""Names in the descriptor store."""
_FUSE = os.makedev(10, 229)


async def take_or_mount(supervisor: Supervisor, mount: Path) -> tuple[Device, Handles]:
    """Return the mount that was kept, or a new one. Failed('mount_failed')."""
    kept = _kept(supervisor, mount)
    if kept is not None:
        device, handles = kept
        device.send(notification(Notify.RESEND))
        log.info("took over the mount on %s, with %d open file(s)", mount, len(handles))
        return kept
    await clear_stale_mount(mount)
    device = Device(open_and_mount(mount))
    handles = Handles()
    handles.mounted_on = mounted_on(mount)
    return device, handles


def keep(supervisor: Supervisor, device: Device, handles: Handles) -> bool:
    """Have the mount kept, so that the next fmrd can take it over. Return False where that will have to mount anew."""
    session = handles.session
    if not supervisor.stores or session is None:
        return False
    if not session.resends:
        log.warning("this kernel does not send requests again: a restart of fmrd unmounts, and open files get errors")
        return False
    return supervisor.keep(HANDLES, handles.descriptor) and supervisor.keep(DEVICE, device.descriptor)


def forget(supervisor: Supervisor) -> None:
    """Have it kept no more: it was unmounted."""
    supervisor.forget(DEVICE)
    supervisor.forget(HANDLES)


def _kept(supervisor: Supervisor, mount: Path) -> tuple[Device, Handles] | None:
    """What cannot be used is closed, and forgotten: then nobody holds that mount any more."""
    descriptor, memory = supervisor.take(DEVICE), supervisor.take(HANDLES)
    try:
        return _checked(descriptor, memory, mount)
    except (OSError, ValueError) as error:
        if descriptor is not None:
            log.warning("the mount that was kept cannot be taken over: %s", error)
        _close(supervisor, descriptor, memory)
        return None


def drop(supervisor: Supervisor) -> None:
    """Give up what was kept: it is of no use to another door."""
    _close(supervisor, supervisor.take(DEVICE), supervisor.take(HANDLES))


def _close(supervisor: Supervisor, *descriptors: int | None) -> None:
    for each in descriptors:
        if each is not None:
            with contextlib.suppress(OSError):
                os.close(each)
    forget(supervisor)


def _checked(descriptor: int | None, memory: int | None, mount: Path) -> tuple[Device, Handles]:
    """Return what was kept. ValueError or OSError: these two are not what an fmrd like this one left for this mount."""
    if descriptor is None or memory is None:
        raise ValueError("its descriptor, or the memory of its open files, was not kept")
    status = os.fstat(descriptor)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _FUSE:
        raise ValueError("what was kept is not /dev/fuse")
    handles = Handles(memory)
    if handles.session is None:
        raise ValueError("it was never negotiated, or by another version of fmrd")
    if not handles.mounted_on or handles.mounted_on != mounted_on(mount):
        raise ValueError(f"it is not what is mounted on {mount} now")
    return Device(descriptor), handles
