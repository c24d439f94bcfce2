"""Which plex is much slower than its peers."""

import pytest

from fmrd.core.measures.latency import Latency
from fmrd.core.measures.slow import LEAST_OPERATIONS, Slowness, Work, in_a_row, who_is_slow

MS = 1_000_000


def work(*, read: float = 0, write: float = 0, flush: float = 0, count: int = LEAST_OPERATIONS) -> Work:
    """So many operations of that many ms each; none of a kind that takes 0."""
    found = {}
    for kind, ms in (("read", read), ("write", write), ("flush", flush)):
        latency = Latency()
        if ms:
            latency.add(int(ms * MS), count)
        found[kind] = latency.times()
    return found


def slow(**works: Work) -> dict[str, str | None]:
    """Who could be compared, and the kind of operation in which it is slow."""
    return {name: None if found is None else found.kind for name, found in who_is_slow(works).items()}


@pytest.mark.parametrize(
    ("works", "expected"),
    [
        ({"a": work(write=1), "b": work(write=100)}, {"a": None, "b": "write"}),
        ({"a": work(write=30), "b": work(write=100)}, {"a": None, "b": None}),
        ({"a": work(write=0.01), "b": work(write=4)}, {"a": None, "b": None}),
        ({"a": work(write=1), "b": work(write=2), "c": work(write=100)}, {"a": None, "b": None, "c": "write"}),
        ({"a": work(write=1, flush=1), "b": work(write=50, flush=90)}, {"a": None, "b": "flush"}),
        ({"a": work(read=1), "b": work(write=100)}, {}),
        ({"a": work(write=100)}, {}),
        ({"a": work(write=1), "b": work(write=100, count=LEAST_OPERATIONS - 1)}, {}),
        ({"a": work(write=1, read=100), "b": work(write=1, read=1)}, {"a": "read", "b": None}),
        ({}, {}),
    ],
)
def test_who_is_slow(works: dict[str, Work], expected: dict[str, str | None]) -> None:
    """Four times as slow as the median of the others, by five milliseconds at least, in what both of them did."""
    assert slow(**works) == expected


def test_it_has_to_be_so_twice_in_a_row() -> None:
    slowness = Slowness("write", 100 * MS, MS)
    assert in_a_row([slowness]) is None
    assert in_a_row([slowness, None]) is None
    assert in_a_row([slowness, None, slowness]) is None
    assert in_a_row([None, slowness, slowness]) is slowness


def test_the_sentence_has_both_figures() -> None:
    assert Slowness("write", 1500 * MS, 1.25 * MS).sentence() == "a write takes 1.5 s there, and 1.25 ms on its peers"
