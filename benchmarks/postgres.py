#!/usr/bin/env python3
"""PostgreSQL's pgbench on ext4 on a loop device: on a volume of two plexes, on a quorum of qemu's, on one plain file.

Needs root, fio_doors.py's programs, and PostgreSQL's server (initdb, pg_ctl, pgbench). Rounds are interleaved; what is
told is the median of the transactions a second of each, and its ratio to the first target's. The database is as initdb
makes it: each transaction is durable before it counts.
"""

import argparse
import os
import pwd
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fio_doors import loop_device, quorum, raw, run, volume

USER = "postgres"
"""It refuses to run as root."""


def programs() -> Path:
    """Where Debian has them, newest first; or the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda at: int(at.parts[-3]))
    if found:
        return found[-1].parent
    at = shutil.which("initdb")
    if at is None:
        raise SystemExit("needs PostgreSQL's server (initdb)")
    return Path(at).parent


def as_user(*command: object) -> str:
    return run("runuser", "-u", USER, "--", *command)


@contextmanager
def database(device: Path, where: Path, bin_: Path, port: int, scale: int) -> Iterator[int]:
    """A running server on a new file system there; its port."""
    run("mkfs.ext4", "-q", "-F", device)
    where.mkdir()
    run("mount", device, where)
    try:
        data = where / "data"
        data.mkdir()
        owner = pwd.getpwnam(USER)
        os.chown(data, owner.pw_uid, owner.pw_gid)
        as_user(bin_ / "initdb", "-D", data, "-A", "trust")
        options = f"-p {port} -k {data} -c listen_addresses=''"
        # A server keeps its standard error, so it gets a file; a pipe would never end.
        as_user(bin_ / "pg_ctl", "-D", data, "-w", "-l", data / "log", "-o", options, "start")
        try:
            as_user(bin_ / "pgbench", "-h", data, "-p", port, "-q", "-i", "-s", scale, "postgres")
            yield port
        finally:
            as_user(bin_ / "pg_ctl", "-D", data, "-w", "-m", "fast", "stop")
    finally:
        run("umount", where)


def transactions(bin_: Path, where: Path, port: int, clients: int, seconds: int) -> float:
    """How many a second."""
    told = as_user(bin_ / "pgbench", "-h", where / "data", "-p", port, "-c", clients, "-T", seconds, "postgres")
    found = re.search(r"^tps = ([0-9.]+)", told, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"pgbench told no rate: {told}")
    return float(found[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where the plexes lie (default: %(default)s)")
    parser.add_argument("--size", type=int, default=1024, help="of the volume, in MiB (default: %(default)s)")
    parser.add_argument("--scale", type=int, default=10, help="of pgbench (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=4, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=10, help="of each turn (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    options = parser.parse_args()
    bin_ = programs()
    found: dict[str, list[float]] = {}
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.dir, prefix="fmrd-bench-")))
        where.chmod(0o755)
        files = {"fmrd": stack.enter_context(volume(where / "fmrd", options.size, "channel"))}
        if shutil.which("qemu-storage-daemon"):
            files["qemu quorum"] = stack.enter_context(quorum(where, options.size))
        files["raw"] = raw(where / "raw", options.size)
        ports: dict[str, int] = {}
        for at, (name, file) in enumerate(files.items()):
            device = stack.enter_context(loop_device(file))
            mounted = database(device, where / f"mounted{at}", bin_, 54400 + at, options.scale)
            try:
                ports[name] = stack.enter_context(mounted)
            except RuntimeError as error:
                if name != "qemu quorum":
                    raise
                print(f"{name}: left out, for what is made on it cannot be mounted: {error}")  # of qemu 7.2, with ext4
                continue
            found[name] = []
        for turn in range(options.rounds):
            names = list(ports)
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                place = where / f"mounted{list(files).index(name)}"
                found[name].append(transactions(bin_, place, ports[name], options.clients, options.seconds))
            print(f"  round {turn + 1}", file=sys.stderr)
    base = statistics.median(found["fmrd"])
    for name, rates in found.items():
        median = statistics.median(rates)
        ratio = f"fmrd / it {base / median:.2f}"
        print(f"{name}: {median:.0f} transactions a second ({min(rates):.0f} to {max(rates):.0f}), {ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
