#!/usr/bin/env python3
"""fio on a volume of two plexes, in memory or on a disk (--dir), through each door: on its file, or by a loop device.

Beside it, where they are installed, qemu-storage-daemon exporting a quorum of two files over FUSE, and libfuse's
passthrough_hp (--passthrough PROGRAM) over a directory with one file. Needs root, /dev/fuse, fio. Rounds are
interleaved: every target is tried before the next round begins, so that what else the machine does meets all of them
alike; what is told is the median of each, and its ratio to the first target's. ``--against CHECKOUT``: the same doors
of another checkout (with its .venv made) come first, so that the ratio is that of after and before. ``--fs xfs``: all
files lie on a new file system of that kind, on an image in --dir.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
Job = tuple[str, str, int, tuple[str, ...]]
JOBS: dict[str, Job] = {
    "4K random read, depth 1": ("randread", "4k", 1, ()),
    "4K random read, depth 32": ("randread", "4k", 32, ()),
    "4K random write, depth 1": ("randwrite", "4k", 1, ()),
    "4K random write, depth 32": ("randwrite", "4k", 32, ()),
    "1M sequential read": ("read", "1m", 4, ()),
    "1M sequential write": ("write", "1m", 4, ()),
}
ON_DISKS: dict[str, Job] = {
    "4K random write, depth 1, fsync each": ("randwrite", "4k", 1, ("--fsync=1",)),
    "4K random write, depth 16, fdatasync every 8": ("randwrite", "4k", 16, ("--fdatasync=8",)),
    "16K random write, depth 8": ("randwrite", "16k", 8, ()),
    "64K random write, depth 8": ("randwrite", "64k", 8, ()),
}
"""Besides, where the plexes are not in memory."""
PATIENCE_SECONDS = 120


def run(*command: object) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()


def wait_for(condition: Any, what: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{what} did not come up")
        time.sleep(0.05)


@contextmanager
def serving(command: list[object], ready: Any, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process until the block ends."""
    with log.open("wb") as file:
        process = subprocess.Popen([str(c) for c in command], stdout=file, stderr=file)
    try:
        wait_for(ready, f"{command[0]} (see {log})", process)
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


@contextmanager
def volume(
    where: Path, size_mib: int, door: str, *, plexes: str = "ab", program: tuple[object, ...] = (), programs: Path = BIN
) -> Iterator[Path]:
    """A started volume's file, behind that door of an fmrd of its own. ``programs``: where fmrd and fmrctl are."""
    where.mkdir()
    places = ["--state", where / "state", "--mount", where / "mount", "--socket", where / "socket"]
    socket = ["--socket", where / "socket"]

    def ready() -> bool:
        found = subprocess.run([programs / "fmrctl", *map(str, socket), "print"], capture_output=True, check=False)
        return found.returncode == 0

    command: list[object] = [*(program or (programs / "fmrd",)), *places, "--door", door, "--log-level", "warning"]
    with serving(command, ready, where / "fmrd.log"):
        run(programs / "fmrctl", *socket, "make", "bench", f"{size_mib}M", *(where / plex for plex in plexes))
        yield where / "mount" / "bench"


@contextmanager
def loop_device(file: Path) -> Iterator[Path]:
    device = run("losetup", "--find", "--show", "--direct-io=on", file)
    try:
        yield Path(device)
    finally:
        run("losetup", "--detach", device)


@contextmanager
def file_system(kind: str, where: Path, size_mib: int) -> Iterator[Path]:
    """A new one, mounted."""
    mount = where / kind
    mount.mkdir()
    image = raw(where / f"{kind}.img", size_mib)
    run(f"mkfs.{kind}", "-q", image)
    with loop_device(image) as device:
        run("mount", device, mount)
        try:
            yield mount
        finally:
            run("umount", mount)


@contextmanager
def quorum(where: Path, size_mib: int) -> Iterator[Path]:
    """qemu-storage-daemon's mirror: writes to both, reads from the first."""
    export = where / "quorum"
    export.touch()
    command: list[object] = ["qemu-storage-daemon"]
    for name in ("q1", "q2"):
        raw(where / name, size_mib)
        command += ["--blockdev", f"driver=file,node-name={name},filename={where / name}"]
    children = "children.0=q1,children.1=q2"
    command += ["--blockdev", f"driver=quorum,node-name=q,vote-threshold=1,read-pattern=fifo,{children}"]
    command += ["--export", f"type=fuse,id=e,node-name=q,mountpoint={export},writable=on"]
    with serving(command, lambda: export.stat().st_size == size_mib << 20, where / "qsd.log"):
        yield export


@contextmanager
def passthrough(program: Path, where: Path, size_mib: int) -> Iterator[Path]:
    """libfuse's example over one plain file."""
    source, mount = where / "passed", where / "passthrough"
    source.mkdir()
    mount.mkdir()
    raw(source / "file", size_mib)
    try:
        with serving([program, "--foreground", source, mount], (mount / "file").exists, where / "passthrough.log"):
            yield mount / "file"
    finally:
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)


def raw(path: Path, size_mib: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size_mib << 20)
    return path


def fio(
    path: Path, kind: str, block: str, depth: int, size_mib: int, seconds: float, options: tuple[str, ...] = ()
) -> dict[str, float]:
    """IOPS, MiB/s and mean latency in microseconds. ``seconds`` 0: once over the whole size."""
    timed = ["--time_based", f"--runtime={seconds * 1000:.0f}ms", "--ramp_time=500ms"] if seconds else []
    found = json.loads(
        run(
            "fio", "--name=bench", f"--filename={path}", f"--rw={kind}", f"--bs={block}", f"--iodepth={depth}",
            "--ioengine=libaio", "--direct=1", f"--size={size_mib}m", "--randseed=1", "--norandommap",
            "--output-format=json", "--allow_file_create=0", *options, *timed,
        )
    )  # fmt: skip
    side = found["jobs"][0]["read" if "read" in kind else "write"]
    return {
        "iops": side["iops"], "mib": side["bw_bytes"] / (1 << 20), "mean_us": side["lat_ns"]["mean"] / 1000,
        "p99_us": side["clat_ns"]["percentile"]["99.000000"] / 1000, "max_us": side["clat_ns"]["max"] / 1000,
    }  # fmt: skip


def measure(
    targets: dict[str, Path], jobs: dict[str, Job], size_mib: int, seconds: float, rounds: int
) -> list[dict[str, Any]]:
    """Medians over the rounds, by job and target."""
    for path in targets.values():
        fio(path, "write", "1m", 4, size_mib, 0)
    rows = []
    for job, (kind, block, depth, options) in jobs.items():
        found: dict[str, list[dict[str, float]]] = {name: [] for name in targets}
        for turn in range(rounds):
            names = list(targets)
            first = turn % len(names)  # who comes first meets a machine that rested
            for name in names[first:] + names[:first]:
                found[name].append(fio(targets[name], kind, block, depth, size_mib, seconds, options))
        medians = {
            name: {key: statistics.median(figures[key] for figures in each) for key in each[0]}
            for name, each in found.items()
        }
        rows.append({"job": job, "targets": medians})
        print(f"  {job}", file=sys.stderr)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0]["targets"])
    lines = ["| job | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for row in rows:
        cells = []
        for name in names:
            figures, first = row["targets"][name], row["targets"][names[0]]
            ratio = figures["iops"] / first["iops"]
            if "K" in row["job"]:
                cells.append(f"{ratio:.2f} ({figures['iops'] / 1000:.1f} k, p99 {figures['p99_us']:.0f} us)")
            else:
                cells.append(f"{ratio:.2f} ({figures['mib']:.0f} MiB/s)")
        lines.append(f"| {row['job']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/dev/shm", help="where the plexes lie (default: %(default)s)")
    parser.add_argument("--fs", metavar="KIND", help="on a new file system there, of that kind")
    parser.add_argument("--size", type=int, default=256, help="of the volume, in MiB (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2, help="of each job (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--doors", default="channel,pyfuse3", help="of fmrd (default: %(default)s)")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with fmrd as it is there")
    parser.add_argument("--loop", action="store_true", help="each through a loop device of its own")
    parser.add_argument("--raw", action="store_true", help="and one plain file beside them: the limit")
    parser.add_argument("--threads", action="store_true", help="and the first door without io_uring")
    parser.add_argument("--passthrough", type=Path, help="libfuse's passthrough_hp")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    for need in ("fio", "losetup"):
        if not shutil.which(need):
            parser.error(f"needs {need}")
    if os.geteuid():
        parser.error("needs root, for the loop device")
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.dir, prefix="fmrd-bench-")))
        if options.fs is not None:
            where = stack.enter_context(file_system(options.fs, where, 16 * options.size))
        targets: dict[str, Path] = {}
        for door in options.doors.split(",") if options.against else ():
            before = volume(where / f"{door}-before", options.size, door, programs=options.against / ".venv" / "bin")
            targets[f"{door}, before"] = stack.enter_context(before)
        for door in options.doors.split(","):
            targets[door] = stack.enter_context(volume(where / door, options.size, door))
        if options.threads:
            program = ("env", "FMRD_URING=no", BIN / "fmrd")
            by_threads = volume(where / "threads", options.size, options.doors.split(",")[0], program=program)
            targets["by threads"] = stack.enter_context(by_threads)
        if shutil.which("qemu-storage-daemon") and not options.against:
            targets["qemu quorum"] = stack.enter_context(quorum(where, options.size))
        if options.passthrough:
            targets["passthrough_hp, one plex"] = stack.enter_context(
                passthrough(options.passthrough, where, options.size)
            )
        if options.raw:
            targets["raw"] = raw(where / "raw", options.size)
        if options.loop:
            targets = {name: stack.enter_context(loop_device(path)) for name, path in targets.items()}
        jobs = JOBS if options.dir == "/dev/shm" else JOBS | ON_DISKS
        rows = measure(targets, jobs, options.size, options.seconds, options.rounds)
    print(table(rows))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps({"dir": options.dir, "fs": options.fs, "rounds": options.rounds, "rows": rows}, indent=1) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
