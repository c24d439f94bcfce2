"""Disks that udev sees come and go: what a plex is to everybody else, and who attaches it."""

import json

from tests.vm.fmrd import disk, need, only_what_it_missed, plex, same, wait_until_active, writing
from tests.vm.machine import Failed, Machine, until

AT_ONCE_SECONDS = 60
"""Far less than the pause that fmrd would make otherwise, on a machine where a command takes a second."""


def recognised(vm: Machine) -> str:
    """disks that are plexes, as lsblk and /dev/disk show them"""
    vm.run("udevadm trigger --subsystem-match=block --settle", 90)
    for name in ("one", "two"):
        shown = json.loads(vm.run(f"lsblk --json --nodeps -o FSTYPE,UUID,LABEL {disk(name)}"))["blockdevices"][0]
        need(shown["fstype"] == "fmrd_member", f"lsblk of {name}: {shown}")
        need("UDISKS_IGNORE=1" in vm.run(f"udevadm info --query=property {disk(name)}"), f"udisks would take {name}")
    volume = vm.run("blkid -p -s UUID -o value /run/fmrd-loop/data").strip()
    leads = vm.run(f"readlink -f /dev/disk/by-uuid/{volume}; readlink -f /run/fmrd-loop/data").split()
    need(leads[0] == leads[1], f"by-uuid/{volume} leads to {leads[0]}, the volume is {leads[1]}")
    content = vm.run(f"blkid -p -s TYPE -o value {disk('one')}").strip()
    need(content == "ext4", f"its content would be found by whoever looks himself: {content}")
    return "fmrd_member both, passed over by udisks; by-uuid leads to the volume alone"


def plugged(vm: Machine) -> str:
    """a disk pulled under a writer, and plugged in again"""
    with writing(vm, "data") as writer:
        writer.works()
        vm.unplug("two")
        until(lambda: plex(vm, "data-02")["state"] == "IOFAIL", "data-02 is out", 60, 1)
        writer.works()
        # From now on the pauses between two looks grow: 10 s, 20, 40...
        vm.until(
            "journalctl -b -u fmrd | grep -q 'data-02 stays IOFAIL: plex_missing.*tried again in'", "it is missed", 90
        )
        writer.works()
        began = float(vm.run("date +%s.%N"))
        vm.plug("two")
        until(lambda: _attached_after(vm, began), "it is attached", AT_ONCE_SECONDS, 1)
        wait_until_active(vm, "data")
        report = writer.stop()
    came = vm.run(f"journalctl -b --since=@{int(began)} -o cat _SYSTEMD_UNIT=init.scope | grep 'plex of fmrd' || true")
    need("appeared" in came, f"fmrd-attach@ was not started: {came}")
    said = only_what_it_missed(vm, "data-02")
    same(vm, "data")
    return f"no error, {report['written']} writes; attached by itself: {said}; the same"


def _attached_after(vm: Machine, began: float) -> bool:
    tasks = json.loads(vm.run("fmrctl --json task list --all"))["tasks"]
    if any(task["plex"] == "data-02" and task["started"] >= began for task in tasks):
        return True
    if plex(vm, "data-02")["state"] not in ("IOFAIL", "TEMP", "ACTIVE"):
        raise Failed(f"data-02 is {plex(vm, 'data-02')['state']}")
    return False
