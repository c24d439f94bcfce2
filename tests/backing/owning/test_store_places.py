"""A directory becomes a store only where nobody else may put something in the place of its files."""

from pathlib import Path

import pytest

from fmrd.backing.owning import stores
from fmrd.errors import Refused


def test_a_directory_is_made_for_fmrd_alone(tmp_path: Path) -> None:
    stores.prepare(str(tmp_path / "more" / "store"))
    assert [each.stat().st_mode & 0o777 for each in (tmp_path / "more", tmp_path / "more" / "store")] == [0o700] * 2
    assert not list((tmp_path / "more" / "store").iterdir())


@pytest.mark.parametrize("mode", [0o777, 0o702])
def test_nothing_is_made_where_others_may_put_something_in_its_place(tmp_path: Path, mode: int) -> None:
    """Not even a directory of fmrd's own is safe there: it can be moved away."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for there in (False, True):
        store = theirs / "below" / "store"
        if there:
            store.mkdir(parents=True, mode=0o700)
        theirs.chmod(mode)
        with pytest.raises(Refused, match=f"refused_unsafe.*{theirs} "):
            stores.prepare(str(store))
        assert there or not list(theirs.iterdir())


def test_a_link_that_others_made_first_is_not_followed(tmp_path: Path) -> None:
    """A directory for all, as /tmp, is safe for what is fmrd's there already, and for what it can make first."""
    shared, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    shared.mkdir()
    shared.chmod(0o1777)
    elsewhere.mkdir(mode=0o755)
    stores.prepare(str(shared / "store"))
    (shared / "link").symlink_to(elsewhere)
    for path in (shared / "link", shared / "link" / "store"):
        with pytest.raises(Refused, match=r"refused_unsafe.*leads elsewhere"):
            stores.prepare(str(path))
    assert elsewhere.stat().st_mode & 0o777 == 0o755 and not list(elsewhere.iterdir())
