"""A stage: a machine on which documents are typed as they stand there, without doing anything to this one.

It has this machine's programs and devices, and of its own: /etc, /run, /srv, /var, /mnt, /backup, and a network. In the
place of systemd stands a program that does what the units say, in that of ssh one for which every host is this one.
"""

import contextlib
import io
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fmrd.front.client import Client
from fmrd.front.ctl.cli import run
from tests.e2e.harness import BIN, until

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
OWN = ("backup", "etc", "mnt", "run", "srv", "var")
READS_FILES = ("apply", "cat", "send", "receive", "dump", "--help")
"""fmrctl itself reads or writes files there, so it must be there, too."""
BUILT = r"""
# It says so only from inside: whoever entered before would be on the machine itself.
set -eu
new=$1 own=$2
mount -t tmpfs tmpfs "$new"
for path in /*; do
    name=${path#/}
    if [ -e "$own/$name" ]; then mkdir "$new/$name"; mount --bind "$own/$name" "$new/$name"
    elif [ -L "$path" ]; then cp -a "$path" "$new/"
    elif [ -d "$path" ]; then mkdir "$new/$name"; mount --rbind "$path" "$new/$name"
    fi
done
mkdir -p "$new/backup"
[ -e "$new/backup/." ] && mount --bind "$own/backup" "$new/backup"
mount -t tmpfs tmpfs "$new/run"
mount -t tmpfs tmpfs "$new/usr/local/sbin"
mount --rbind /var/tmp "$new/var/tmp"
for disk in 1 2 3; do mount --bind "$own/disk$disk" "$new/srv/disk$disk"; done
mkdir -p "$new/mnt/nbd" "$new/mnt/night" "$new/run/fmrd-loop"
ip link set lo up
ip address add 10.0.0.1/32 dev lo
exec chroot "$new" sh -c 'echo built; exec sleep infinity'
"""


def _has_volumes_of_its_own() -> bool:
    """Their loop devices would be taken for those of the stage."""
    files = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    return " /run/fmrd/volumes " in Path("/proc/self/mounts").read_text() or any(
        each.startswith("/run/fmrd/") for each in files
    )


SSH = """#!/bin/sh
# What ssh does with its words, from a terminal or from fmrd: the host and the command come last.
while [ $# -gt 2 ]; do shift; done
exec /bin/sh -c "$2"
"""
needs_a_stage = pytest.mark.skipif(
    os.geteuid() != 0 or _has_volumes_of_its_own() or any(str(ROOT).startswith(f"/{name}/") for name in OWN),
    reason="takes root, a machine without an fmrd of its own, and a checkout beside what is covered",
)


class Stage:
    """``type`` runs a line as somebody at a terminal would, and fails where that fails."""

    def __init__(self, base: Path, anchor: int) -> None:
        self.base = base
        self.own = base / "own"
        self._anchor = anchor
        self._daemon: subprocess.Popen[bytes] | None = None
        self._behind: list[subprocess.Popen[bytes]] = []
        self._before = self._loops()
        self.seen = Path(f"/proc/{anchor}/root")
        """Its root, for us."""

    def _inside(self, script: str) -> list[str]:
        path = f"{self.own}/stubs:{BIN}:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        kept = {name: os.environ[name] for name in ("PYTHONPATH", "LC_ALL") if name in os.environ}
        told = kept | {"PATH": path, "HOME": str(self.own), "CHECKOUT": str(ROOT), "PYTHONWARNINGS": "error",
                       "PYTHONFAULTHANDLER": "1"}  # fmt: skip
        enter = ["nsenter", f"--target={self._anchor}", "--mount", "--net", "--root", "env", "-i", "--chdir=/",
                 "--default-signal=INT"]  # fmt: skip  # else whoever is started in the background hears no Ctrl-C
        return [*enter, *(f"{name}={value}" for name, value in told.items()), "bash", "-euo", "pipefail", "-c", script]

    def start(self) -> None:
        """The daemon; returns when it answers."""
        with open(self.base / "log", "ab") as log:
            self._daemon = subprocess.Popen(
                self._inside("exec fmrd"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
            )
        try:
            until(self._answers, "fmrd answers")
        except AssertionError as error:
            error.add_note(self.log())
            raise

    def stop(self) -> None:
        """In order."""
        if self._daemon is not None:
            self._daemon.terminate()
            try:
                self._daemon.wait(60)
            finally:
                self._daemon.kill()
                self._daemon = None

    @property
    def socket(self) -> Path:
        return self.seen / "run/fmrd/fmrd.sock"

    def _answers(self) -> bool:
        assert self._daemon is not None and self._daemon.poll() is None, self.log()
        with contextlib.suppress(Exception):
            return bool(Client(self.socket).ask("print") is not None)
        return False

    def log(self) -> str:
        return (self.base / "log").read_text()

    def type(self, line: str) -> str:
        """What it prints."""
        words = line.split()
        shell = set(line) & set("|&;<>$`~*") and "'" not in line
        if words[0] == "fmrctl" and not shell and not set(words) & set(READS_FILES):
            return self._fmrctl(line)
        return self.shell(line)

    def _fmrctl(self, line: str) -> str:
        """Without a new process, which takes far longer than what it asks for."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run(["--socket", str(self.socket), *shlex.split(line)[1:]])
        assert status == 0, f"{line}: status {status}: {err.getvalue()}"
        return out.getvalue()

    def shell(self, script: str, stdin: str = "") -> str:
        done = subprocess.run(
            self._inside(f"cd {shlex.quote(str(ROOT))}; {script}"), input=stdin, capture_output=True, text=True,
            timeout=60, cwd="/",
        )  # fmt: skip
        assert done.returncode == 0, f"{script}: status {done.returncode}: {done.stderr}{done.stdout}\n{self.log()}"
        return done.stdout

    def behind(self, line: str) -> "subprocess.Popen[bytes]":
        """One that goes on."""
        process = subprocess.Popen(
            self._inside(f"cd {shlex.quote(str(ROOT))}; exec {line}"), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/", start_new_session=True,
        )  # fmt: skip
        self._behind.append(process)
        return process

    def says(self, line: str, word: str) -> None:
        """One that goes on says so, and is ended."""
        process = self.behind(line)
        assert process.stdout is not None
        for said in process.stdout:
            if word.encode() in said:
                break
        else:
            raise AssertionError(f"{line} ended without {word!r}")
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGABRT)  # whoever is Python's tells where it stands
            told, _ = process.communicate()
            raise AssertionError(f"{line} does not end: {told.decode(errors='replace')}") from None

    @staticmethod
    def _loops() -> set[str]:
        listed = subprocess.run(["losetup", "--list", "--noheadings", "-O", "NAME"], capture_output=True, text=True)
        return set(listed.stdout.split())

    def clean_up(self) -> None:
        """Users of volumes first, then what they lie on; whatever happened."""
        shown = subprocess.run(self._inside("cat /proc/mounts"), capture_output=True, text=True, cwd="/").stdout
        mine = [line.split()[1] for line in shown.splitlines()]
        where = [place for place in reversed(mine) if place.startswith(("/srv/", "/mnt")) and "/srv/disk" not in place]
        script = "".join(f"umount {shlex.quote(place)} || umount -l {shlex.quote(place)}; " for place in where)
        subprocess.run(self._inside(f"set +e; {script}"), capture_output=True, timeout=60, cwd="/")
        backing = "for each in /sys/block/loop*/loop/backing_file; do echo $each $(cat $each); done"
        held = subprocess.run(self._inside(f"set +e; {backing}"), capture_output=True, text=True, cwd="/").stdout
        for line in held.splitlines():
            name, _, file = line.partition(" ")
            if file.startswith("/run/fmrd/volumes/") and (device := f"/dev/{name.split('/')[3]}") not in self._before:
                subprocess.run(["losetup", "--detach", device], capture_output=True)
        for process in self._behind:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
            if process.stdout is not None:
                process.stdout.close()
        try:
            self.stop()
        finally:
            self._kill_the_rest()

    def _kill_the_rest(self) -> None:
        """What a line, or a unit, has left in the background."""
        place = self.seen.stat()
        for root in Path("/proc").glob("[0-9]*/root"):
            with contextlib.suppress(OSError):
                if int(root.parent.name) != self._anchor and os.path.samestat(root.stat(), place):
                    os.kill(int(root.parent.name), signal.SIGKILL)


@contextmanager
def stage(base: Path) -> Iterator[Stage]:
    """Built; its daemon is not started. ``base``: a directory that nobody else uses, on a disk."""
    own = base / "own"
    for name in (*OWN, "stubs", "disk1", "disk2", "disk3", "srv/disk1", "srv/disk2", "srv/disk3", "var/tmp",
                 "var/lib", "srv/snapshots"):  # fmt: skip
        (own / name).mkdir(parents=True, exist_ok=True)
    (base / "root").mkdir()
    subprocess.run(["cp", "-a", "/etc/.", own / "etc"], check=True)
    shutil.rmtree(own / "etc/fmrd", ignore_errors=True)
    (own / "etc/fmrd.conf").unlink(missing_ok=True)
    (own / "etc/fmrd").mkdir()
    (own / "etc/fstab").write_text("".join(f"{own}/disk{n} /srv/disk{n} none bind 0 0\n" for n in (1, 2, 3)))
    with (own / "etc/hosts").open("a") as hosts:
        hosts.write("127.0.0.1 backup.example\n")
    for name, text in {"ssh": SSH, "apt-get": "#!/bin/sh\n", "systemctl": (HERE / "systemctl").read_text()}.items():
        (own / "stubs" / name).write_text(text)
        (own / "stubs" / name).chmod(0o755)
    for name, program in {"fmrd-backup": "scripts/backup", "fmrd-loop": "systemd/fmrd-loop"}.items():
        (own / "stubs" / name).symlink_to(ROOT / program)
    unshare: list[str | Path] = [
        "unshare",
        "--mount",
        "--net",
        "--propagation",
        "slave",
        "bash",
        "-c",
        BUILT,
        "stage",
        base / "root",
        own,
    ]
    with subprocess.Popen(unshare, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd="/") as anchor:
        try:
            assert anchor.stdout is not None and anchor.stdout.readline() == b"built\n"
            made = Stage(base, anchor.pid)
            try:
                yield made
            finally:
                made.clean_up()
        finally:
            anchor.kill()
