"""Settings as a user types them."""

from typing import Any

import pytest

from fmrd.engine.verbs.settings import parse_settings
from fmrd.errors import BadRequest


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("fmr", "on", {"fmr": True}),
        ("fmr", "off", {"fmr": False}),
        ("auto_attach", "off", {"auto_attach": False}),
        ("rdpol", "round", {"rdpol": "round"}),
        ("rdpol", "prefer:data-02", {"rdpol": "prefer:data-02"}),
        ("io_timeout", "2.5", {"io_timeout_seconds": 2.5}),
        ("rate", "0", {"rate": 0}),
        ("rate", "1000", {"rate": 1000}),
        ("rate", "10M", {"rate": 10 << 20}),
        ("rate", "1g", {"rate": 1 << 30}),
        ("drl_extents", "16", {"hot_extents": 16}),
        ("drl_extents", "65536", {"hot_extents": 65536}),
    ],
)
def test_what_is_meant(key: str, value: str, expected: dict[str, Any]) -> None:
    assert parse_settings({key: value}) == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fmr", "maybe"), ("fmr", ""), ("auto_attach", "ON"), ("rdpol", "siphon"), ("rdpol", "prefer:"), ("rdpol", ""),
        ("io_timeout", "0"), ("io_timeout", "-1"), ("io_timeout", "nan"), ("io_timeout", "inf"), ("io_timeout", "soon"),
        ("io_timeout", ""), ("rate", "-1"), ("rate", "1,5M"), ("rate", "M"), ("rate", ""), ("rate", "10Q"),
        ("rate", "\u0661\u0662"), ("rate", "\u00b2"), ("rate", "9" * 15 + "T"), ("rate", "9" * 5000),
        ("drl_extents", "15"), ("drl_extents", "65537"), ("drl_extents", "-16"), ("drl_extents", "64K"),
        ("drl_extents", ""), ("drl_extents", "\u0661\u0662\u0663"), ("drl_extents", "9" * 5000), ("colour", "blue"),
    ],
)  # fmt: skip
def test_what_cannot_be(key: str, value: str) -> None:
    with pytest.raises(BadRequest, match="bad_setting"):
        parse_settings({key: value})


def test_several_at_once() -> None:
    assert parse_settings({"fmr": "off", "rate": "1K"}) == {"fmr": False, "rate": 1024}
