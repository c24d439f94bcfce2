import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fmrd.backing.ring.ring import Ring

MakeRing = Callable[[int], Ring]


@pytest.fixture
def make_ring() -> Iterator[MakeRing]:
    """Rings that are closed when the test has let all their requests end."""
    made: list[Ring] = []

    def make(entries: int) -> Ring:
        try:
            made.append(Ring(entries))
        except OSError as error:
            pytest.skip(f"needs io_uring: {error}")
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def ring(make_ring: MakeRing) -> Ring:
    return make_ring(8)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """The descriptor of an empty file on a disk."""
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)
