"""Disks made for a test: loop devices, and small file systems on them. Gone when the with-block ends."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import until

MAKERS = {
    "ext4": ["mkfs.ext4", "-q", "-F"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}
SIZES = {"ext4": 64 << 20, "xfs": 320 << 20, "btrfs": 128 << 20}


def require_loop() -> None:
    if os.geteuid() or not Path("/dev/loop-control").exists() or not shutil.which("losetup"):
        pytest.skip("needs root and loop devices")


def run(*command: str | Path) -> str:
    """Its output; its words on standard error where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


@contextmanager
def loop_device(directory: Path, size: int, name: str = "loop.img") -> Iterator[str]:
    """A loop device over a new sparse file of that many bytes (a multiple of 512)."""
    require_loop()
    image = directory / name
    with image.open("xb") as file:
        file.truncate(size)
    with attached(image) as device:
        yield device


@contextmanager
def attached(image: Path) -> Iterator[str]:
    """A loop device over a file that is there."""
    device = run("losetup", "--find", "--show", image)
    try:
        yield device
    finally:
        run("losetup", "--detach", device)
        # Others may look at it just now, and it is only marked then.
        until(lambda: not _has(device, image), f"{device} let go of its file")


def _has(device: str, image: Path) -> bool:
    try:
        return (Path("/sys/block") / Path(device).name / "loop" / "backing_file").read_text().strip() == str(image)
    except OSError:
        return False


@contextmanager
def mounted(directory: Path, kind: str) -> Iterator[Path]:
    """A new file system of that kind, mounted below ``directory``."""
    require_loop()
    if not shutil.which(MAKERS[kind][0]):
        pytest.skip(f"needs {MAKERS[kind][0]}")
    if f"\t{kind}\n" not in Path("/proc/filesystems").read_text():
        pytest.skip(f"needs a kernel with {kind}")
    with loop_device(directory, SIZES[kind], f"{kind}.img") as device, made_on(device, directory, kind) as where:
        yield where


@contextmanager
def made_on(device: str, directory: Path, kind: str) -> Iterator[Path]:
    """A new file system on that device, likewise."""
    run(*MAKERS[kind], device)
    where = directory / f"{kind}.mnt"
    where.mkdir()
    run("mount", "-t", kind, device, where)
    try:
        yield where
    finally:
        # The kernel lets go of files a moment after a process, or a request, that had them.
        until(lambda: _unmounted(where), f"{where} is unmounted")


def _unmounted(where: Path) -> bool:
    return subprocess.run(["umount", where], capture_output=True, check=False).returncode == 0


def shared_extents(path: Path) -> list[str]:
    """The lines of FIEMAP that say a file shares blocks with another one. Needs e2fsprogs."""
    if not shutil.which("filefrag"):
        pytest.skip("needs filefrag")
    run("sync", "-f", path)
    return [line for line in run("filefrag", "-v", path).splitlines() if "shared" in line]


def allocated_bytes(path: Path | str) -> int:
    return os.stat(path).st_blocks * 512
