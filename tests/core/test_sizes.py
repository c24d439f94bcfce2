"""Sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.sizes import MOST_DIGITS, UNITS, read_size


@given(st.integers(0, 10**MOST_DIGITS - 1), st.sampled_from(sorted(UNITS)), st.booleans())
def test_a_whole_number_and_a_unit_is_a_size(count: int, unit: str, small: bool) -> None:
    assert read_size(f"{count}{unit.lower() if small else unit}") == count * UNITS[unit]


@pytest.mark.parametrize(
    "text", ["", "K", "KK", "-1", "+1", "1.5G", "1KB", "1 K", " 1", "1_0", "0x10", "1P", "\u0663", "\u00b2", "1e3",
             "9" * (MOST_DIGITS + 1)],
)  # fmt: skip
def test_anything_else_is_none(text: str) -> None:
    assert read_size(text) is None
