"""What the scenarios have in common: the volumes of the machine, a writer on one of them, and what fmrd says."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from tests.vm.machine import Failed, Machine, until

DISKS = {"one": 160, "two": 160, "three": 128, "four": 128, "five": 160, "six": 160}
"""One and two are plexes of the volume ``data``; three and four hold file systems, with the plexes of ``files`` on
them; five and six are plexes of ``sick``, the first of them through device-mapper, so that it can fail.
"""
SIZES = {"data": "128M", "files": "64M", "sick": "96M"}
COPY_SECONDS = 180
"""No copy here takes longer."""
RETURN_SECONDS = 360
"""Nor does the return of a plex: fmrd tries every 5 minutes at least."""
READY_SECONDS = 150


def disk(name: str) -> str:
    return f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{name}"


def need(true: object, what: str) -> None:
    if not true:
        raise Failed(what)


def ask(vm: Machine, verb: str, **arguments: Any) -> dict[str, Any]:
    """What fmrd answers; Failed where that is an error."""
    said = json.loads(vm.run(f"python3 -SE /media/fmrd/guest/ask.py {verb} '{json.dumps(arguments)}'", 120))
    if "result" not in said:
        raise Failed(f"{verb}: {said['error']['message']}")
    result: dict[str, Any] = said["result"]
    return result


def volume(vm: Machine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = ask(vm, "print", volume=name)["volumes"][0]
    return found


def plex(vm: Machine, name: str) -> dict[str, Any]:
    """As VOLUME-NN names it."""
    [found] = [each for each in volume(vm, name.rpartition("-")[0])["plexes"] if each["name"] == name]
    return dict(found)


def states(vm: Machine, name: str) -> list[str]:
    return [each["state"] for each in volume(vm, name)["plexes"]]


def wait_until_active(vm: Machine, *names: str) -> None:
    """Every plex of these volumes."""
    for name in names:
        until(lambda name=name: set(states(vm, name)) == {"ACTIVE"}, f"all of {name} is ACTIVE", RETURN_SECONDS, 2)


def wait_until_ready(vm: Machine) -> None:
    vm.until("systemctl is-active fmrd", "fmrd is ready", READY_SECONDS)


def last_copy(vm: Machine, name: str) -> dict[str, Any]:
    """The last task that copied to this plex, since fmrd was started."""
    tasks = [task for task in ask(vm, "task_list", all=True)["tasks"] if task["plex"] == name]
    need(tasks, f"nothing was copied to {name}")
    return dict(tasks[-1])


def only_what_it_missed(vm: Machine, name: str) -> str:
    """In words; Failed where more was copied."""
    task = last_copy(vm, name)
    total = volume(vm, name.rpartition("-")[0])["length_bytes"] // task_region(task)
    said = f"{task['reason']['code']}, {task['total_regions']} of {total} regions"
    need(task["reason"]["code"] in ("fast", "hole") and task["total_regions"] < total / 2, f"{name} was copied: {said}")
    return said


def task_region(task: dict[str, Any]) -> int:
    return int(task["total_bytes"] // task["total_regions"]) if task["total_regions"] else 65536


def same(vm: Machine, *names: str) -> None:
    """Every byte of every plex."""
    for name in names:
        number = ask(vm, "verify", volume=name)["task"]["id"]
        task = until(lambda number=number: ended(vm, number), f"verify of {name}", COPY_SECONDS, 2)
        report = ask(vm, "verify_report", id=number)
        need(task["state"] == "done" and not report["mismatches"], f"plexes of {name} differ: {report} {task['error']}")


def ended(vm: Machine, number: int) -> dict[str, Any] | None:
    task: dict[str, Any] = ask(vm, "task_get", id=number)["task"]
    return None if task["state"] in ("running", "paused") else task


class Writer:
    """Writes to /srv/VOLUME/written, and fsyncs each block, until it is stopped, or dies with the machine."""

    def __init__(self, vm: Machine, name: str, told: str = "/dev/null") -> None:
        self._vm = vm
        self._name = name
        self._report = f"/run/writer-{name}.json"
        vm.run(f"mountpoint -q /srv/{name}")
        program = "/usr/bin/python3 -SE /media/fmrd/guest/writer.py"
        service = f"systemd-run -q --collect --unit=writer-{name}"
        vm.run(f"rm -f {self._report}; {service} {program} write /srv/{name}/written {self._report} {told}")
        vm.until(f"test -s {self._report}", f"the writer on {name} writes")

    def report(self) -> dict[str, Any]:
        """``written``, ``longest`` in seconds, ``error``."""
        found: dict[str, Any] = json.loads(self._vm.run(f"cat {self._report}"))
        return found

    def works(self, blocks: int = 20, seconds: float = 60) -> None:
        """So many more."""
        enough = self.report()["written"] + blocks
        until(lambda: self.report()["written"] >= enough, f"the writer on {self._name} goes on", seconds)

    def stop(self) -> dict[str, Any]:
        """Its report; Failed where it met an error."""
        self._vm.run(f"systemctl stop writer-{self._name} || true")
        report = self.report()
        need(report["error"] is None, f"the writer on {self._name}: {report['error']} after {report['written']} blocks")
        return report


@contextlib.contextmanager
def writing(vm: Machine, name: str) -> Iterator[Writer]:
    """It is gone afterwards, however this ends."""
    writer = Writer(vm, name)
    try:
        yield writer
    finally:
        vm.ask(f"systemctl stop writer-{name}")
