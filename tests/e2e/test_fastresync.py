"""FastResync as its user meets it: a plex goes, things change, it comes back, and only what changed is copied."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import BIN, MIB, REGION, Daemon, Json, needs_fuse, same_bytes, until, write_at

pytestmark = needs_fuse

SIZE = 64 * MIB


@pytest.fixture
def plexes(tmp_path: Path) -> list[Path]:
    return [tmp_path / f"{name}.img" for name in "abc"]


@pytest.fixture
def data(daemon: Daemon, plexes: list[Path]) -> Path:
    """A volume of 64 MiB on three plexes; its file."""
    daemon.make("data", SIZE, *plexes)
    return daemon.path("data")


def write_regions(path: Path, *regions: int) -> None:
    for region in regions:
        write_at(path, region * REGION + 100, f"region {region}".encode())


def reason(task: Json) -> str:
    return str(task["reason"]["code"])


def test_exactly_the_regions_written_meanwhile_are_copied(daemon: Daemon, data: Path, plexes: list[Path]) -> None:
    write_regions(data, *range(10))
    assert daemon.json("plex", "det", "data", "data-02")["plex"]["state"] == "STALE"
    write_regions(data, 3, 4, 900, 3)
    assert daemon.plex("data", "data-02")["dirty_regions"] == 3
    task = daemon.attach("data", "data-02")
    assert (reason(task), task["total_regions"], task["done_regions"], task["total_bytes"]) == (
        "fast",
        3,
        3,
        3 * REGION,
    )
    assert 0 < task["copied_bytes"] <= 3 * REGION
    assert daemon.states("data") == ["ACTIVE"] * 3
    assert same_bytes(data, *plexes)


def test_nothing_written_nothing_copied(daemon: Daemon, data: Path) -> None:
    write_regions(data, 1)
    daemon.json("plex", "det", "data", "data-02")
    task = daemon.attach("data", "data-02")
    assert (reason(task), task["copied_bytes"], task["state"]) == ("nothing_missed", 0, "done")


def test_plexes_detached_at_different_times_keep_their_own_maps(daemon: Daemon, data: Path, plexes: list[Path]) -> None:
    daemon.json("plex", "det", "data", "data-02")
    write_regions(data, 1, 2)
    daemon.json("plex", "det", "data", "data-03")
    write_regions(data, 2, 500)
    assert daemon.attach("data", "data-03")["total_regions"] == 2
    assert daemon.attach("data", "data-02")["total_regions"] == 3
    assert same_bytes(data, *plexes)


def test_a_dry_run_says_the_decision_and_changes_nothing(daemon: Daemon, data: Path) -> None:
    daemon.json("plex", "det", "data", "data-02")
    write_regions(data, 7, 8)
    decision = daemon.json("plex", "att", "data", "data-02", "--dry-run")["decision"]
    assert (decision["reason"]["code"], decision["regions"], decision["bytes"]) == ("fast", 2, 2 * REGION)
    assert daemon.plex("data", "data-02")["state"] == "STALE"
    assert daemon.json("task", "list", "--all")["tasks"] == []


def test_an_attach_may_be_told_to_copy_everything(daemon: Daemon, data: Path, plexes: list[Path]) -> None:
    write_regions(data, 5)
    daemon.json("plex", "det", "data", "data-02")
    task = daemon.attach("data", "data-02", "--full")
    assert (reason(task), task["total_bytes"]) == ("full_forced", SIZE)
    assert same_bytes(data, *plexes)


def test_without_fmr_every_attach_copies_everything(daemon: Daemon, data: Path) -> None:
    daemon.json("plex", "det", "data", "data-02")
    assert daemon.json("set", "data", "fmr=off")["volume"]["fmr"] is False
    daemon.json("set", "data", "fmr=on")
    assert reason(daemon.attach("data", "data-02")) == "full_fmr_off"
    daemon.json("plex", "det", "data", "data-02")
    write_regions(data, 1)
    assert reason(daemon.attach("data", "data-02")) == "fast"


def test_a_plex_file_changed_by_others_is_copied_in_full(daemon: Daemon, data: Path, plexes: list[Path]) -> None:
    write_regions(data, 5)
    daemon.json("plex", "det", "data", "data-02")
    write_at(plexes[1], 6 * REGION, b"somebody else was here")
    task = daemon.attach("data", str(plexes[1]))
    assert (reason(task), task["total_bytes"]) == ("full_backing_changed", SIZE)
    assert same_bytes(data, *plexes)


def test_a_paused_copy_waits_and_an_aborted_one_goes_on_from_its_map(
    daemon: Daemon, data: Path, plexes: list[Path]
) -> None:
    daemon.json("plex", "det", "data", "data-02")
    write_at(data, 0, b"x" * 32 * MIB)
    task = daemon.json("plex", "att", "data", "data-02", "--rate", "8M")["task"]
    assert (task["state"], task["total_regions"]) == ("running", 512)
    assert daemon.json("task", "pause", task["id"])["task"]["state"] == "paused"
    assert [t["state"] for t in daemon.json("task", "list")["tasks"]] == ["paused"]
    assert daemon.states("data") == ["ACTIVE", "TEMP", "ACTIVE"]
    assert daemon.json("task", "resume", task["id"])["task"]["state"] == "running"
    until(lambda: daemon.ask("task_get", id=task["id"])["task"]["done_regions"] > 0, "some regions are copied")
    aborted = daemon.json("task", "abort", task["id"])["task"]
    left = daemon.plex("data", "data-02")
    assert (aborted["state"], left["state"]) == ("aborted", "STALE")
    assert 0 < left["dirty_regions"] < 512
    again = daemon.attach("data", "data-02")
    assert (reason(again), again["total_regions"]) == ("fast", left["dirty_regions"])
    assert same_bytes(data, *plexes)


def test_an_attach_that_waits_fails_with_its_task(daemon: Daemon, data: Path) -> None:
    daemon.json("plex", "det", "data", "data-02")
    write_at(data, 0, b"x" * 32 * MIB)
    command = [
        str(BIN / "fmrctl"),
        "--socket",
        str(daemon.socket),
        "plex",
        "att",
        "data",
        "data-02",
        "--wait",
        "--json",
    ]
    with subprocess.Popen(
        [*command, "--rate", "1M"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as wait:
        [task] = until(lambda: daemon.ask("task_list")["tasks"], "the copy has begun")
        daemon.json("task", "abort", task["id"])
        out, err = wait.communicate(timeout=30)
    said = json.loads(out)
    assert (wait.returncode, said["error"]["code"], said["task"]["state"]) == (1, "task_failed", "aborted")
    assert err.startswith("fmrctl: task_failed: task 1 aborted")


def test_waiting_for_a_task_that_is_aborted_fails(daemon: Daemon, data: Path) -> None:
    daemon.json("plex", "det", "data", "data-02")
    write_at(data, 0, b"x" * 32 * MIB)
    task = daemon.json("plex", "att", "data", "data-02", "--rate", "1M")["task"]
    daemon.json("task", "set", task["id"], "rate=2M")
    daemon.json("task", "abort", task["id"])
    answer = daemon.ctl("task", "monitor", task["id"])
    assert (answer.status, answer.code, answer.json["tasks"][0]["state"]) == (1, "task_failed", "aborted")
    assert daemon.ctl("task", "resume", task["id"]).code == "task_ended"


def test_writes_during_a_copy_are_not_lost(daemon: Daemon, data: Path, plexes: list[Path]) -> None:
    daemon.json("plex", "det", "data", "data-02")
    write_at(data, 0, b"x" * 32 * MIB)
    task = daemon.json("plex", "att", "data", "data-02", "--rate", "16M")["task"]
    for region in (0, 511, 100, 900):
        write_regions(data, region)
    daemon.json("task", "set", task["id"], "rate=0")
    assert daemon.json("task", "monitor", task["id"])["tasks"][0]["state"] == "done"
    assert same_bytes(data, *plexes)


def test_a_detach_during_a_copy_keeps_what_is_left(daemon: Daemon, data: Path, plexes: list[Path]) -> None:
    daemon.json("plex", "det", "data", "data-02")
    write_at(data, 0, b"x" * 32 * MIB)
    task = daemon.json("plex", "att", "data", "data-02", "--rate", "8M")["task"]
    until(lambda: daemon.ask("task_get", id=task["id"])["task"]["done_regions"] > 0, "some regions are copied")
    left = daemon.json("plex", "det", "data", "data-02")["plex"]
    assert (left["state"], 0 < left["dirty_regions"] < 512) == ("STALE", True)
    write_regions(data, 1000)
    assert daemon.attach("data", "data-02")["total_regions"] == left["dirty_regions"] + 1
    assert same_bytes(data, *plexes)


def test_plexes_are_added_taken_offline_and_dissociated(
    daemon: Daemon, data: Path, plexes: list[Path], tmp_path: Path
) -> None:
    write_regions(data, 1, 2, 3)
    new = tmp_path / "new.img"
    task = daemon.json("plex", "add", "data", new, "--wait")["task"]
    assert (reason(task), task["plex"], task["state"]) == ("full_new_plex", "data-04", "done")
    assert same_bytes(data, new)
    assert daemon.json("plex", "off", "data", "data-04")["plex"]["state"] == "OFFLINE"
    assert daemon.ctl("plex", "att", "data", "data-04").code == "plex_state"
    write_regions(data, 4)
    daemon.restart()
    assert daemon.plex("data", "data-04")["state"] == "OFFLINE"
    assert daemon.json("plex", "on", "data", "data-04")["plex"]["state"] == "STALE"
    [task] = daemon.json("recover", "data", "--wait")["tasks"]
    assert (reason(task), task["total_regions"]) == ("fast", 1)
    daemon.json("plex", "dis", "data", new)
    assert len(daemon.volume("data")["plexes"]) == 3
    assert same_bytes(data, new) and not Path(f"{new}.dco").exists()


def test_the_last_current_plex_is_never_given_up(daemon: Daemon, data: Path) -> None:
    for plex in ("data-02", "data-03"):
        daemon.json("plex", "det", "data", plex)
    for verb in ("det", "off", "dis"):
        refused = daemon.ctl("plex", verb, "data", "data-01")
        assert (refused.status, refused.code) == (3, "last_plex")
    assert daemon.states("data") == ["ACTIVE", "STALE", "STALE"]


def test_read_policies_are_proved_by_the_counters(daemon: Daemon, data: Path) -> None:
    daemon.json("set", "data", "rdpol=prefer:data-03")
    before = [plex["read_bytes"] for plex in daemon.volume("data")["plexes"]]
    assert same_bytes(data, Path(daemon.plex("data", "data-03")["path"]))
    read = [plex["read_bytes"] - old for plex, old in zip(daemon.volume("data")["plexes"], before, strict=True)]
    assert read == [0, 0, SIZE]
