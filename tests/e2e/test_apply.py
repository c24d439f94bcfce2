"""fmrd.conf is heeded, and 'fmrctl apply' brings volumes to what a file declares: once, and never by taking away."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import BIN, MIB, Daemon, needs_fuse, write_at

pytestmark = needs_fuse


@pytest.fixture
def door() -> str:
    """What is typed comes to the same engine, whatever the door."""
    return "channel"


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "fmrd.conf"
    monkeypatch.setenv("FMRD_CONF", str(path))
    return path


def declare(tmp_path: Path, *lines: str, name: str = "data") -> Path:
    file = tmp_path / "volumes.toml"
    file.write_text("\n".join([f"[volumes.{name}]", *lines]))
    return file


def actions(answer: dict[str, object]) -> list[str]:
    changes = answer["changes"]
    assert isinstance(changes, list) and answer["changed"] == bool(changes)
    return [change["action"] for change in changes]


def test_it_is_made_and_then_nothing_is_to_change(daemon: Daemon, tmp_path: Path) -> None:
    file = declare(
        tmp_path, 'size = "1M"', f'plexes = ["{tmp_path}/a", "{tmp_path}/b,dco={tmp_path}/elsewhere.dco"]',
        'rdpol = "round"', "io_timeout = 7", 'rate = "50M"', "auto_attach = false", "drl_extents = 32", "fmr = false",
    )  # fmt: skip
    assert actions(daemon.json("apply", file, "--dry-run")) == ["make", "set"]
    assert not daemon.json("print")["volumes"] and not (tmp_path / "a").exists()
    assert actions(daemon.json("apply", file)) == ["make", "set"]
    volume = daemon.volume("data")
    assert (volume["rdpol"], volume["io_timeout"], volume["rate"], volume["fmr"]) == ("round", 7, 50 << 20, False)
    assert (volume["auto_attach"], volume["drl"]["most_extents"]) == (False, 32)
    assert (tmp_path / "elsewhere.dco").exists()
    for options in ((), ("--dry-run",)):
        assert actions(daemon.json("apply", file, *options)) == []


def test_it_grows_and_gets_a_plex_and_keeps_its_data(daemon: Daemon, tmp_path: Path) -> None:
    daemon.json("apply", declare(tmp_path, 'size = "1M"', f'plexes = ["{tmp_path}/a"]'))
    write_at(daemon.path("data"), 0, b"kept")
    file = declare(tmp_path, 'size = "2M"', f'plexes = ["{tmp_path}/a", "{tmp_path}/b"]')
    assert actions(daemon.json("apply", file, "--wait")) == ["grow", "plex_add"]
    assert daemon.states("data") == ["ACTIVE", "ACTIVE"]
    assert daemon.volume("data")["length_bytes"] == 2 * MIB
    assert (tmp_path / "b").read_bytes()[:4] == b"kept"


def test_what_is_not_declared_is_left_alone_and_told(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("data", MIB, tmp_path / "a", tmp_path / "b")
    daemon.make("other", MIB, tmp_path / "c")
    answer = daemon.ctl("apply", declare(tmp_path, 'size = "1M"', f'plexes = ["{tmp_path}/a"]'))
    assert answer.status == 0 and actions(answer.json) == []
    assert "data-02" in answer.err and "left alone" in answer.err
    assert daemon.states("data") == ["ACTIVE", "ACTIVE"] and daemon.volume("other")


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (('size = "512K"', 'plexes = ["{0}/a"]'), "shorter"),
        (('size = "2M"', 'plexes = ["{0}/a"]', 'region_size = "128K"'), "region_size"),
        (('size = "2M"', 'plexes = ["a"]'), "absolute"),
        (('size = "2M"', "plexes = []"), "0 plexes"),
        (('size = "2M"',), "lacks"),
        (('size = "2M"', 'plexes = "{0}/a"'), "must be a list"),
        (('size = "2X"', 'plexes = ["{0}/a"]'), "not a size"),
        (('size = "2M"', 'plexes = ["{0}/a"]', "erase = true"), "'erase'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(
    daemon: Daemon, tmp_path: Path, lines: tuple[str, ...], named: str
) -> None:
    daemon.make("data", MIB, tmp_path / "a")
    file = declare(tmp_path, *(line.format(tmp_path) for line in lines))
    file.write_text(f'[volumes.new]\nsize = "1M"\nplexes = ["{tmp_path}/n"]\n{file.read_text()}')
    answer = daemon.ctl("apply", file)
    assert (answer.status, answer.code) == (2, "bad_conf") and named in answer.err and str(file) in answer.err
    assert [volume["name"] for volume in daemon.json("print")["volumes"]] == ["data"]
    assert daemon.volume("data")["length_bytes"] == MIB


@pytest.mark.parametrize("last", ['io_timeout = 0\nplexes = ["{0}/n"]', 'plexes = ["{0}/mine"]', 'plexes = ["{0}"]'])
def test_what_the_daemon_would_refuse_is_refused_before_anything_is_done(
    daemon: Daemon, tmp_path: Path, last: str
) -> None:
    (tmp_path / "mine").write_text("mine")
    daemon.make("data", MIB, tmp_path / "a")
    file = declare(tmp_path, 'size = "2M"', f'plexes = ["{tmp_path}/a", "{tmp_path}/b"]', 'rdpol = "round"')
    file.write_text(f'{file.read_text()}\n[volumes.new]\nsize = "1M"\n{last.format(tmp_path)}\n')
    for words in (("apply", file), ("apply", "--dry-run", file)):
        assert daemon.ctl(*words).code in ("bad_setting", "refused_has_data", "not_a_plex")
    [data] = daemon.json("print")["volumes"]
    assert (data["length_bytes"], len(data["plexes"]), data["rdpol"]) == (MIB, 1, "select")


def test_a_plex_may_be_a_uri(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("data", MIB, tmp_path / "a")
    uri = f"nbd+unix:///x?socket={tmp_path}/none"
    answer = daemon.ctl("apply", declare(tmp_path, 'size = "1M"', f'plexes = ["{tmp_path}/a", "{uri}"]'))
    assert answer.code != "bad_conf" and f"{tmp_path}/none" in answer.err, "it was tried, and nobody is there"


def test_somebody_elses_data_is_not_taken(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    answer = daemon.ctl("apply", declare(tmp_path, 'size = "1M"', f'plexes = ["{tmp_path}/a"]'))
    assert (answer.status, answer.code) == (3, "refused_has_data")
    assert (tmp_path / "a").read_text() == "mine"


def test_new_volumes_are_as_the_file_of_settings_says(daemon: Daemon, tmp_path: Path, conf: Path) -> None:
    conf.write_text('[volumes]\nregion_size = "128K"\nio_timeout = 9\nfmr = false\nauto_attach = false\n')
    daemon.make("data", MIB, tmp_path / "a")
    daemon.make("told", MIB, tmp_path / "b", options=("--region-size", "64K"))
    daemon.json("apply", declare(tmp_path, 'size = "1M"', f'plexes = ["{tmp_path}/c"]', "fmr = true", name="declared"))
    shown = {name: daemon.volume(name) for name in ("data", "told", "declared")}
    assert {name: volume["region_size_bytes"] for name, volume in shown.items()} == {
        "data": 128 << 10, "told": 64 << 10, "declared": 128 << 10
    }  # fmt: skip
    assert {name: volume["fmr"] for name, volume in shown.items()} == {"data": False, "told": False, "declared": True}
    assert all(volume["io_timeout"] == 9 and not volume["auto_attach"] for volume in shown.values())


def test_the_daemon_and_fmrctl_take_their_places_from_it(stopped_daemon: Daemon, conf: Path, tmp_path: Path) -> None:
    daemon = stopped_daemon
    places = {"state": daemon.state, "mount": daemon.mount, "socket": daemon.socket}
    conf.write_text("[daemon]\n" + "".join(f'{key} = "{place}"\n' for key, place in places.items()))
    daemon.command = lambda *options: [str(BIN / "fmrd"), *options]  # type: ignore[method-assign]  # no places given
    daemon.start()
    done = subprocess.run([BIN / "fmrctl", "make", "data", "1M", tmp_path / "a"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert os.path.exists(daemon.path("data"))


def test_a_setting_that_cannot_be_stops_both(tmp_path: Path, conf: Path) -> None:
    conf.write_text("[daemon]\ndor = 'channel'\n")
    for program in ("fmrd", "fmrctl"):
        done = subprocess.run([BIN / program, "print"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "bad_conf" in done.stderr and "'dor'" in done.stderr
        assert "Traceback" not in done.stderr
