"""Whose a file is, and who could put something in its place, is told with what would mend it."""

import os
from pathlib import Path

import pytest

from fmrd.backing.looking.findings import Kind, Seen
from fmrd.backing.looking.look import look

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A directory of our own."""
    where = tmp_path / "room"
    where.mkdir(mode=0o700)
    return where


def unsafe(seen: Seen, room: Path) -> list[tuple[Kind, str]]:
    """Of the file and its directory; where the test itself lies does not matter."""
    return [(each.kind, each.type) for each in seen.unsafe if not each.where or each.where == str(room)]


def test_a_file_that_is_its_owners_alone(room: Path) -> None:
    (room / "plex").touch(mode=0o600)
    assert unsafe(look(str(room / "plex")), room) == unsafe(look(str(room / "new")), room) == []


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (0o640, "its group may use it (mode 0640)"),
        (0o602, "others may use it (mode 0602)"),
        (0o666, "its group and others may use it (mode 0666)"),
    ],
)
def test_a_file_that_others_may_use(room: Path, mode: int, words: str) -> None:
    (room / "a plex").touch()
    (room / "a plex").chmod(mode)
    (found,) = (each for each in look(str(room / "a plex")).unsafe if not each.where)
    assert (found.kind, found.sentence, found.mend) == (Kind.OPEN_MODE, words, f"chmod 600 '{room}/a plex'")


@needs_root
def test_a_file_of_somebody_else(room: Path) -> None:
    (room / "plex").touch(mode=0o600)
    os.chown(room / "plex", NOBODY, NOBODY)
    (found,) = (each for each in look(str(room / "plex")).unsafe if not each.where)
    assert (found.kind, found.sentence) == (Kind.FOREIGN_OWNER, f"it belongs to the user {NOBODY}")
    assert found.mend == f"chown 0 {room}/plex"


@pytest.mark.parametrize(
    ("mode", "who", "words"),
    [
        (0o777, "others", "everybody may put something in its place, in "),
        (0o770, "group", "a group may put something in its place, in "),
        (0o1777, "others", "everybody may make files in "),
    ],
)
def test_a_directory_that_others_may_write(room: Path, mode: int, who: str, words: str) -> None:
    (room / "plex").touch(mode=0o600)
    room.chmod(mode)
    for name in ("plex", "new"):
        seen = look(str(room / name))
        assert unsafe(seen, room) == [(Kind.UNSAFE_DIRECTORY, who)]
        (found,) = (each for each in seen.unsafe if each.where == str(room))
        assert found.sentence.startswith(words)
        assert found.mend == ("" if mode & 0o1000 else f"chmod go-w {room}")


@needs_root
def test_a_directory_of_somebody_else(room: Path) -> None:
    (room / "plex").touch(mode=0o600)
    os.chown(room, NOBODY, NOBODY)
    assert unsafe(look(str(room / "plex")), room) == [(Kind.UNSAFE_DIRECTORY, "owner")]


def test_a_directory_further_up(room: Path) -> None:
    (room / "inner").mkdir(mode=0o700)
    path = str(room / "inner" / "plex")
    room.chmod(0o777)
    assert unsafe(look(path), room) == [(Kind.UNSAFE_DIRECTORY, "others")]
    room.chmod(0o1777)
    assert unsafe(look(path), room) == [], "what is ours there nobody else can move"
    if not os.geteuid():
        os.chown(room, NOBODY, NOBODY)
        assert unsafe(look(path), room) == [(Kind.UNSAFE_DIRECTORY, "others")], "but whose that directory is"


@needs_root
def test_a_link_that_others_could_turn(room: Path, tmp_path: Path) -> None:
    (tmp_path / "plex").touch(mode=0o600)
    (room / "link").symlink_to(tmp_path / "plex")
    room.chmod(0o1777)
    assert unsafe(look(str(room / "link")), room) == []
    os.chown(room / "link", NOBODY, NOBODY, follow_symlinks=False)
    assert unsafe(look(str(room / "link")), room) == [(Kind.UNSAFE_DIRECTORY, "others")]
