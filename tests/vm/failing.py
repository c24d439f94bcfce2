"""A disk that fails, fails now and then, and hangs: device-mapper under one plex of the volume ``sick``."""

import contextlib
from collections.abc import Iterator

from tests.vm.fmrd import (
    READY_SECONDS,
    SIZES,
    disk,
    need,
    only_what_it_missed,
    plex,
    same,
    volume,
    wait_until_active,
    wait_until_ready,
    writing,
)
from tests.vm.living import mount
from tests.vm.machine import Machine, until

IO_TIMEOUT = 10
FEW_EXTENTS = 4
"""Of the 24 that the volume has."""
SLACK = 8
"""Seconds that this slow machine may need besides."""
STALL_SECONDS = 90
"""A writer goes on by then, however slow this is."""
SUSPEND = "dmsetup suspend --noflush --nolockfs sick"


def table(target: str) -> str:
    """Of the device below sick-01, for the shell."""
    return f'"0 $(blockdev --getsz {disk("five")}) {target}"'


LINEAR = table(f"linear {disk('five')} 0")


def become(vm: Machine, what: str) -> None:
    vm.run(f"{SUSPEND} && dmsetup load sick --table {what} && dmsetup resume sick")


def create(vm: Machine) -> None:
    vm.run(f"dmsetup create sick --table {LINEAR} && udevadm settle --timeout=60")


def fails(vm: Machine) -> str:
    """a disk that fails (dm-error), under a writer"""
    create(vm)
    vm.run(f"fmrctl make sick {SIZES['sick']} /dev/mapper/sick {disk('six')} --wait", 200)
    vm.run(f"fmrctl set sick io_timeout={IO_TIMEOUT}")
    mount(vm, "sick")
    wait_until_active(vm, "sick")
    # mkfs has written, or discarded, all of it: a plex that fails before the log was cleaned counts as behind there
    until(lambda: volume(vm, "sick")["drl"]["dirty_extents"] <= FEW_EXTENTS, "the log is cleaned", 60)
    with writing(vm, "sick") as writer:
        writer.works()
        try:
            become(vm, table("error"))
            until(lambda: plex(vm, "sick-01")["state"] == "IOFAIL", "the plex leaves", 60)
            writer.works()
        finally:
            become(vm, LINEAR)
        wait_until_active(vm, "sick")
        report = writer.stop()
    said = only_what_it_missed(vm, "sick-01")
    same(vm, "sick")
    return f"left (IOFAIL); {report['written']} writes, no error; back by itself: {said}; the same"


def fails_now_and_then(vm: Machine) -> str:
    """a disk that fails every other second (dm-flakey), under a writer"""
    with writing(vm, "sick") as writer:
        try:
            become(vm, table(f"flakey {disk('five')} 0 1 1"))
            until(lambda: plex(vm, "sick-01")["state"] == "IOFAIL", "the plex leaves", 60)
            writer.works(100)
        finally:
            become(vm, LINEAR)
        wait_until_active(vm, "sick")
        report = writer.stop()
    said = only_what_it_missed(vm, "sick-01")
    same(vm, "sick")
    return f"left (IOFAIL); {report['written']} writes, no error; back by itself: {said}; the same"


@contextlib.contextmanager
def hanging(vm: Machine) -> Iterator[None]:
    vm.run(SUSPEND)
    try:
        yield
    finally:
        vm.run("dmsetup resume sick")


def hangs(vm: Machine) -> str:
    """a disk that hangs (dmsetup suspend), under writers"""
    with writing(vm, "data") as other, writing(vm, "sick") as writer:
        writer.works()
        other.works()
        with hanging(vm):
            writer.works(5, STALL_SECONDS)
            state = plex(vm, "sick-01")["state"]
            other.works()
        report, beside = writer.stop(), other.stop()
    wait_until_active(vm, "sick")
    said = only_what_it_missed(vm, "sick-01")
    same(vm, "sick")
    seen = (
        f"a write waited {report['longest']:.0f} s with io_timeout={IO_TIMEOUT}, of another volume "
        f"{beside['longest']:.1f} s; {state}; back by itself: {said}; the same"
    )
    need(report["longest"] <= IO_TIMEOUT + SLACK and beside["longest"] <= SLACK, seen)
    return seen


def hangs_and_restart(vm: Machine) -> str:
    """systemctl restart fmrd while a disk hangs"""
    return _next_daemon(vm, "systemctl restart --no-block fmrd")


def hangs_and_kill(vm: Machine) -> str:
    """kill -9 while a disk hangs"""
    return _next_daemon(vm, "systemctl kill --signal=KILL fmrd")


def _next_daemon(vm: Machine, end: str) -> str:
    """It serves every volume, the hung plex stays out, and returns."""
    with writing(vm, "data") as other, writing(vm, "sick") as writer:
        with hanging(vm):
            writer.works(5, STALL_SECONDS)
            before = vm.run("systemctl show --property=MainPID --value fmrd").strip()
            vm.run(end)
            vm.until(
                f'test "$(systemctl show --property=MainPID --value fmrd)" != {before} && systemctl is-active fmrd',
                "the next fmrd is ready while the disk hangs", READY_SECONDS,
            )  # fmt: skip
            writer.works()
            other.works()
            state = plex(vm, "sick-01")["state"]
            need(state != "ACTIVE", "the plex whose disk hangs is ACTIVE")
            need(volume(vm, "data")["state"] == "ACTIVE", "volume data is not ACTIVE")
        report, beside = writer.stop(), other.stop()
    wait_until_active(vm, "sick", "data", "files")
    said = only_what_it_missed(vm, "sick-01")
    same(vm, "sick")
    return (
        f"served all volumes; sick-01 {state}; writes waited {report['longest']:.0f} s, of another volume "
        f"{beside['longest']:.0f} s; resumed: {said}; the same"
    )


def well_again(vm: Machine) -> None:
    """Whatever a scenario left: no disk hangs, fmrd runs, and what is to be mounted is."""
    vm.ask(f"dmsetup info sick && {{ dmsetup load sick --table {LINEAR}; dmsetup resume sick; }}")
    vm.ask("fsfreeze --unfreeze /; fsfreeze --unfreeze /srv/disk2")
    vm.ask("systemctl stop looking writer-data writer-files writer-sick")
    vm.ask("rm -rf /run/systemd/system/fmrd.service.d; systemctl daemon-reload; systemctl start fmrd", READY_SECONDS)
    wait_until_ready(vm)
    for name in ("data", "files", "sick"):
        vm.ask(f"grep -q /srv/{name} /etc/fstab && ! mountpoint /srv/{name} && mount /srv/{name}", 120)
