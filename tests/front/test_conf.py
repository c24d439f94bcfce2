"""fmrd.conf: what is in it is read as it was meant, or refused with the file's name and the key."""

import contextlib
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmrd.errors import BadRequest
from fmrd.front.conf.reading import DAEMON, LIMIT_BYTES, default_path, read_conf
from fmrd.front.daemon.daemon import main as daemon


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "fmrd.conf"
    path.write_text(text)
    return path


def test_all_of_it(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[daemon]\nstate = "/s"\nuring = false\n[volumes]\nfmr = false\nio_timeout = 5\nregion_size = "256K"\n'
        '[vx.disks]\nb = "/srv/b"\na = "/srv/a"\n',
    )
    conf = read_conf(path)
    assert (conf.daemon, conf.volumes) == (
        {"state": "/s", "uring": False}, {"fmr": False, "io_timeout": 5, "region_size": "256K"}
    )  # fmt: skip
    assert list(conf.disks.items()) == [("b", "/srv/b"), ("a", "/srv/a")], "in their order"


def test_no_file_is_no_settings(tmp_path: Path) -> None:
    assert read_conf(tmp_path / "none").disks == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("x = 1", "'x'"), ("[daemon]\nstat = 1", "'stat'"), ("[daemon]\nstate = 1", "state = 1"),
        ("[volumes]\nfmr = 1", "true or false"), ("[volumes]\nio_timeout = true", "whole number"),
        ("daemon = 1", "[daemon]"), ("[vx.disks]\nd = 'srv'", "absolute"), ("[vx.disks]\n'../d' = '/srv'", "no name"),
        ("[vx]\nd = 1", "'d'"), ("[daemon\n", "not TOML"), ('[daemon]\nstate = "\\u001b"', "line of text"),
        ("[vx.disks]\n" + "".join(f"d{n} = '/d'\n" for n in range(65)), "more than 64"),
        ("#" * (LIMIT_BYTES + 1), "longer"), ("[volumes]\nio_timeout = " + "9" * 5000, "not TOML"),
        ("[volumes]\nio_timeout = 0x" + "f" * 5000, "too large"), ("[daemon]\nstate = 0x" + "f" * 5000, "too large"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadRequest) as refused:
        read_conf(path)
    assert refused.value.code == "bad_conf"
    assert str(path) in refused.value.message and named in refused.value.message


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_it_holds_it_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "fmrd.conf"
    path.write_bytes(data)
    with contextlib.suppress(BadRequest):
        assert read_conf(path).path == path


def test_options_of_the_daemon_come_from_it_unless_somebody_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"state": "/s", "mount": "/m", "socket": "/k", "door": "pyfuse3", "uring": False, "log_level": "error"}
    assert said.keys() == DAEMON.keys()
    lines = [f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in said.items()]
    monkeypatch.setenv("FMRD_CONF", str(written(tmp_path, "\n".join(["[daemon]", *lines]))))
    heeded = daemon.make_context("fmrd", []).params
    assert {key: heeded[key] for key in said} == said | {key: Path(said[key]) for key in ("state", "mount", "socket")}  # type: ignore[arg-type]  # those are texts
    monkeypatch.setenv("FMRD_DOOR", "channel")
    heeded = daemon.make_context("fmrd", ["--uring", "--state", "/typed"]).params
    assert (heeded["door"], heeded["uring"], heeded["state"]) == ("channel", True, Path("/typed"))
    assert heeded["log_level"] == "error"


def test_an_option_that_cannot_be_is_refused_when_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ('[daemon]\ndoor = "front"', "[daemon]\ndor = 1"):
        monkeypatch.setenv("FMRD_CONF", str(written(tmp_path, text)))
        with pytest.raises(click.UsageError, match=r"channel|'dor'"):
            daemon.make_context("fmrd", [])


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="cannot be read"):
        read_conf(tmp_path)


def test_the_place_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FMRD_CONF", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == tmp_path / "fmrd.conf"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_path() == Path("/etc/fmrd.conf")
    monkeypatch.setenv("FMRD_CONF", "/elsewhere")
    assert default_path() == Path("/elsewhere")
