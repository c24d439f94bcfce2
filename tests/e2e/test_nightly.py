"""The night of a volume through a real daemon: README's plan, steps that fail, and nights that were missed."""

import json
import os
import time
from pathlib import Path

import pytest

from fmrd.core.json_object import Json
from tests.e2e.harness import BIN, DOORS, MIB, REGION, Daemon, needs_fuse, until
from tests.e2e.test_recipes import README, Shell, names, write

pytestmark = [needs_fuse]


@pytest.fixture
def door() -> str:
    """It is nothing to a door."""
    return DOORS[0]


@pytest.fixture(autouse=True)
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Before the daemon is started: it looks there, too."""
    monkeypatch.setenv("FMRD_CONF", str(tmp_path / "fmrd.conf"))
    folder = tmp_path / "fmrd.d"
    folder.mkdir()
    return folder


@pytest.fixture
def far(tmp_path: Path) -> Daemon:
    (tmp_path / "far").mkdir()
    return Daemon(tmp_path / "far")


@pytest.fixture
def shell(plans: Path, daemon: Daemon, far: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    daemon.make("data", 4 * MIB, tmp_path / "a", tmp_path / "b")
    shell = Shell(daemon, far, tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{BIN}:{os.environ['PATH']}")
    return shell


def hook(base: Path, name: str, text: str) -> str:
    path = base / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def planned(plans: Path, text: str) -> None:
    path = plans / "data.toml"
    path.write_text(text)
    path.chmod(0o600)


def steps(told: Json) -> dict[str, str]:
    return {step["name"]: step["state"] for step in told["steps"]}


def readme_plan(shell: Shell) -> str:
    [text] = [each for each in README.split("```")[1::2] if each.startswith("toml\n# /etc/fmrd.d/data.toml\n")]
    text = text.removeprefix("toml\n").replace("/srv/snapshots", str(shell.base / "snapshots"))
    assert 'freeze = "/srv/data"' in text
    backup = hook(shell.base, "my-backup", f'cat "$FMRD_PATH" >{shell.base}/backup/"$FMRD_SNAPSHOT"')
    return text.replace('freeze = "/srv/data"\n', "").replace("/usr/local/sbin/my-backup", backup)


def test_the_night_of_the_readme(shell: Shell, far: Daemon, plans: Path, tmp_path: Path) -> None:
    near = shell.near
    planned(plans, readme_plan(shell))
    far.start()
    try:
        far.make("data", 4 * MIB, tmp_path / "far" / "p")
        write(near, "data", 0, os.urandom(4 * REGION))
        foretold = near.json("nightly", "data", "--dry-run")
        assert set(steps(foretold).values()) == {"would"} and names(near) == []
        for number in range(2):
            write(near, "data", number * 7 * REGION, os.urandom(3 * REGION))
            told = near.json("nightly", "data")
            assert set(steps(told).values()) == {"done"}, told
            assert far.path("data").read_bytes() == near.path("data").read_bytes()
            assert (shell.base / "backup" / told["taken"]).read_bytes() == near.path("data").read_bytes()
            assert ("what changed since" in told["steps"][2]["message"]) is bool(number)
            until(lambda taken=told["taken"]: time.strftime("data-%Y%m%d-%H%M%S") != taken, "another second")
        assert len(names(near)) == 2
        assert near.json("status")["level"] == "well"
        assert [e["kind"] for e in near.json("events", "--no-follow")["events"]].count("night_done") == 2
    finally:
        far.clean_up()


def test_a_step_that_fails_leaves_the_others_sane_and_is_told(shell: Shell, far: Daemon, plans: Path) -> None:
    """The far side is not there: what it holds stays, however the rules count."""
    near = shell.near
    failing = hook(shell.base, "failing", "echo no room on tape; exit 3")
    planned(
        plans,
        f'[snapshot]\ninto = "{shell.base}/snapshots"\nname = "n%H%M%S"\n[prune]\nlast = 1\n'
        f'[send]\nthrough = ["ssh", "second"]\n[hooks]\ntaken = ["{failing}"]\n',
    )
    for number in range(2):
        near.json("snapshot", "data", "--instant", shell.base / f"o{number}", "--name", f"o{number}")
    near.ask("night_note", volume="data", begun=1, sent="o0")
    answer = near.ctl("nightly", "data")
    assert (answer.status, answer.code) == (1, "night_failed")
    found = steps(answer.json)
    assert found == {"snapshot": "done", "taken": "failed", "send": "failed", "prune": "done"}
    assert "no room on tape" in answer.json["error"]["message"]
    assert names(near) == sorted([answer.json["taken"], "o0"]), "what the far side holds stays, o1 went"
    status = near.ctl("status")
    [health] = status.json["health"][:1]
    assert (status.status, health["state"]) == (1, "OVERDUE") and "no room on tape" in health["findings"][0]["cause"]
    assert "night_failed" in [e["kind"] for e in near.json("events", "--no-follow")["events"]]


def test_a_hook_that_says_no_keeps_the_night_from_beginning(shell: Shell, plans: Path) -> None:
    said = shell.base / "said"
    after = hook(shell.base, "after", f'echo "$FMRD_RESULT $FMRD_MESSAGE" >{said}')
    planned(
        plans,
        f'[snapshot]\ninto = "{shell.base}/snapshots"\n[prune]\nlast = 1\n'
        f'[hooks]\nbefore = ["{hook(shell.base, "no", "exit 1")}"]\nafter = ["{after}"]\n',
    )
    found = steps(shell.near.ctl("nightly", "data").json)
    assert found == {"before": "failed", "snapshot": "skipped", "prune": "skipped", "after": "done"}
    assert names(shell.near) == [] and said.read_text().startswith("failed before: ")


def test_a_snapshot_is_refreshed_every_night(shell: Shell, plans: Path, tmp_path: Path) -> None:
    near = shell.near
    near.json("snapstart", "data", tmp_path / "c")
    near.json("snapwait", "data")
    near.json("snapshot", "data")
    planned(plans, '[snapshot]\ntake = "refresh"\n')
    write(near, "data", REGION, b"tonight")
    assert steps(near.json("nightly", "data", "--dry-run")) == {"snapshot": "would"}
    assert steps(near.json("nightly", "data")) == {"snapshot": "done"}
    assert near.path("SNAP-data").read_bytes() == near.path("data").read_bytes()


def test_nights_that_were_missed_are_told_also_when_the_machine_was_off(shell: Shell, plans: Path) -> None:
    near = shell.near
    heard = shell.base / "heard"
    (near.base / "hooks.d").mkdir(mode=0o755)
    hook(near.base / "hooks.d", "mail", f'[ "$FMRD_EVENT" != night_missed ] || echo "$FMRD_VOLUME" >>{heard}')
    planned(plans, f'[snapshot]\ninto = "{shell.base}/snapshots"\n')
    near.json("nightly", "data")
    near.stop()
    notes = near.state / "nights"
    told = json.loads(notes.read_text())
    for key in ("known", "good", "begun"):
        told["data"][key] -= 3 * 86400
    notes.write_text(json.dumps(told))
    near.start()
    answer = near.ctl("status")
    health = next(each for each in answer.json["health"] if each["name"] == "data")
    assert (answer.status, health["state"]) == (1, "OVERDUE")
    assert "no night went well for 3 day(s)" in health["findings"][0]["cause"]
    assert "fmrctl nightly data" in health["findings"][0]["action"]
    until(heard.exists, "the hook heard of it")
    planned(plans, f'[snapshot]\ninto = "{shell.base}/snapshots"\nname = "%v-again-%S"\n')
    near.json("nightly", "data")
    assert near.json("status")["level"] == "well"


def test_one_night_at_a_time_and_only_of_a_volume_with_a_plan(
    shell: Shell, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shell.near.ctl("nightly", "data").code == "bad_conf"
    inner = hook(shell.base, "inner", f"{BIN}/fmrctl nightly data 2>{shell.base}/refused; true")
    planned(plans, f'[snapshot]\ninto = "{shell.base}/snapshots"\n[hooks]\nbefore = ["{inner}"]\n')
    monkeypatch.setenv("FMRD_SOCKET", str(shell.near.socket))
    shell.near.json("nightly", "data")
    assert "night_running" in (shell.base / "refused").read_text()
