"""What a user types: sizes, paths, plexes, settings, options that may stand anywhere."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.errors import BadRequest
from fmrd.front.ctl import words
from fmrd.front.ctl.cli import _hoisted
from fmrd.front.ctl.words import format_size, parse_pairs, parse_size
from fmrd.front.places import default_places


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64k", 65536),
        ("64K", 65536),
        ("3M", 3 << 20),
        ("1G", 1 << 30),
        (" 2T ", 2 << 40),
        ("1.5G", 3 << 29),
        ("1GB", 10**9),
        ("1GiB", 1 << 30),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "K", "-1", "1,5G", "1KBB", "0x10", "1Q", "٣", "1e3", "9" * 30])
def test_no_sizes(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_size(text)
    assert caught.value.code == "bad_size"


@given(st.integers(1, 1 << 20), st.sampled_from("KMGT"))
def test_a_round_size_is_shown_as_it_may_be_typed(count: int, unit: str) -> None:
    size = parse_size(f"{count}{unit}")
    assert "." in format_size(size) or parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (1, "1"), (1023, "1023"), (1536, "1.5K"), (65536, "64K"), ((1 << 40) * 3, "3T")]
)
def test_sizes_are_shown_short(size: int, text: str) -> None:
    assert format_size(size) == text


def test_paths_are_made_absolute_and_links_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    monkeypatch.chdir(tmp_path)
    assert words.path("link") == str(tmp_path / "link")
    assert words.wish("a/../b") == {"path": str(tmp_path / "b")}
    assert words.wish("a,dco=c.dco") == {"path": str(tmp_path / "a"), "dco": str(tmp_path / "c.dco")}
    for broken in ("", "a,dco=", ",dco=b"):
        with pytest.raises(BadRequest):
            words.wish(broken)


def test_an_empty_word_is_not_the_directory_one_is_in() -> None:
    with pytest.raises(BadRequest, match="no path"):
        words.path("")


def test_a_plex_is_named_or_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.img", "data-01"):
        (tmp_path / name).touch()
    assert words.plex("data-01") == "data-01"
    assert words.plex("./data-01") == str(tmp_path / "data-01")
    assert words.plex("a.img") == str(tmp_path / "a.img")
    assert words.plex("b.img") == "b.img"


def test_settings_are_pairs() -> None:
    assert parse_pairs(("fmr=on", "rdpol=prefer:data-01")) == {"fmr": "on", "rdpol": "prefer:data-01"}
    for broken in ("fmr", "=on", "fmr="):
        with pytest.raises(BadRequest):
            parse_pairs((broken,))


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("print --json", "--json print"),
        ("task --json list", "--json task list"),
        ("print --socket /s --json", "--socket /s --json print"),
        ("print --socket=/s", "--socket=/s print"),
        ("explain -- --json", "explain -- --json"),
        ("print --socket", "--socket print"),
    ],
)
def test_json_and_socket_may_stand_anywhere(typed: str, read: str) -> None:
    assert _hoisted(typed.split()) == read.split()


def test_the_places_of_root_and_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert [str(p) for p in vars(default_places()).values()] == [
        "/var/lib/fmrd", "/run/fmrd/volumes", "/run/fmrd/fmrd.sock",
    ]  # fmt: skip
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/state")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert [str(p) for p in vars(default_places()).values()] == [
        "/home/u/state/fmrd", "/run/user/1000/fmrd/volumes", "/run/user/1000/fmrd/fmrd.sock",
    ]  # fmt: skip
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setenv("HOME", "/home/u")
    assert [str(p) for p in vars(default_places()).values()] == [
        "/home/u/.local/state/fmrd", "/run/user/1000/fmrd/volumes", "/run/user/1000/fmrd/fmrd.sock",
    ]  # fmt: skip
