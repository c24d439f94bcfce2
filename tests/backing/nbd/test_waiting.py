"""Several requests of one call: what is told of them."""

import errno
from collections.abc import Sequence

import pytest

from fmrd.backing.nbd.waiting import worst_of
from fmrd.errors import Answered

IO, LOST, ANSWERED = OSError(errno.EIO, "lost"), OSError(errno.EIO, "too"), Answered(errno.EIO, "said so")


@pytest.mark.parametrize(
    ("met", "told"),
    [
        ((None, None), None), ((None, IO), IO), ((ANSWERED, None), ANSWERED), ((ANSWERED, IO), IO),
        ((IO, ANSWERED), IO), ((IO, LOST), IO),
    ],
)  # fmt: skip
def test_of_several_parts_the_one_that_may_land_yet_is_told(
    met: Sequence[OSError | None], told: OSError | None
) -> None:
    assert worst_of(met) is told
