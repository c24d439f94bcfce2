"""changed, send and receive through a real daemon: what differs is named, and the far side becomes the same."""

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.harness import BIN, MIB, REGION, Daemon, needs_fuse, until

pytestmark = [needs_fuse]


def send(daemon: Daemon, *words: str) -> bytes:
    """The stream of 'fmrctl send'."""
    done = run(daemon, "send", *words)
    assert done.returncode == 0, done.stderr.decode() + daemon.log()
    return done.stdout


def run(daemon: Daemon, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"FMRD_SOCKET": str(daemon.socket)}
    return subprocess.run(
        [str(BIN / "fmrctl"), *words], input=stdin, env=environment, capture_output=True, timeout=60
    )  # fmt: skip


def receive(daemon: Daemon, volume: str, stream: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    return run(daemon, "receive", volume, "--wait", *words, stdin=stream)


def write(daemon: Daemon, volume: str, offset: int, data: bytes) -> None:
    with open(daemon.path(volume), "r+b") as file:
        file.seek(offset)
        file.write(data)
        os.fsync(file.fileno())


def content(daemon: Daemon, volume: str) -> bytes:
    return daemon.path(volume).read_bytes()


def test_what_changed_is_named_and_sent_and_the_far_volume_becomes_that(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("near", 8 * MIB, tmp_path / "a")
    daemon.make("far", 8 * MIB, tmp_path / "b", tmp_path / "c")
    write(daemon, "near", 3 * REGION + 7, b"one" * 1000)
    daemon.json("snapshot", "near", "--instant", tmp_path / "s1", "--name", "s1")
    done = receive(daemon, "far", send(daemon, "s1"))
    assert done.returncode == 0, done.stderr.decode() + daemon.log()
    assert content(daemon, "far") == content(daemon, "s1") == content(daemon, "near")

    write(daemon, "near", 20 * REGION - 5, b"two" * 10)
    daemon.json("snapshot", "near", "--instant", tmp_path / "s2", "--name", "s2")
    changed = daemon.json("changed", "s2", "--since", "s1")
    assert [(r["offset_bytes"], r["length_bytes"]) for r in changed["ranges"]] == [(19 * REGION, 2 * REGION)]
    done = receive(daemon, "far", send(daemon, "s2", "--since", "s1"))
    assert done.returncode == 0, done.stderr.decode() + daemon.log()
    assert content(daemon, "far") == content(daemon, "s2")
    daemon.in_sync("far")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes() == content(daemon, "near")
    assert not (tmp_path / "b.received").exists(), "what it came on is gone"


@pytest.fixture
def pair(daemon: Daemon, tmp_path: Path) -> Daemon:
    """A volume 'near' with a snapshot 's1', and an empty one 'far'."""
    daemon.make("near", 4 * MIB, tmp_path / "a")
    daemon.make("far", 4 * MIB, tmp_path / "b")
    for region in range(0, 40, 2):
        write(daemon, "near", region * REGION, bytes([region + 1]) * REGION)
    snap(daemon, tmp_path, "s1")
    return daemon


def snap(daemon: Daemon, base: Path, name: str) -> None:
    daemon.json("snapshot", "near", "--instant", base / name, "--name", name)


def taken(daemon: Daemon, *words: str, into: str = "far") -> None:
    done = receive(daemon, into, send(daemon, *words))
    assert done.returncode == 0, done.stderr.decode() + daemon.log()


def cuts(stream: bytes) -> Iterator[int]:
    yield from (0, 1, 20, len(stream) // 3, len(stream) // 2, len(stream) - 40, len(stream) - 1)


def test_a_stream_that_is_cut_or_damaged_leaves_the_far_volume_as_it_was(pair: Daemon) -> None:
    write(pair, "far", 5 * REGION, b"mine")
    before = content(pair, "far")
    stream = send(pair, "s1")
    for at in cuts(stream):
        done = receive(pair, "far", stream[:at])
        assert done.returncode == 1 and b"stream_cut" in done.stderr, (at, done.stderr)
        assert content(pair, "far") == before
    damaged = bytearray(stream)
    damaged[len(stream) // 2] ^= 1
    done = receive(pair, "far", bytes(damaged))
    assert done.returncode == 1 and b"stream_damaged" in done.stderr
    assert content(pair, "far") == before
    pair.json("receive", "far", "--abort")
    assert [volume["name"] for volume in pair.json("print")["volumes"]] == ["far", "near", "s1"]
    assert pair.ctl("receive", "far", "--abort").code == "receive_missing"


def test_a_cut_stream_goes_on_where_it_was_also_after_the_daemon_was_killed(pair: Daemon) -> None:
    stream = send(pair, "s1")
    assert receive(pair, "far", stream[: len(stream) * 2 // 3]).returncode == 1
    pair.kill_all()
    pair.start()
    assert content(pair, "far") == bytes(4 * MIB)
    token = pair.json("receive", "far", "--token")["token"]
    rest = send(pair, "--resume", token)
    assert len(rest) < len(stream) // 2, "only the rest"
    done = receive(pair, "far", rest)
    assert done.returncode == 0, done.stderr
    assert content(pair, "far") == content(pair, "s1")
    done = receive(pair, "far", rest)
    assert done.returncode == 0 and b"nothing to change" in done.stderr, "who sends it again does no harm"


def test_a_token_does_not_go_on_with_another_state(pair: Daemon, tmp_path: Path) -> None:
    stream = send(pair, "s1")
    assert receive(pair, "far", stream[: len(stream) // 2]).returncode == 1
    token = pair.json("receive", "far", "--token")["token"]
    write(pair, "s1", 0, b"other")
    done = run(pair, "send", "--resume", token)
    assert done.returncode == 3 and b"stream_unfit" in done.stderr
    assert run(pair, "send", "--resume", "nonsense").returncode == 2


def test_an_increment_that_does_not_fit_is_refused_and_says_what_would(pair: Daemon, tmp_path: Path) -> None:
    write(pair, "near", 0, b"two")
    snap(pair, tmp_path, "s2")
    increment = send(pair, "s2", "--since", "s1")
    done = receive(pair, "far", increment)
    assert done.returncode == 3 and b"holds nothing that a stream brought" in done.stderr
    taken(pair, "s1")
    write(pair, "near", 9 * REGION, b"three")
    snap(pair, tmp_path, "s3")
    done = receive(pair, "far", send(pair, "s3", "--since", "s2"))
    assert done.returncode == 3 and b"holds s1" in done.stderr and b"--since s1" in done.stderr
    assert content(pair, "far") == content(pair, "s1")
    taken(pair, "s3", "--since", "s1")
    assert content(pair, "far") == content(pair, "s3")
    write(pair, "far", 30 * REGION, b"somebody")
    write(pair, "near", 0, b"four")
    snap(pair, tmp_path, "s4")
    done = receive(pair, "far", send(pair, "s4", "--since", "s3"))
    assert done.returncode == 3 and b"was written since it received s3: 1 region(s)" in done.stderr
    taken(pair, "s4")
    assert content(pair, "far") == content(pair, "s4")


def test_a_mark_is_enough_for_the_next_night(pair: Daemon, tmp_path: Path) -> None:
    pair.json("mark", "near", "night")
    snap(pair, tmp_path, "n1")
    taken(pair, "n1")
    pair.json("stop", "n1")
    pair.json("remove", "n1", "--erase")
    write(pair, "near", 33 * REGION, b"changed")
    pair.json("mark", "near", "next")
    snap(pair, tmp_path, "n2")
    stream = send(pair, "n2", "--mark", "night")
    assert len(stream) < 3 * REGION
    done = receive(pair, "far", stream)
    assert done.returncode == 0, done.stderr
    assert content(pair, "far") == content(pair, "n2") == content(pair, "near")


def test_a_snapshot_that_is_written_while_it_is_sent_has_no_end(pair: Daemon) -> None:
    command = [str(BIN / "fmrctl"), "send", "s1", "--rate", "1M"]
    environment = os.environ | {"FMRD_SOCKET": str(pair.socket)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sender:
        assert sender.stdout is not None and sender.stderr is not None
        begin = sender.stdout.read(MIB // 2)
        write(pair, "s1", 0, b"meanwhile")
        stream = begin + sender.stdout.read()
        assert b"stream_changed" in sender.stderr.read()
    assert sender.returncode == 1
    assert receive(pair, "far", stream).returncode == 1


def test_a_stream_in_a_file_is_verified_without_a_daemon_and_restored(pair: Daemon, tmp_path: Path) -> None:
    kept = tmp_path / "kept.fmrd"
    pair.json("send", "s1", "--output", kept)
    assert pair.ctl("send", "s1", "--output", kept).code == "stream_file"
    shown = pair.json("stream", "verify", kept)["stream"]
    assert shown["snapshot"]["name"] == "s1" and shown["bytes"] == 4 * MIB
    done = receive(pair, "far", kept.read_bytes())
    assert done.returncode == 0 and content(pair, "far") == content(pair, "s1")
    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "bad").write_bytes(damaged)
    assert pair.ctl("stream", "verify", tmp_path / "bad").code == "stream_damaged"


def test_a_far_volume_that_is_in_use_is_not_changed_under_that(pair: Daemon) -> None:
    stream = send(pair, "s1")
    with open(pair.path("far"), "rb"):
        done = receive(pair, "far", stream)
        assert done.returncode == 3 and b"volume_open" in done.stderr
        assert receive(pair, "far", stream, "--force").returncode == 0
    assert content(pair, "far") == content(pair, "s1")


def test_what_is_half_received_is_no_snapshot_to_restore_from(pair: Daemon) -> None:
    stream = send(pair, "s1")
    assert receive(pair, "far", stream[: len(stream) // 2]).returncode == 1
    answer = pair.ctl("snapback", "RECV-far", "--from-replica")
    assert answer.status == 3 and answer.code == "receive_present"


def test_a_daemon_that_is_killed_while_it_receives_is_told_in_a_line_and_leaves_it_as_it_was(pair: Daemon) -> None:
    stream = send(pair, "s1")
    command = [str(BIN / "fmrctl"), "receive", "far"]
    environment = os.environ | {"FMRD_SOCKET": str(pair.socket)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as receiver:  # type: ignore[call-overload]  # three pipes
        receiver.stdin.write(stream[: len(stream) // 2])
        receiver.stdin.flush()
        shown = partial(pair.json, "print")
        until(lambda: any(v["name"] == "RECV-far" and v["open_count"] for v in shown()["volumes"]), "it receives")
        for second in (receive(pair, "far", stream), run(pair, "receive", "far", "--abort")):
            assert second.returncode == 3 and b"receive_present: a stream is being received just now" in second.stderr
        pair.kill_all()
        _, told = receiver.communicate(stream[len(stream) // 2 :])
    assert receiver.returncode in (1, 4) and told.startswith(b"fmrctl: ") and b"Traceback" not in told, told
    pair.start()
    assert content(pair, "far") == bytes(4 * MIB)
    taken(pair, "s1")
    assert content(pair, "far") == content(pair, "s1")
