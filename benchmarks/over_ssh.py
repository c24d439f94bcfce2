#!/usr/bin/env python3
"""An increment over ssh to this machine, beside 'ssh cat' of the same bytes.

    .venv/bin/python benchmarks/over_ssh.py [--sshd PROGRAM] [--dir DIRECTORY] [--changed MIB] [--run REGIONS]

Two daemons, near and far; between them an sshd of its own on a high port, with keys of its own. In each round so much
of the near volume is written, in runs of so many regions, and a snapshot taken. Then, in turn, another one first each
time: ``send --since | ssh receive --wait`` (until the far volume is that), ``ssh cat`` of the same stream into a file
that is synced, and the same to nowhere. Told are bytes a second, medians, and the processor time of what took part,
which other work on the machine touches least: the least of the rounds. Needs root, /dev/fuse, ssh and sshd; a user
'sshd' that is missing is there for this sshd alone (unshare).
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fio_doors import BIN, run, serving, volume
from measuring import process_of

REGION = 64 << 10
PORT = 22922
USER = "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin"
CONF = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {where}/host
PidFile {where}/pid
AuthorizedKeysFile {where}/key.pub
StrictModes no
PermitRootLogin yes
UsePAM no
"""
ALONE = 'mount --bind "$1" /etc/passwd && mount -t tmpfs none /run && mkdir /run/sshd && shift && exec "$@"'


@contextmanager
def ssh_server(where: Path, sshd: str) -> Iterator[list[str]]:
    """An sshd until the block ends; the words that run something by it."""
    where.mkdir()
    for name in ("host", "key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", where / name)
    (where / "conf").write_text(CONF.format(port=PORT, where=where))
    users = Path("/etc/passwd").read_text()
    (where / "passwd").write_text(users if "\nsshd:" in users else f"{users.rstrip()}\n{USER}\n")
    ssh = ["ssh", "-F", "none", "-p", str(PORT), "-i", str(where / "key"), "-o", "StrictHostKeyChecking=no",
           "-o", f"UserKnownHostsFile={where / 'known'}", "-o", "LogLevel=ERROR", "root@127.0.0.1"]  # fmt: skip
    command = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", ALONE, "sh", where / "passwd",
               sshd, "-D", "-e", "-f", where / "conf"]  # fmt: skip

    def ready() -> bool:
        return subprocess.run([*ssh, "true"], capture_output=True, check=False).returncode == 0

    with serving(command, ready, where / "log"):
        yield ssh


def write(file: Path, regions: list[int], run_regions: int, draw: random.Random) -> None:
    descriptor = os.open(file, os.O_RDWR)
    try:
        for region in regions:
            os.pwrite(descriptor, draw.randbytes(run_regions * REGION), region * REGION)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Pair:
    """A near and a far volume, and ssh between them."""

    def __init__(self, where: Path, ssh: list[str], near: Path, far: Path, options: argparse.Namespace) -> None:
        self.where, self.ssh, self.near, self.far, self.options = where, ssh, near, far, options
        self.processes = [process_of(each.parent.parent) for each in (near, far)]
        self.processes.append(int((where / "ssh" / "pid").read_text()))
        self.draw = random.Random(1)
        self.night = 0

    def ctl(self, side: Path, *words: object) -> list[str]:
        return [str(BIN / "fmrctl"), "--socket", str(side.parent.parent / "socket"), *map(str, words)]

    def next(self) -> list[str]:
        """Write, take a snapshot; the words of a send."""
        options, old = self.options, f"n{self.night}"
        self.night += 1
        slots = range(0, (options.size << 20) // REGION - options.run + 1, options.run)
        count = (options.changed << 20) // (REGION * options.run)
        if self.night > 1:
            write(self.near, sorted(self.draw.sample(slots, count)), options.run, self.draw)
        new = f"n{self.night}"
        run(*self.ctl(self.near, "snapshot", "bench", "--instant", self.where / new, "--name", new))
        since = ["--since", old] if self.night > 1 else []
        return self.ctl(self.near, "send", new, *since)

    def forget(self) -> None:
        run(*self.ctl(self.near, "prune", "bench", "--keep-last", "1"))

    def processor_seconds(self) -> float:
        """Of both daemons and of sshd, with all that these have started and that has ended."""
        stats = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in self.processes]
        return sum(int(each) for stat in stats for each in stat[11:15]) / os.sysconf("SC_CLK_TCK")


def timed(pair: Pair, first: list[str] | Path, behind: list[str]) -> tuple[float, float]:
    """(Seconds, processor seconds) of a pipe: from a command, or a file, into another one by ssh."""
    before, began, spent = pair.processor_seconds(), time.monotonic(), os.times()
    command = [*pair.ssh, " ".join(behind)]
    if isinstance(first, Path):
        with first.open("rb") as file:
            done = subprocess.run(command, stdin=file, stdout=subprocess.DEVNULL, check=False)
    else:
        with subprocess.Popen(first, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as sender:
            done = subprocess.run(command, stdin=sender.stdout, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(behind)} ended with {done.returncode}")
    seconds, after = time.monotonic() - began, os.times()
    children = after.children_user + after.children_system - spent.children_user - spent.children_system
    return seconds, pair.processor_seconds() - before + children


def environment() -> list[str]:
    """What the far fmrctl needs as this program did, to be of the same checkout."""
    return ["env", *(f"{name}={value}" for name, value in os.environ.items() if name.startswith("PYTHON"))]


def one_round(pair: Pair, turn: int) -> tuple[int, dict[str, tuple[float, float]]]:
    send = pair.next()
    stream = pair.where / "stream"
    with stream.open("wb") as file:
        subprocess.run(send, stdout=file, stderr=subprocess.DEVNULL, check=True)
    receive = [*environment(), *pair.ctl(pair.far, "receive", "bench")]
    kinds: dict[str, Callable[[], tuple[float, float]]] = {
        "send | ssh receive": lambda: timed(pair, send, receive),
        "ssh cat, synced": lambda: timed(pair, stream, [f"cat >{pair.where}/copy; sync {pair.where}/copy"]),
        "ssh cat, to nowhere": lambda: timed(pair, stream, ["cat >/dev/null"]),
    }
    names = list(kinds)
    found = {name: kinds[name]() for name in names[turn % len(names) :] + names[: turn % len(names)]}
    run(*pair.ctl(pair.far, "task", "monitor"))  # what came is copied from where it came, in the background
    pair.forget()
    return stream.stat().st_size, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where everything lies (default: %(default)s)")
    parser.add_argument("--sshd", default="/usr/sbin/sshd", help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=4096, help="of the volumes, in MiB (default: %(default)s)")
    parser.add_argument("--changed", type=int, default=256, help="of it in each round, in MiB (default: %(default)s)")
    parser.add_argument("--run", type=int, default=16, help="regions of 64 KiB in one piece (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    options = parser.parse_args()
    if os.geteuid():
        parser.error("needs root, for sshd")
    run(BIN / "python", "-m", "compileall", "-q", Path(__file__).parents[1] / "fmrd")  # as what is installed is
    rounds: list[dict[str, tuple[float, float]]] = []
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.dir, prefix="fmrd-bench-")))
        near = stack.enter_context(volume(where / "near", options.size, "channel"))
        far = stack.enter_context(volume(where / "far", options.size, "channel", plexes="a"))
        ssh = stack.enter_context(ssh_server(where / "ssh", options.sshd))  # it sees the mounts that are there by now
        pair = Pair(where, ssh, near, far, options)
        one_round(pair, 0)  # all of it: the far side holds something to go on from
        size = 0
        for turn in range(options.rounds):
            size, found = one_round(pair, turn)
            rounds.append(found)
    print(f"{size / 1e6:.0f} MB of stream, runs of {options.run} regions, {options.rounds} rounds\n")
    print("| what | MB/s | to cat, synced | processor seconds |\n|---|---|---|---|")
    base = statistics.median(each["ssh cat, synced"][0] for each in rounds)
    for name in rounds[0]:
        seconds = statistics.median(each[name][0] for each in rounds)
        ratio = statistics.median(each["ssh cat, synced"][0] / each[name][0] for each in rounds)
        spent = min(each[name][1] for each in rounds)
        print(f"| {name} | {size / seconds / 1e6:.0f} | {ratio:.2f} | {spent:.2f} |")
    return 0 if base else 1


if __name__ == "__main__":
    sys.exit(main())
