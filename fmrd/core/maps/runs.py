"""Runs of adjacent regions, and stretches of bytes in pieces."""

from collections.abc import Iterable, Iterator

Stretch = tuple[int, int]
"""(offset, length) in bytes."""


def adjacent(regions: Iterable[int]) -> Iterator[range]:
    """Yield the runs of adjacent ones; they come in order."""
    run = range(0)
    for region in regions:
        if run and region == run.stop:
            run = range(run.start, region + 1)
            continue
        if run:
            yield run
        run = range(region, region + 1)
    if run:
        yield run


def pieces_of(spans: Iterable[Stretch], most: int, together: int) -> Iterator[list[Stretch]]:
    """Yield these spans in pieces of so many bytes at most, as many at a time as are so many bytes together."""
    pieces: list[Stretch] = []
    left = together
    for at, size in spans:
        stop = at + size
        while at < stop:
            length = min(stop - at, most, left)
            pieces.append((at, length))
            at, left = at + length, left - length
            if not left:
                yield pieces
                pieces, left = [], together
    if pieces:
        yield pieces
