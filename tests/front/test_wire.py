"""The control protocol: what one end writes the other reads, and nothing that arrives breaks it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.errors import BadRequest, Failed, FmrdError, Refused, Unreachable
from fmrd.front.wire import Lines, Problem, Progress, Reply, Request, Result, decode_reply

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=4)


@given(st.lists(OBJECTS, max_size=3), OBJECTS)
def test_what_the_daemon_answers_is_what_fmrctl_reads(tasks: list[dict[str, Any]], value: dict[str, Any]) -> None:
    replies: list[Reply] = [Progress(tasks), Result(value)]
    for reply in replies:
        line = reply.encode()
        assert line.count(b"\n") == 1 and line.endswith(b"\n")
        assert decode_reply(line[:-1]) == reply


@pytest.mark.parametrize(
    "error",
    [
        Failed("volume_missing", "there is no volume x"),
        BadRequest("bad_size", "no"),
        Refused("last_plex", "the last", "stop it"),
        Unreachable("unreachable", "gone"),
    ],
)
def test_an_error_arrives_as_what_it_was(error: FmrdError) -> None:
    reply = decode_reply(Problem(error).encode())
    assert isinstance(reply, Problem)
    assert (type(reply.error), str(reply.error), reply.error.hint) == (type(error), str(error), error.hint)


def test_an_error_of_a_newer_daemon_is_still_told() -> None:
    line = json.dumps({"error": {"code": "brand_new", "message": "hm", "hint": ""}, "exit_status": 77}).encode()
    reply = decode_reply(line)
    assert isinstance(reply, Problem) and (reply.error.code, reply.error.message) == ("failed", "hm")


def test_a_request_arrives_checked() -> None:
    request = Request("plex_att", {"volume": "data", "plex": "/a/b.img", "full": True})
    assert Request.decode(request.encode()) == request


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_arrives_is_a_request_or_a_bad_one(line: bytes) -> None:
    for decode in (Request.decode, decode_reply):
        with pytest.raises(BadRequest):
            decode(line)


@given(
    st.fixed_dictionaries(
        {}, optional={"verb": st.sampled_from(["print", "make", "plex_att", "__init__", "apart"]) | JSON, "args": JSON}
    )
)
def test_a_request_nearly_right_is_never_more_than_a_bad_one(value: dict[str, Any]) -> None:
    try:
        request = Request.decode(json.dumps(value).encode())
    except BadRequest:
        return
    assert request.verb == "print" and request.args.keys() <= {"volume"}


@pytest.mark.parametrize("line", [b'{"verb": "print"' + b"[" * 100_000, b'{"verb":"print","args":{"volume":NaN}}', b""])
def test_json_that_would_hurt_is_a_bad_request(line: bytes) -> None:
    with pytest.raises(BadRequest, match="not JSON"):
        Request.decode(line)


@given(st.lists(st.binary().filter(lambda line: b"\n" not in line), max_size=5), st.integers(1, 7))
def test_lines_are_found_however_they_arrive(lines: list[bytes], step: int) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cutter = Lines(limit=1 << 20)
    found = [line for at in range(0, len(stream), step) for line in cutter.feed(stream[at : at + step])]
    assert found == lines


def test_a_line_too_long_is_refused_before_it_ends() -> None:
    lines = Lines(limit=10)
    assert lines.feed(b"x" * 10 + b"\n") == [b"x" * 10]
    lines.feed(b"x" * 10)
    with pytest.raises(BadRequest, match="longer than 10 bytes"):
        lines.feed(b"x")
