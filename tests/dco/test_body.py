"""The JSON body of a record comes from a disk that others may have written: whatever is odd is no record."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.reasons import Reason, reason_of
from fmrd.core.record import Record
from fmrd.dco.body import MAX_PATH, decode_body, encode_body
from tests.dco.making import records, some_record

Json = Any


def decode(body: bytes) -> Record:
    known = some_record()
    return decode_body(body, family=known.family, sequence=known.sequence, settled=False, columns=known.columns)


def good() -> Json:
    return json.loads(encode_body(some_record()))


def test_what_the_other_tests_change_is_sound_as_it_stands() -> None:
    assert decode(json.dumps(good()).encode()) == some_record()


@given(records())
def test_a_body_is_read_as_it_was_written(record: Record) -> None:
    assert (
        decode_body(
            encode_body(record),
            family=record.family,
            sequence=record.sequence,
            settled=record.settled,
            columns=record.columns,
        )
        == record
    )


def test_fields_that_are_not_known_are_carried_along() -> None:
    body = good() | {"from_the_future": {"deep": [1, None]}}
    record = decode(json.dumps(body).encode())
    assert json.loads(encode_body(record)) == body


def places(value: Json, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in inner for place in places(part, (*path, key)))]


PLACES = [place for place in places(good()) if place]
ODD: list[Any] = [None, True, 1, -1, 1.5, "", "x", "\0", [], {}, [1], [[]], {"a": 1}]
ODD += [1 << 70, 10**400, float("nan"), float("inf")]


def at(path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> bytes:
    body = good()
    inner = body
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return json.dumps(body).encode()


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_a_field_with_anything_else_in_it_is_read_or_refused_cleanly(path: tuple[Any, ...]) -> None:
    """What is read is read the same again: nothing odd slips in that could not be written."""
    for odd in ODD:

        def change(inner: Any, key: Any, odd: Any = odd) -> None:
            inner[key] = odd

        try:
            record = decode(at(path, change))
        except ValueError:
            continue
        assert decode(encode_body(record)) == record


@pytest.mark.parametrize("path", [p for p in PLACES if isinstance(p[-1], str)], ids=lambda p: ".".join(map(str, p)))
def test_a_field_that_is_missing_makes_it_no_record(path: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="not a record"):
        decode(at(path, lambda inner, key: inner.pop(key)))


REFUSED: dict[str, tuple[tuple[Any, ...], Any]] = {
    "a volume whose name is a path": (("volumes", 0, "name"), "../etc/passwd"),
    "a volume named like a directory": (("volumes", 0, "name"), ".."),
    "a volume without a name": (("volumes", 0, "name"), ""),
    "a volume with a very long name": (("volumes", 0, "name"), "v" * 81),
    "a name of two lines": (("volumes", 0, "name"), "v\n"),
    "a plex whose name is a path": (("volumes", 0, "plexes", 0, "name"), "v/01"),
    "a plex with a relative path": (("volumes", 0, "plexes", 0, "path"), "p1"),
    "a path with a zero in it": (("volumes", 0, "plexes", 0, "path"), "/p\0"),
    "a path of the DCO that is relative": (("volumes", 0, "plexes", 0, "dco"), "p1.dco"),
    "a plex without a uuid": (("volumes", 0, "plexes", 0, "uuid"), "1"),
    "a volume without a uuid": (("volumes", 0, "uuid"), ""),
    "a state that VxVM has not": (("volumes", 0, "plexes", 0, "state"), "BROKEN"),
    "a negative length": (("volumes", 0, "length"), -4096),
    "a length that is no multiple": (("volumes", 0, "length"), 4097),
    "a length as a fraction": (("volumes", 0, "length"), 4096.0),
    "a region of three bytes": (("volumes", 0, "region"), 3),
    "an extent smaller than a region": (("volumes", 0, "extent"), 4096),
    "no regions in a page": (("volumes", 0, "page_regions"), 0),
    "a timeout of nothing": (("volumes", 0, "io_timeout"), 0),
    "a timeout that is no number": (("volumes", 0, "io_timeout"), float("nan")),
    "a timeout without end": (("volumes", 0, "io_timeout"), float("inf")),
    "a timeout too large for a float": (("volumes", 0, "io_timeout"), 10**400),
    "a timeout in words": (("volumes", 0, "io_timeout"), "30"),
    "a timeout of true": (("volumes", 0, "io_timeout"), True),
    "a read policy that is none": (("volumes", 0, "rdpol"), "fastest"),
    "a rate below nothing": (("volumes", 0, "rate"), -1),
    "no extent at once in the DRL": (("volumes", 0, "hot_extents"), 0),
    "a flag of 1": (("volumes", 0, "fmr"), 1),
    "a count of true": (("volumes", 0, "next_plex"), True),
    "a column that another bitmap has": (("volumes", 0, "plexes", 0, "map"), [0, 1]),
    "a column beyond the copy": (("volumes", 0, "plexes", 0, "map"), [40, 1]),
    "a negative column": (("volumes", 0, "drl"), [-1, 1]),
    "an epoch that no page can carry": (("volumes", 0, "drl"), [0, 1 << 64]),
    "a stamp of two": (("volumes", 0, "plexes", 0, "stamp"), [1, 2]),
    "a stamp in words": (("volumes", 0, "plexes", 0, "stamp"), ["1", "2", "3"]),
    "a stamp without end": (("volumes", 0, "plexes", 0, "stamp"), [1, 2, float("inf")]),
    "a failure that nobody can print": (("volumes", 0, "plexes", 0, "failure"), ["", "a\nb", None, None]),
    "a failure without end": (("volumes", 0, "plexes", 0, "failure"), ["", "a" * 500, None, None]),
    "a failure at no time": (("volumes", 0, "plexes", 0, "failure"), ["", "a", None, float("nan")]),
    "a comment of two lines": (("volumes", 0, "comment"), "a\nb"),
    "a comment without end": (("volumes", 0, "comment"), "a" * 201),
    "a snapshot of no kind": (("volumes", 0, "taken"), [1.5, "guess"]),
    "a snapshot at no time": (("volumes", 0, "taken"), ["now", "instant"]),
    "a time without a second one": (("volumes", 0, "plexes", 0, "since"), [1]),
    "checksums that are no list": (("volumes", 0, "plexes", 0, "content"), 5),
    "a checksum of nothing": (("volumes", 0, "plexes", 0, "content"), [[0, 0, 1]]),
    "a checksum of too much at once": (("volumes", 0, "plexes", 0, "content"), [[0, 1 << 30, 1]]),
    "more checksums than anybody took": (("volumes", 0, "plexes", 0, "content"), [[0, 4096, 1]] * 200),
    "a locator before the device": (("volumes", 0, "plexes", 0, "tail"), -1),
    "a sequence that no header can hold": (("history", 0), ["x", 1 << 64]),
    "a position that is text": (("history", 0), "ab"),
    "no volume": (("volumes",), []),
    "plexes by name": (("volumes", 0, "plexes"), {"a": 1, "b": 2}),
    "the same plex twice": (("volumes", 0, "plexes", 0, "uuid"), some_record().volume.plexes[1].uuid),
    "two plexes of one name": (("volumes", 0, "plexes", 0, "name"), "v-02"),
    "a history that is no list": (("history",), {}),
    "a lineage that is a number": (("lineage",), 5),
    "a path that is too long": (("volumes", 0, "plexes", 0, "path"), "/" + "p" * MAX_PATH),
    "a snapshot of a volume that is not there": (("volumes", 0, "snapshot_of"), "w"),
    "a snapshot without a link": (("volumes", 0, "snapshot_of"), "v"),
    "a link of a volume that is no snapshot": (("volumes", 0, "link"), [[7, 1], [8, 1]]),
    "a link of four columns": (("volumes", 0, "link"), [[7, 1], [8, 1], [9, 1], [10, 1]]),
}


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.replace(" ", "_"))
def test_no_record(case: str) -> None:
    path, value = REFUSED[case]

    def change(inner: Any, key: Any) -> None:
        inner[key] = value

    with pytest.raises(ValueError, match="not a record"):
        decode(at(path, change))


def test_a_link_to_a_volume_that_is_not_there_is_no_record() -> None:
    """Whatever is looked up by that name later would find nothing, in the midst of a start."""
    body = good()
    [volume] = body["volumes"]
    volume |= {"snapshot_of": "w", "link": [[7, 1], [8, 1]]}
    with pytest.raises(ValueError, match="without its original"):
        decode(json.dumps(body).encode())


def test_the_longest_path_is_one() -> None:
    path = "/" + "p" * (MAX_PATH - 1)
    record = decode(at(("volumes", 0, "plexes", 0, "path"), lambda inner, key: inner.__setitem__(key, path)))
    assert record.volume.plexes[0].path == path


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b'"text"', b"1", b"\xff\xfe", b"[" * 100_000, b"1" * 10_000], ids=range(9)
)
def test_what_is_no_json_object_is_no_record(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the words are json's
        decode(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(path=st.sampled_from(PLACES), value=json_values)
def test_any_json_in_any_place_is_read_or_refused_cleanly(path: tuple[Any, ...], value: Json) -> None:
    def change(inner: Any, key: Any) -> None:
        inner[key] = value

    try:
        record = decode(at(path, change))
    except ValueError:
        return
    assert decode(encode_body(record)) == record


@pytest.mark.parametrize(
    ("text", "reason"), [("full_of_the_future", Reason.FULL_MAP_LOST), ("of the future", Reason.NONE)]
)
def test_a_reason_that_only_a_newer_fmrd_knows_says_no_more_than_it_must(text: str, reason: Reason) -> None:
    """A plex that is to be copied in full stays one."""
    assert reason_of(text) is reason
