"""One machine under qemu: power, disks that come and go, and scripts that run in it."""

import contextlib
import itertools
import json
import os
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.vm.image import disk_of_fmrd, image

PATIENCE = float(os.environ.get("FMRD_VM_PATIENCE", "1"))
"""On a machine that others use as well: everything here may take so many times as long."""
BOOT_SECONDS = 300 * PATIENCE
"""From power on until the agent answers; nothing here has hardware to help it."""


class Failed(Exception):
    """What was seen is not what should be."""


def until(condition: Any, what: str, seconds: float, pause: float = 0.5) -> Any:
    """Return what the condition gives once that is true."""
    end = time.monotonic() + seconds * PATIENCE
    while not (found := condition()):
        if time.monotonic() > end:
            raise Failed(f"not within {seconds:g} s: {what}")
        time.sleep(pause)
    return found


class Machine:
    """``disks``: name -> MiB; each is a SCSI disk whose serial is its name. They and the root outlive the power."""

    def __init__(self, place: Path, disks: dict[str, int]) -> None:
        self.place = place
        self.disks = disks
        self.acknowledged = place / "acknowledged"
        self._qemu: subprocess.Popen[bytes] | None = None
        self._ids = itertools.count(1)
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._boots: queue.Queue[str] = queue.Queue()
        self._base = image()
        backing = ["-f", "qcow2", "-F", "raw", "-b", str(self._base / "root.ext4")]
        subprocess.run(["qemu-img", "create", "-q", *backing, place / "root.qcow2"], check=True)
        disk_of_fmrd(place / "fmrd.ext4")
        for name, mib in disks.items():
            with open(place / f"{name}.disk", "wb") as file:
                file.truncate(mib << 20)

    @property
    def running(self) -> bool:
        return self._qemu is not None and self._qemu.poll() is None

    def power_on(self, without: tuple[str, ...] = ()) -> None:
        """Returns once scripts can be run. The console is kept in a file, of all boots."""
        assert not self.running
        with open(self.place / "console", "ab") as console:
            self._qemu = subprocess.Popen(
                self._command(without), stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        self._qmp = _Lines(self.place / "qmp")
        self._qmp.receive()
        self.qmp("qmp_capabilities")
        self._agent = _Lines(self.place / "agent")
        threading.Thread(target=self._listen, args=(self._agent,), daemon=True).start()
        self.wait_for_boot()

    def _command(self, without: tuple[str, ...]) -> list[str | Path]:
        # One processor: with two, qemu's emulation may run into code that Linux is changing just then, a panic.
        # On a busy machine its timer comes late, and Linux may not believe in it, a panic at once: no_timer_check.
        drive = "if=virtio,cache=writeback"
        command: list[str | Path] = [
            "qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1",
            "-m", "1024", "-nodefaults", "-display", "none", "-no-user-config",
            "-kernel", self._base / "vmlinuz", "-initrd", self._base / "initrd.img",
            "-append", "root=/dev/vda rw console=hvc0 mitigations=off quiet systemd.show_status=false"
            " no_timer_check panic=5",
            "-drive", f"file={self.place / 'root.qcow2'},{drive}",
            "-drive", f"file={self.place / 'fmrd.ext4'},format=raw,readonly=on,{drive}",
            "-qmp", f"unix:{self.place / 'qmp'},server=on,wait=off",
            "-device", "virtio-serial", "-chardev", "stdio,id=console", "-device", "virtconsole,chardev=console",
            "-chardev", f"socket,path={self.place / 'agent'},server=on,wait=off,id=agent",
            "-device", "virtserialport,chardev=agent,name=fmrd.agent",
            "-chardev", f"file,path={self.acknowledged},append=on,id=acknowledged",
            "-device", "virtserialport,chardev=acknowledged,name=fmrd.acknowledged",
            "-device", "virtio-scsi-pci,id=scsi",
        ]  # fmt: skip
        for name in self.disks:
            command += ["-drive", f"file={self.place / f'{name}.disk'},format=raw,if=none,id={name},cache=writeback"]
            if name not in without:
                command += ["-device", f"scsi-hd,drive={name},serial={name},id=disk-{name}"]
        return command

    def _listen(self, agent: "_Lines") -> None:
        while (said := agent.receive()) is not None:
            if "boot" in said:
                self._boots.put(said["boot"])
            else:
                self._answers.pop(said["id"]).put(said)

    def wait_for_boot(self) -> None:
        """Also of a boot that the machine began by itself."""
        try:
            self._boots.get(timeout=BOOT_SECONDS)
        except queue.Empty:
            raise Failed(f"it did not boot within {BOOT_SECONDS} s") from None

    def qmp(self, command: str, **arguments: Any) -> Any:
        self._qmp.send({"execute": command, "arguments": arguments})
        while True:
            said = self._qmp.receive()
            if said is None or "error" in said:
                raise Failed(f"qemu: {command}: {said}")
            if "return" in said:
                return said["return"]

    def plug(self, disk: str) -> None:
        self.qmp("device_add", driver="scsi-hd", drive=disk, serial=disk, id=f"disk-{disk}", bus="scsi.0")

    def unplug(self, disk: str) -> None:
        """It is gone from the guest when this returns."""
        self.qmp("device_del", id=f"disk-{disk}")
        self.until(f"! test -e /dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{disk}", f"{disk} is gone", 60)
        until(lambda: not self._has(disk), f"qemu has given up {disk}", 60)
        # With a device qemu gives up the drive behind it: here it is again, to be plugged.
        file = {"driver": "file", "filename": str(self.place / f"{disk}.disk")}
        self.qmp("blockdev-add", **{"driver": "raw", "node-name": disk, "file": file})

    def _has(self, disk: str) -> bool:
        return any(each["device"] == disk or each.get("qdev") == f"disk-{disk}" for each in self.qmp("query-block"))

    def cut_power(self) -> None:
        """What the guest has not sent to its disks is lost."""
        assert self._qemu is not None
        self._qemu.kill()
        self._qemu.wait()

    def power_off(self, seconds: float = 240) -> None:
        """In order, as a user would."""
        assert self._qemu is not None
        self.start("systemctl poweroff")
        try:
            self._qemu.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            self.cut_power()
            raise Failed(f"it did not power off within {seconds:g} s") from None

    def start(self, script: str, seconds: float = 60) -> "queue.Queue[dict[str, Any]]":
        """Returns at once; the answer is put into the queue."""
        seconds *= PATIENCE
        answer: queue.Queue[dict[str, Any]] = queue.Queue()
        number = next(self._ids)
        self._answers[number] = answer
        try:
            self._agent.send({"id": number, "script": script, "timeout": seconds})
        except OSError as error:
            raise Failed(f"the machine is off ({error}): {script}") from None
        return answer

    def ask(self, script: str, seconds: float = 60) -> dict[str, Any]:
        """Run it with bash, and return its ``status``, ``output``, ``seconds``; status None: not in time."""
        try:
            return self.start(script, seconds).get(timeout=(seconds + 60) * PATIENCE)
        except queue.Empty:
            raise Failed(f"the machine does not answer: {script}") from None

    def run(self, script: str, seconds: float = 60) -> str:
        """The output of what has to work."""
        answer = self.ask(script, seconds)
        if answer["status"] != 0:
            how = "did not end" if answer["status"] is None else f"exit status {answer['status']}"
            raise Failed(f"{script}: {how} after {answer['seconds']:.1f} s: {answer['output'][-2000:].strip()}")
        return str(answer["output"])

    def until(self, script: str, what: str, seconds: float = 60) -> None:
        """Wait until the script succeeds."""
        until(lambda: self.ask(script)["status"] == 0, what, seconds)


class _Lines:
    """JSON lines over one of qemu's sockets."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        until(lambda: self._connects(path), f"qemu opens {path.name}", 60, 0.05)
        self._file = self._socket.makefile("rb")

    def _connects(self, path: Path) -> bool:
        with contextlib.suppress(OSError):
            self._socket.connect(str(path))
            return True
        return False

    def send(self, value: Any) -> None:
        self._socket.sendall(json.dumps(value).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        try:
            line = self._file.readline()
        except OSError:
            return None
        return json.loads(line) if line.endswith(b"\n") else None


@contextlib.contextmanager
def machine(place: Path, disks: dict[str, int]) -> Iterator[Machine]:
    """It is off afterwards; its disks are in ``place``."""
    made = Machine(place, disks)
    try:
        yield made
    finally:
        if made.running:
            made.cut_power()
