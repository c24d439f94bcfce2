"""Which fmrd it is that has an image's lock: no other may be taken for it, for its lock is broken at once."""

import shutil
from pathlib import Path

from fmrd.backing.rbd.owning import who


def test_a_state_directory_is_the_same_fmrd_again_and_another_one_at_the_same_path_is_not(tmp_path: Path) -> None:
    """Two containers, or two copies of one machine's disk, have the same number of a machine, and the same paths."""
    state = tmp_path / "state"
    state.mkdir()
    before = who(state)
    assert who(state) == before
    shutil.rmtree(state)
    state.mkdir()
    assert who(state) != before


def test_what_was_written_by_halves_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "identity").write_bytes(b"\xff\x00")
    mine = who(tmp_path)
    assert who(tmp_path) == mine
    assert [each.name for each in tmp_path.iterdir()] == ["identity"]
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o600


def test_it_moved_to_another_path_is_another_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    mine = who(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert who(tmp_path / "b") != mine
