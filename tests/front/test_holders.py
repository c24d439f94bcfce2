"""Which process uses what is mounted: by the deepest mount that a path lies on."""

import pytest

from fmrd.front.ctl.hand.holders import User

EVERYWHERE = {"/", "/srv", "/srv/data", "/srv/data/deep", "/mnt"}


@pytest.mark.parametrize(
    ("link", "below"),
    [
        ("/srv/data", True), ("/srv/data/a/b", True), ("/srv/data/gone (deleted)", True),
        ("/srv/data/deep/file", False),
        ("/srv/database", False), ("/srv", False), ("/", False), ("socket:[1234]", False), ("/memfd:x", False),
        ("", False),
    ],
)  # fmt: skip
def test_a_path_lies_on_the_deepest_mount_above_it(link: str, below: bool) -> None:
    user = User("process 1 (init)", frozenset({"/dev/null", "anon_inode:[eventpoll]", link}))
    assert user.is_below({"/srv/data"}, EVERYWHERE) is below
