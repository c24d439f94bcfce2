"""scripts/backup: night after night from a refreshed snapshot, while the volume is in use."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.e2e.harness import BIN, MIB, Daemon, Loops, needs_fuse, needs_loops, needs_program, tool

pytestmark = [needs_fuse, needs_loops, needs_program("tar", "blkid")]

SCRIPT = Path(__file__).parents[2] / "scripts" / "backup"
KINDS = [
    pytest.param("ext4", marks=needs_program("mkfs.ext4")),
    pytest.param("xfs", marks=needs_program("mkfs.xfs")),
]


class Nights:
    """A mounted volume, and the archives of its nights."""

    def __init__(self, daemon: Daemon, loops: Loops, base: Path, kind: str) -> None:
        self.daemon = daemon
        self.archives = base / "archives"
        self.archives.mkdir()
        daemon.make("data", 320 * MIB, base / "a.img")
        device = loops.attach(daemon.path("data"))
        tool(f"mkfs.{kind}", "-q", device)
        self.where = loops.mount(device)

    def backup(self, **environment: str) -> subprocess.CompletedProcess[str]:
        known = {
            "PATH": f"{BIN}:{os.environ['PATH']}", "FMRD_SOCKET": str(self.daemon.socket),
            "FMRD_MOUNT": str(self.daemon.mount), "BACKUP_TO": str(self.archives),
        }  # fmt: skip
        return subprocess.run(
            [SCRIPT, "data", self.where], env=os.environ | known | environment, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip

    def newest(self) -> dict[str, bytes]:
        """What is in the last archive."""
        with tarfile.open(max(self.archives.glob("data-*.tar"))) as archive:
            members = {m.name.removeprefix("./"): archive.extractfile(m) for m in archive.getmembers() if m.isfile()}
            return {name: file.read() for name, file in members.items() if file is not None}


@pytest.fixture
def nights(daemon: Daemon, loops: Loops, tmp_path: Path) -> Nights:
    return Nights(daemon, loops, tmp_path, "ext4")


@pytest.mark.parametrize("kind", KINDS)
def test_each_night_is_what_was_there_at_its_instant(daemon: Daemon, loops: Loops, tmp_path: Path, kind: str) -> None:
    nights = Nights(daemon, loops, tmp_path, kind)
    daemon.json("snapstart", "data", tmp_path / "s.img", "--wait")
    for night in ("one", "two"):
        (nights.where / night).write_text(night)
        done = nights.backup()
        assert done.returncode == 0, done.stderr
        assert nights.newest()[night] == night.encode()
    assert "one" in nights.newest()
    task = daemon.json("task", "list", "--all")["tasks"][-1]
    assert task["type"] == "SNAPBACK" and task["copied_bytes"] < 64 * MIB, "only what changed was copied"
    assert daemon.volume("backup-data")["open_count"] == 0


def test_without_a_prepared_plex_it_says_what_to_do_and_leaves_nothing(nights: Nights) -> None:
    done = nights.backup()
    assert done.returncode == 1 and "snap_missing" in done.stderr and "fmrctl snapstart data PATH" in done.stderr
    assert not list(nights.archives.iterdir())


def test_a_backup_that_fails_lets_go_of_the_snapshot(nights: Nights, tmp_path: Path) -> None:
    nights.daemon.json("snapstart", "data", tmp_path / "s.img", "--wait")
    done = nights.backup(BACKUP_TO=str(tmp_path / "nowhere"))
    assert done.returncode != 0
    assert nights.daemon.volume("backup-data")["open_count"] == 0
    assert nights.backup().returncode == 0, "the next night is as good as any"


def test_only_the_oldest_archives_of_this_very_volume_go(nights: Nights, tmp_path: Path) -> None:
    """data-old is another volume, whose name begins alike; and what a person put there has another name's end."""
    nights.daemon.json("snapstart", "data", tmp_path / "s.img", "--wait")
    others = {
        "data-old-20260101-000000.tar", "data-old-20260102-000000.tar", "data-2-20260101-000000.tar",
        "olddata-20260101-000000.tar", "data-20260101-000000-before-the-move.tar", "data-20260101-000000.tar.part",
    }  # fmt: skip
    own = ["data-20260101-000000.tar", "data-20260102-000000.tar", "data-20260103-000000.tar"]
    for name in (*others, *own):
        (nights.archives / name).touch()
    done = nights.backup(BACKUP_KEEP="2")
    assert done.returncode == 0, done.stderr
    left = {path.name for path in nights.archives.iterdir()}
    assert others <= left
    assert len(left - others) == 2 and own[-1] in left, "tonight's and the last one before"


@pytest.mark.parametrize(("volume", "keep"), [("d*", "7"), ("../data", "7"), ("", "7"), ("data", "0"), ("data", "-1")])
def test_what_is_no_name_or_keeps_nothing_is_refused(tmp_path: Path, volume: str, keep: str) -> None:
    environment = os.environ | {"BACKUP_TO": str(tmp_path), "BACKUP_KEEP": keep}
    done = subprocess.run([SCRIPT, volume, "/"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and ("no volume's name" in done.stderr or "BACKUP_KEEP" in done.stderr), done.stderr
