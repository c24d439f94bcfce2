"""What the power does: a reboot in order, a power cut, and disks that are missing at a boot."""

import contextlib
import json

from tests.vm.failing import create
from tests.vm.fmrd import (
    Writer,
    ask,
    need,
    only_what_it_missed,
    plex,
    same,
    states,
    wait_until_active,
    wait_until_ready,
)
from tests.vm.machine import Failed, Machine

UP_SECONDS = 420
COMPLAINTS = "Failed unmounting|I/O error|target is busy|timed out"
"""At a shutdown."""


def wait_until_up(vm: Machine) -> str:
    """Its boot is over: running, or degraded where a unit failed."""
    state = str(vm.ask("systemctl is-system-running --wait", UP_SECONDS)["output"]).strip()
    failed = vm.run("systemctl list-units --failed --plain --no-legend --full")
    need(state == "running", f"the boot ended as {state!r}: {failed}")
    wait_until_ready(vm)
    return state


def copied(vm: Machine, *names: str) -> list[str]:
    """What was copied since fmrd was started."""
    tasks = ask(vm, "task_list", all=True)["tasks"]
    return [f"{task['plex']} ({task['reason']['code']})" for task in tasks if task["volume"] in names and task["plex"]]


def rebooted(vm: Machine) -> str:
    """reboot, with fmrd enabled and volumes in fstab"""
    began = vm.run("echo before >/srv/data/reboot && echo before >/srv/files/reboot && date +%s").strip()
    vm.start("systemctl reboot")
    vm.wait_for_boot()
    wait_until_up(vm)
    shutdown = f"journalctl --no-pager --boot=-1 --since=@{began}"
    complaints = vm.ask(f"{shutdown} | grep -E '{COMPLAINTS}'")
    need(not complaints["output"], f"at the shutdown: {complaints['output'][-1500:]}")
    vm.run("mountpoint /srv/data && mountpoint /srv/files && grep before /srv/data/reboot /srv/files/reboot")
    need(states(vm, "data") == states(vm, "files") == ["ACTIVE"] * 2, f"{states(vm, 'data')}, {states(vm, 'files')}")
    need(not copied(vm, "data", "files"), f"copied: {copied(vm, 'data', 'files')}")
    return "mounted, all plexes ACTIVE, nothing copied; nothing busy at the shutdown"


LINES = {"line": "nofail", "need": "defaults"}
"""Volumes that are mounted by lines of the type fmrd, and their options."""


def in_fstab(vm: Machine) -> str:
    """lines 'line /srv/line fmrd nofail 0 0' and 'need /srv/need fmrd defaults 0 0' in fstab, and a reboot"""
    vm.run("cp /etc/fstab /root/fstab")
    for name, options in LINES.items():
        vm.run(
            f"""set -e
            fmrctl make {name} 16M /srv/disk1/{name}.plex /srv/disk2/{name}.plex
            mkfs.ext4 -q -F /run/fmrd/volumes/{name}
            echo '{name} /srv/{name} fmrd {options} 0 0' >>/etc/fstab
            mkdir -p /srv/{name} && systemctl daemon-reload && systemctl start srv-{name}.mount
            echo before >/srv/{name}/reboot
            systemctl show --property=After srv-{name}.mount | grep -w fmrd.service""",
            120,
        )
    try:
        vm.run("systemctl restart fmrd && grep before /srv/line/reboot /srv/need/reboot", UP_SECONDS)
        began = vm.run("date +%s").strip()
        vm.start("systemctl reboot")
        vm.wait_for_boot()
        wait_until_up(vm)
        complaints = vm.ask(f"journalctl --no-pager --boot=-1 --since=@{began} | grep -E '{COMPLAINTS}'")
        need(not complaints["output"], f"at the shutdown: {complaints['output'][-1500:]}")
        cycles = vm.ask("journalctl --no-pager --boot=0 | grep -i 'ordering cycle'")
        need(not cycles["output"], f"at the boot: {cycles['output'][-1500:]}")
        vm.run("mountpoint /srv/line && mountpoint /srv/need && grep before /srv/line/reboot /srv/need/reboot")
        need(not copied(vm, *LINES), f"copied: {copied(vm, *LINES)}")
    finally:
        vm.ask("cp /root/fstab /etc/fstab; umount /srv/line /srv/need; systemctl daemon-reload", 120)
        for name in LINES:  # its loop device goes a moment after the file system
            with contextlib.suppress(Failed):
                vm.until(f"fmrctl stop {name}", f"{name} is let go of", 60)
            vm.ask(f"fmrctl remove {name} --erase --yes", 120)
    return "mounted at the boot, unmounted before fmrd ended, and left alone by its restart"


def late(vm: Machine) -> str:
    """a disk that comes after the boot (device-mapper)"""
    state = plex(vm, "sick-01")["state"]
    need(state != "ACTIVE", "sick-01 is ACTIVE, though its disk is not there")
    vm.run("mountpoint /srv/sick && echo missed >/srv/sick/missed && sync /srv/sick/missed")
    create(vm)
    wait_until_active(vm, "sick")
    said = only_what_it_missed(vm, "sick-01")
    same(vm, "sick")
    return f"mounted without it ({state}); it came, and returned by itself: {said}; the same"


def power_cut(vm: Machine) -> str:
    """power cut under a writer"""
    vm.acknowledged.write_bytes(b"")
    Writer(vm, "data", "/dev/virtio-ports/fmrd.acknowledged").works(200, 120)
    vm.cut_power()
    kept = acknowledged(vm)
    vm.power_on()
    wait_until_up(vm)
    vm.run("mountpoint /srv/data && mountpoint /srv/files")
    held = {int(where): number for where, number in json.loads(
        vm.run("python3 -SE /media/fmrd/guest/writer.py check /srv/data/written")
    ).items()}  # fmt: skip
    lost = {where: number for where, number in kept.items() if held[where] < number}
    need(not lost, f"{len(lost)} of {len(kept)} fsynced blocks are lost: {dict([*lost.items()][:5])}")
    wait_until_active(vm, "data", "files")
    same(vm, "data", "files")
    return (
        f"mounted; all {len(kept)} fsynced blocks are there; copied: {copied(vm, 'data') or 'nothing'}; plexes the same"
    )


def acknowledged(vm: Machine) -> dict[int, int]:
    """Block -> the last number that was fsynced there."""
    lines = vm.acknowledged.read_bytes().split(b"\n")[:-1]
    return dict((int(where), int(number)) for where, number in (line.split() for line in lines))


def missing(vm: Machine) -> str:
    """two disks are missing at a boot, plugged in later"""
    vm.power_off()
    vm.power_on(without=("two", "four"))
    failed = vm.ask("systemctl is-system-running --wait", UP_SECONDS)["output"].strip()
    wait_until_ready(vm)
    vm.run("mountpoint /srv/data && mountpoint /srv/files")
    away = {name: plex(vm, name)["state"] for name in ("data-02", "files-02")}
    need("ACTIVE" not in away.values(), f"ACTIVE without its disk: {away}")
    vm.run("for each in data files; do echo missed >/srv/$each/missed; sync /srv/$each/missed; done")
    vm.plug("two")
    vm.plug("four")
    vm.until("test -e /dev/disk/by-id/*_two && test -e /dev/disk/by-id/*_four", "the disks are there")
    vm.run("mountpoint /srv/disk2 || mount /srv/disk2")
    wait_until_active(vm, "data", "files")
    said = {name: only_what_it_missed(vm, name) for name in away}
    same(vm, "data", "files")
    return f"up ({failed}), mounted, {away}; plugged in, returned by themselves: {said}; the same"
