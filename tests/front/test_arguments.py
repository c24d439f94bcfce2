"""Arguments of verbs: what may pass the socket, and the verbs that exist."""

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.engine.verbs.verbs import Verbs
from fmrd.errors import BadRequest
from fmrd.front.arguments import VERBS, check_arguments
from fmrd.front.checks import check_name
from fmrd.front.daemon.control import SPEAKS


@pytest.mark.parametrize("name", ["data", "a", "_x", "0", "SNAP1-data", "a.b-c_d", "x" * 64, "x" * 80])
def test_names_that_may_be(name: str) -> None:
    assert check_name("volume", name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-rf", "a/b", "a b", "a\n", "data\0", "ä", "x" * 81, 5, None, ["data"], True]
)
def test_names_that_may_not(name: object) -> None:
    with pytest.raises(BadRequest) as caught:
        check_name("volume", name)
    assert caught.value.code == "bad_name"


@given(st.text())
def test_a_name_is_a_plain_file_name(text: str) -> None:
    try:
        check_name("volume", text)
    except BadRequest:
        return
    assert "/" not in text and text not in (".", "..") and text.isascii() and text.isprintable()


@pytest.mark.parametrize(
    ("verb", "args", "says"),
    [
        ("reboot", {}, "no verb 'reboot'"),
        ("__init__", {"registry": None}, "no verb"),
        ("stop", {}, "stop needs volume"),
        ("stop", {"volume": None}, "stop needs volume"),
        ("stop", {"volume": "data", "really": True}, "no argument 'really'"),
        ("make", {"volume": "v", "size_bytes": "1G", "plexes": []}, "size_bytes is not a whole number"),
        ("make", {"volume": "v", "size_bytes": True, "plexes": []}, "size_bytes is not a whole number"),
        ("make", {"volume": "v", "size_bytes": -1, "plexes": []}, "size_bytes is not a whole number"),
        ("make", {"volume": "v", "size_bytes": 1, "plexes": {}}, "plexes is not a list"),
        ("make", {"volume": "v", "size_bytes": 1, "plexes": [{}] * 65}, "plexes is not a list of at most 64"),
        ("make", {"volume": "v", "size_bytes": 1, "plexes": ["/a"]}, "a plex is given as a path"),
        ("make", {"volume": "v", "size_bytes": 1, "plexes": [{"path": "a"}]}, "not an absolute path"),
        ("make", {"volume": "v", "size_bytes": 1, "plexes": [{"path": "/a", "mode": 1}]}, "a plex is given"),
        ("make", {"volume": "v", "size_bytes": 1, "plexes": [{"path": "/a\0b"}]}, "not a line of text"),
        ("make", {"volume": "v", "size_bytes": 1, "plexes": [{"path": "/" + "a" * 4095}]}, "longer than 4095"),
        ("make", {"volume": "v", "size_bytes": 1, "plexes": [{"path": "/\ud800"}]}, "not a line of text"),
        ("plex_att", {"volume": "v", "plex": "v-01", "full": "yes"}, "full is neither true nor false"),
        ("plex_att", {"volume": "v", "plex": "../v"}, "not an absolute path"),
        ("plex_att", {"volume": "v", "plex": "v-01", "force": True}, "no argument 'force'"),
        ("plex_det", {"volume": "v", "plex": "v-01", "force": True}, "no argument 'force'"),
        ("set", {"volume": "v", "settings": {}}, "settings are KEY=VALUE"),
        ("set", {"volume": "v", "settings": {"fmr": True}}, "fmr is not a line of text"),
        ("task_get", {"id": 1 << 63}, "id is not a whole number"),
        ("task_monitor", {"ids": [1, "2"]}, "ids is not a whole number"),
    ],
)
def test_arguments_that_cannot_be(verb: str, args: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        check_arguments(verb, args)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in SPEAKS | {"history", "nights", "night_note"}])
def test_every_verb_takes_what_the_table_says(verb: str) -> None:
    parameters = inspect.signature(getattr(Verbs, verb)).parameters
    assert VERBS[verb].keys() == parameters.keys() - {"self"}, "no argument is there for others than those who command"
    needed = {name for name, p in parameters.items() if p.default is p.empty and name != "self"}
    assert needed == {name for name, argument in VERBS[verb].items() if argument.required}


@pytest.mark.parametrize(("given", "taken"), [("/", "/"), ("/srv/data/", "/srv/data"), ("/srv", "/srv")])
def test_a_mount_point_is_a_directory(given: str, taken: str) -> None:
    """The root of all is one, too."""
    args = {"volumes": ["data"], "freeze": [given]}
    assert check_arguments("snapshot", args)["freeze"] == [taken]
    with pytest.raises(BadRequest, match="absolute"):
        check_arguments("snapshot", args | {"freeze": ["srv"]})
