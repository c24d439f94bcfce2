"""A directory becomes a store only where nobody else may put something in the place of its files."""

import errno
import os
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


@pytest.mark.parametrize(("mode", "of"), [(0o700, "store"), (0o700, "its directory"), (0o1777, "its directory")])
def test_what_belongs_to_somebody_else_is_safe_from_nobody(tmp_path: Path, mode: int, of: str) -> None:
    store = tmp_path / "shared" / "store"
    store.mkdir(parents=True, mode=0o700)
    theirs = store if of == "store" else store.parent
    theirs.chmod(mode)
    os.chown(theirs, 4711, -1)
    with pytest.raises(Refused, match=r"refused_unsafe.*belongs to somebody else"):
        stores.prepare(str(store))


def test_a_store_is_no_directory_for_all(tmp_path: Path) -> None:
    """In one, as /tmp, nobody moves what is not theirs; but anybody makes files."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o1777)
    with pytest.raises(Refused, match="has mode 1777"):
        stores.prepare(str(tmp_path / "store"))


def test_where_no_file_can_be_made_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def without_unnamed_files(path: str, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", without_unnamed_files)
    with pytest.raises(OSError, match="no file can be made there to try: Read-only") as caught:
        stores.prepare(str(tmp_path / "store"))
    assert caught.value.errno == errno.EROFS
