"""What a store is, how it grows, and who is given up where it is full."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.stores.declared import Declared, is_directory, what_is_wrong
from fmrd.core.stores.room import Member, to_free
from fmrd.engine.stores.remembered import MOST_FILE_BYTES, decode, encode

MIB = 1 << 20
STORE = Declared("night", "/srv/snapshots", 100 * MIB, 10 * MIB, 150 * MIB, 90)


@pytest.mark.parametrize(
    ("need", "size"), [(90, 100), (90.5, 110), (99, 110), (100, 120), (130, 150), (149, 150), (1000, 150)]
)
def test_a_store_grows_by_steps_until_what_is_needed_is_below_its_mark_or_it_may_not(need: float, size: int) -> None:
    assert STORE.grown_for(int(need * MIB)) == size * MIB


def test_one_that_may_not_grow_stays() -> None:
    assert Declared("s", "/s", MIB).grown_for(10 * MIB) == MIB
    assert not Declared("s", "/s", MIB, MIB, MIB).can_grow


@given(
    st.integers(1, 1 << 50),
    st.integers(1, 1 << 40),
    st.integers(0, 1 << 50),
    st.integers(1, 100),
    st.integers(0, 1 << 51),
)
def test_it_never_grows_beyond_its_most_and_never_shrinks(
    size: int, step: int, more: int, high: int, need: int
) -> None:
    store = Declared("s", "/s", size, step, size + more, high)
    grown = store.grown_for(need)
    assert size <= grown <= size + more
    if grown < size + more:
        assert need * 100 <= grown * high + 99, "below its mark"


@pytest.mark.parametrize(
    "path", ["", "/", "srv", "/srv/", "/srv//a", "/srv/../a", "/srv/./a", "/a\nb", "/\udcff", "/" + "a" * 5000]
)
def test_a_directory_is_written_in_one_way(path: str) -> None:
    assert not is_directory(path)


def test_only_what_lies_right_in_it_is_in_it() -> None:
    assert is_directory("/srv/snapshots") and STORE.holds(STORE.path_of("monday"))
    for path in ("/srv/snapshots", "/srv/snapshots/below/a.plex", "/srv/snapshots2/a.plex", "nbd://srv/snapshots"):
        assert not STORE.holds(path)


@pytest.mark.parametrize(
    "measures", [(0,), (-1,), (1 << 63,), (10, 1, 5), (10, 0, 20), (10, 5, 0), (10, 0, 0, 0), (10, 0, 0, 101)]
)
def test_measures_that_make_no_sense_are_told(measures: tuple[int, ...]) -> None:
    assert what_is_wrong(Declared("s", "/s", *measures))


def test_what_is_remembered_is_read_again() -> None:
    stores = (STORE, Declared("week", "/srv/week", MIB))
    assert decode(encode(stores)) == stores and decode(encode(())) == ()


def _with(**fields: object) -> bytes:
    return json.dumps({"format": 1, "stores": [STORE.json() | fields]}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"format": 2, "stores": []}', b'{"format": true, "stores": []}',
        b'{"format": 1}', b'{"format": 1, "stores": {}}', b'{"format": 1, "stores": [1]}',
        encode([STORE]) + b" " * MOST_FILE_BYTES, encode([STORE, STORE]),
        encode([STORE, Declared("other", STORE.directory, MIB)]), _with(name="../x"), _with(name=1),
        _with(directory="relative"), _with(directory=None), _with(size_bytes=-1), _with(size_bytes=True),
        _with(size_bytes=1.5), _with(size_bytes=1 << 80), _with(high_water=0), _with(more=1), _with(step_bytes=0),
        json.dumps({"format": 1, "stores": [STORE.json()] * 65}).encode(),
    ],
)  # fmt: skip
def test_a_file_that_is_not_wholly_one_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"[a-z]"):
        decode(data)


def member(name: str, taken_at: float, held: int = 1, **more: bool) -> Member:
    return Member(name, name, taken_at, held, **more)


@pytest.mark.parametrize(
    ("members", "chosen"),
    [
        ([], None),
        ([member("new", 2), member("old", 1)], "old"),
        ([member("new", 2), member("old", 1, held=0)], "new"),
        ([member("new", 2, lost_some=True), member("old", 1)], "new"),
        ([member("gone", 3, lost_some=True, lost_all=True), member("hurt", 1, lost_some=True)], "gone"),
        ([member("received", 1, pinned=True), member("new", 2)], "new"),
        ([member("received", 1, pinned=True)], None),
        ([member("received", 1, pinned=True, lost_some=True, lost_all=True)], "received"),
        ([member("b", 1), member("a", 1)], "a"),
    ],
)
def test_the_oldest_goes_and_what_is_worth_less_before_it(members: list[Member], chosen: str | None) -> None:
    found = to_free(members)
    assert (found.name if found is not None else None) == chosen
