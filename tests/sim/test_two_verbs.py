"""Every pair of verbs at once on one family (two_verbs.py)."""

import pytest

from tests.sim import two_verbs

NAMES = list(two_verbs.VERBS)
FOUND = [
    ("restore", "snapshot of both", 132), ("remove AWAY", "snapback AWAY", 36), ("remove INST", "snapback INST", 121),
    ("snapback AWAY", "snapclear AWAY", 447), ("remove AWAY", "snapclear AWAY", 517), ("refresh AWAY", "make", 23),
    ("remove SNAP", "remove SNAP", 407),
]  # fmt: skip
"""Each of these once found a bug."""


@pytest.mark.parametrize("first", NAMES)
def test_two_verbs_at_once_leave_every_volume_whole(first: str) -> None:
    begin = NAMES.index(first)
    for number, second in enumerate(NAMES[begin:], begin):
        order = (first, second) if (begin + number) % 2 else (second, first)
        two_verbs.run(*order, seed=begin * len(NAMES) + number)


@pytest.mark.parametrize(("first", "second", "seed"), FOUND)
def test_two_verbs_that_once_found_a_bug(first: str, second: str, seed: int) -> None:
    two_verbs.run(first, second, seed)
