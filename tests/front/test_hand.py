"""What people type, and what is made of it: sizes, guesses, options of mount; questions on a terminal."""

import os
import re
from pathlib import Path

import pytest

from fmrd.core.geometry import Geometry
from fmrd.errors import EXPLANATIONS, BadRequest, Failed, FmrdError
from fmrd.front.client import Client
from fmrd.front.ctl.cli import cli, run
from fmrd.front.ctl.hand import helping, holders, sizing
from fmrd.front.ctl.hand.explaining import STATES
from fmrd.front.ctl.hand.meaning import LOSES
from fmrd.front.ctl.hand.mounting import Wish, mount, read
from fmrd.front.ctl.hand.sizing import growth, size_and_plexes

REGION = 64 << 10


def made(*given: str, from_path: str | None = None) -> tuple[int, list[str]]:
    size, plexes = size_and_plexes(given, from_path, REGION, None)
    return size, [plex["path"] for plex in plexes]


def test_a_size_and_paths(tmp_path: Path) -> None:
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert made("1.5G", a, b) == (3 << 29, [a, b])
    Path(a).write_bytes(bytes(5000))
    assert made(a, b, from_path=a) == (8192, [a, b]), "as long as the file, up to a block"
    assert made("1M", a, b, from_path=a) == (1 << 20, [a, b])
    for given, code in ((("12Q", a), "bad_size"), (("max", a), "bad_size"), (("1G",), "bad_request")):
        with pytest.raises(BadRequest) as caught:
            made(*given)
        assert caught.value.code == code
    with pytest.raises(Failed, match="cannot be measured"):
        made(b, from_path=b)


@pytest.mark.parametrize("size", [8 << 20, 100 << 20, (2 << 30) + (5 << 20), 1 << 40])
def test_the_most_that_a_device_holds_leaves_room_for_its_dco(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "_measured", lambda path: (size, True))
    length, _ = made("max", "/dev/null")
    tail = sizing.layout.copy_bytes(Geometry(length, REGION).pages) + sizing.LOCATOR_BYTES
    assert length % 4096 == 0 and 0 <= size - tail - length < 400 << 10
    assert made("max", "/dev/null,dco=/x")[0] == size, "the whole of it, where the DCO lies elsewhere"


def test_a_growth() -> None:
    assert growth("+1G") == {"more_bytes": 1 << 30} and growth("max") == {"most": True}
    assert growth("2GB") == {"size_bytes": 2000003072}
    for wrong in ("+", "++1", "-1G", "most", ""):
        with pytest.raises(BadRequest):
            growth(wrong)


@pytest.mark.parametrize(
    ("typed", "guessed"),
    [("statsu", "status"), ("plex atr data data-01", "att"), ("task puase 1", "pause"), ("histroy", "history"),
     ("remvoe data", ""), ("plex dsi data data-01", ""), ("task abrot 1", ""), ("undoo data", ""), ("xyzzy", "")],
)  # fmt: skip
def test_a_verb_is_guessed_but_never_one_that_gives_something_up(
    typed: str, guessed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(typed.split()) == 2
    said = capsys.readouterr().err
    assert not guessed or f"'{guessed}'" in said
    assert not LOSES & set(re.findall(r"'([a-z-]+)'", said))


def test_what_gives_something_up_is_a_verb_that_there_is() -> None:
    words = {*cli.commands, *cli.commands["plex"].commands, *cli.commands["task"].commands}  # type: ignore[attr-defined]  # they are groups
    assert {word for word in LOSES if not word.startswith("-")} <= words


VOLUMES = [{"name": name, "open_count": 1, "path": f"/run/{name}", "plexes": [{"name": f"{name}-01"}]}
           for name in ("data", "mail")]  # fmt: skip


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    monkeypatch.setattr(Client, "ask", lambda *args, **more: {"volumes": VOLUMES})
    return Client(tmp_path / "sock")


def hint(client: Client, code: str, verb: str, **args: object) -> str:
    return helping.helped(Failed(code, "there is none"), client, verb, args).hint


def test_a_name_is_guessed_for_verbs_that_give_nothing_up(client: Client) -> None:
    assert hint(client, "volume_missing", "print", volume="dta") == "did you mean data?"
    assert hint(client, "plex_unknown", "plex_att", volume="data", plex="data-10") == "did you mean data-01?"
    assert hint(client, "volume_missing", "print", volume="xyzzy") == ""
    loses = [("remove", ""), ("plex_dis", ""), ("snapclear", ""), ("plex_replace", ""), ("make", "force"),
             ("plex_att", "discard"), ("plex_att", "full")]  # fmt: skip
    for verb, option in loses:
        assert hint(client, "volume_missing", verb, volume="dta", **{option: True} if option else {}) == "", verb


def test_who_holds_a_volume_open_is_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helping, "holders", lambda path: [f"/dev/loop0, mounted on {path}"])
    error = helping.helped(Failed("volume_open", "volume data is open (1 time(s))"), client, "stop", {"volume": "data"})
    assert error.message == "volume data is open (1 time(s)): held open, data by /dev/loop0, mounted on /run/data"


def test_no_help_makes_no_error_worse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*args: object, **more: object) -> None:
        raise Failed("failed", "another one")

    monkeypatch.setattr(Client, "ask", fail)
    told: FmrdError = Failed("volume_open", "it is open")
    assert helping.helped(told, Client(tmp_path / "s"), "stop", {}) is told and told.message == "it is open"


def test_a_process_that_has_a_file_open_is_found(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w"):
        [found] = holders.holders(os.path.realpath(path))
    assert found.startswith(f"process {os.getpid()} (")
    assert holders.holders(os.path.realpath(path)) == []


def test_options_of_mount() -> None:
    assert read(["data", "/srv"]) == Wish("data", "/srv", ())
    assert read(["data", "/srv", "-sn", "-o", "rw,nofail,noatime,x-systemd.automount,_netdev", "-t", "fmrd"]) == Wish(
        "data", "/srv", ("rw", "noatime")
    )
    wish = read(["-v", "data", "-o", "ro,fstype=ext4,wait=5", "/srv", "-f"])
    assert wish == Wish("data", "/srv", ("ro",), "ext4", 5.0, True) and wish.read_only
    for wrong in ([], ["data"], ["../data", "/srv"], ["data", "/srv", "more"], ["data", "/srv", "-o", "wait=soon"],
                  ["data", "/srv", "-x"]):  # fmt: skip
        with pytest.raises(BadRequest):
            read(wrong)


def test_a_mount_looks_where_the_file_of_settings_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fmrd.conf").write_text(f'[daemon]\nmount = "{tmp_path}/volumes"\n')
    monkeypatch.setenv("FMRD_CONF", str(tmp_path / "fmrd.conf"))
    monkeypatch.delenv("FMRD_MOUNT", raising=False)
    with pytest.raises(Failed, match=f"there is no {tmp_path}/volumes/data"):
        mount(read(["data", "/mnt", "-o", "wait=0"]))


def test_states_are_explained_as_well_as_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for word in (*STATES, "iofail", "degraded"):
        assert run(["explain", word]) == 0
        assert capsys.readouterr().out.strip() == STATES[word.upper()]
    assert run(["explain"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert listed == [*STATES, *EXPLANATIONS]
    assert run(["explain", "iofial"]) == 1
    assert "did you mean" in capsys.readouterr().err
    assert all(text.endswith(".") for text in STATES.values())
