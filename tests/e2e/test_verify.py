"""fmrctl verify, as an administrator sees it: a disk that lied, the file that it hit, and the repair."""

import subprocess
from pathlib import Path

from tests.e2e.harness import Daemon, Loops, needs_fuse, needs_loops, needs_program, same_bytes, tool, until

pytestmark = [needs_fuse]
TEXT = b"a sentence that stands nowhere else\n"


def rot(plex: Path, text: bytes) -> int:
    """One byte of it changes in the plex's file, behind fmrd's back; returns where."""
    content = plex.read_bytes()
    assert content.count(text) == 1
    at = content.index(text) + 2
    with plex.open("r+b") as file:
        file.seek(at)
        file.write(b"X")
    return at


@needs_loops
@needs_program("mkfs.ext4", "debugfs", "e2fsck")
def test_the_file_with_a_rotten_byte_is_named_and_repaired(daemon: Daemon, loops: Loops, tmp_path: Path) -> None:
    plexes = [tmp_path / name for name in ("a", "b", "c")]
    daemon.make("data", "32M", *plexes, options=("--wait",))
    device = loops.attach(daemon.path("data"))
    tool("mkfs.ext4", "-q", device)
    where = loops.mount(device)
    (where / "letters").mkdir()
    (where / "letters" / "one").write_bytes(b"." * 10_000 + TEXT)
    loops.umount(where)
    assert daemon.json("verify", "data")["mismatches"] == []
    at = rot(plexes[1], TEXT)

    found = daemon.ctl("verify", "data", "--files")
    assert (found.status, found.code) == (1, "plexes_differ")
    [mismatch] = found.json["mismatches"]
    assert mismatch == {"offset_bytes": at, "length_bytes": 1, "plexes": ["data-02"], "proven": True,
                        "repaired": False, "files": ["/letters/one"]}  # fmt: skip
    told = daemon.fmrctl("verify", "data", "--files", "--repair")
    assert f"bytes {at} to {at}: data-02 differs from the others; written anew (/letters/one)" in told.stdout
    assert told.returncode == 0
    assert "all copies are the same" in daemon.fmrctl("verify", "data").stdout
    assert same_bytes(*plexes)
    tool("e2fsck", "-fn", device)


def test_of_two_the_administrator_decides(daemon: Daemon, tmp_path: Path) -> None:
    plexes = [tmp_path / "a", tmp_path / "b"]
    daemon.make("data", "4M", *plexes, options=("--wait",))
    daemon.path("data").write_bytes(TEXT)
    at = rot(plexes[0], TEXT)
    told = daemon.fmrctl("verify", "data", "--repair")
    assert told.returncode == 1 and "data-01, data-02 differ, and none is proven right" in told.stdout
    assert plexes[0].read_bytes()[at : at + 1] == b"X", "nothing was written"
    assert daemon.json("verify", "data", "--from", "data-02")["mismatches"][0]["repaired"]
    assert same_bytes(*plexes)
    assert daemon.path("data").read_bytes()[: len(TEXT)] == TEXT, "what the kernel had cached is forgotten"


def test_of_two_the_one_that_changed_since_the_last_verify_is_wrong(daemon: Daemon, tmp_path: Path) -> None:
    plexes = [tmp_path / "a", tmp_path / "b"]
    daemon.make("data", "4M", *plexes, options=("--wait",))
    daemon.path("data").write_bytes(TEXT)
    daemon.restart()  # at rest: what was just written is not remembered
    assert daemon.json("verify", "data")["mismatches"] == []
    daemon.kill()
    daemon.start()
    at = rot(plexes[0], TEXT)
    told = daemon.fmrctl("verify", "data", "--repair")
    assert told.returncode == 0 and f"bytes {at} to {at}: data-01 differs from the others; written anew" in told.stdout
    assert same_bytes(*plexes) and plexes[0].read_bytes()[: len(TEXT)] == TEXT


def test_no_false_alarm_while_it_is_written(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("data", "16M", tmp_path / "a", tmp_path / "b", options=("--wait",))
    with subprocess.Popen(
        ["fio", "--name=w", f"--filename={daemon.path('data')}", "--rw=randwrite", "--bs=4k", "--iodepth=16",
         "--ioengine=libaio", "--direct=1", "--size=16m", "--time_based", "--runtime=60", "--allow_file_create=0"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as writer:  # fmt: skip
        try:
            until(lambda: daemon.plex("data", "data-02")["writes"] > 100, "fio writes")
            before = daemon.plex("data", "data-02")["writes"]
            for _ in range(3):
                assert daemon.json("verify", "data")["mismatches"] == []
            assert daemon.plex("data", "data-02")["writes"] > before
        finally:
            writer.terminate()
