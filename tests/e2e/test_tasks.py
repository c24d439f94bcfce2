"""Tasks by their tags, volumes and types: listed, watched, paused, slowed down and given up, several at once."""

import os
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon, needs_fuse, until, write_at

pytestmark = needs_fuse


@pytest.fixture
def door() -> str:
    """Copies are the engine's, whatever the door."""
    return "channel"


@pytest.fixture
def copied(daemon: Daemon, tmp_path: Path) -> Daemon:
    """Two volumes that are mirrored slowly, under one tag; a third one without any."""
    for name in ("one", "two", "three"):
        daemon.make(name, "4M", tmp_path / f"{name}.a")
        write_at(daemon.path(name), 0, os.urandom(4 << 20))
        tagged = ("--tag", "night") if name != "three" else ()
        daemon.json("plex", "add", name, tmp_path / f"{name}.b", "--rate", "64K", *tagged)
    return daemon


def names(daemon: Daemon, *words: str) -> list[str]:
    return [task["volume"] for task in daemon.json("task", "list", *words)["tasks"]]


def test_they_are_listed_by_tag_volume_and_type(copied: Daemon) -> None:
    assert names(copied) == ["one", "two", "three"]
    assert names(copied, "--tag", "night") == ["one", "two"]
    assert names(copied, "t*") == ["two", "three"] and names(copied, "three", "one") == ["one", "three"]
    assert names(copied, "t*", "--tag", "night", "--type", "plxatt") == ["two"]
    assert names(copied, "--type", "VERIFY") == [] and names(copied, "--tag", "nightly") == []
    assert copied.ctl("task", "list", "thre").code == "volume_missing"
    assert "did you mean three" in copied.ctl("task", "list", "thre").err
    assert copied.fmrctl("task", "list", "two").stdout.splitlines()[1].split()[-1] == "night"
    assert "full_new_plex night" in copied.fmrctl("print", "one").stdout


def test_all_of_a_tag_are_steered_at_once(copied: Daemon) -> None:
    def states() -> dict[str, str]:
        return {task["volume"]: task["state"] for task in copied.json("task", "list", "--all")["tasks"]}

    assert {task["state"] for task in copied.json("task", "pause", "night")["tasks"]} == {"paused"}
    assert states() == {"one": "paused", "two": "paused", "three": "running"}
    assert copied.json("task", "pause", "3")["task"]["volume"] == "three"  # it has the disk that they share
    copied.json("task", "set", "night", "rate=0")
    assert [task["volume"] for task in copied.json("task", "resume", "night")["tasks"]] == ["one", "two"]
    ended = copied.json("task", "monitor", "night")["tasks"]
    assert [(task["volume"], task["state"]) for task in ended] == [("one", "done"), ("two", "done")]
    for verb in ("pause", "monitor"):
        answer = copied.ctl("task", verb, "night")
        assert answer.code == "task_missing" and "night" in answer.err
    assert states()["three"] == "paused"
    assert copied.ctl("task", "pause", "-x").status == 2 and copied.ctl("task", "pause", "a b").code == "bad_name"


def test_those_of_a_tag_are_given_up_together(copied: Daemon) -> None:
    ended = copied.json("task", "abort", "night")["tasks"]
    assert [(task["volume"], task["state"]) for task in ended] == [("one", "aborted"), ("two", "aborted")]
    assert [copied.plex(name, f"{name}-02")["state"] for name in ("one", "two", "three")] == ["STALE", "STALE", "TEMP"]


def test_a_tag_is_told_and_goes_no_further_than_its_verb(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("data", "1M", tmp_path / "a", tmp_path / "b")
    daemon.json("plex", "det", "data", "data-02")
    write_at(daemon.path("data"), 0, os.urandom(1 << 17))
    daemon.json("recover", "data", "--tag", "mended", "--wait")
    daemon.json("plex", "det", "data", "data-02")
    daemon.json("plex", "att", "data", "data-02", "--wait")
    assert [task["tag"] for task in daemon.json("task", "list", "--all")["tasks"]] == ["mended", ""]
    events = until(lambda: daemon.json("events", "--no-follow")["events"], "events")
    told = [event for event in events if event["kind"] == "copy_done"]
    assert [event["task"]["tag"] for event in told] == ["mended", ""] and "mended" in told[0]["message"]
    assert any("tag=mended" in event["message"] for event in events if event["kind"] == "verb")
    for bad in ("7", "a b", "x" * 33, "-x"):
        assert daemon.ctl("verify", "data", f"--tag={bad}").code == "bad_name"
    assert daemon.ctl("plex", "det", "data", "data-02", "--tag", "x").status == 2


def test_a_verify_keeps_its_tag_over_a_restart(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("data", "16M", tmp_path / "a", tmp_path / "b")
    daemon.ask("verify", volume="data", rate=1 << 20, tag="weekly")
    daemon.json("task", "pause", "weekly")
    daemon.stop()
    daemon.start()
    until(lambda: names(daemon, "--tag", "weekly") == ["data"], "it goes on")
    daemon.json("task", "abort", "weekly")
