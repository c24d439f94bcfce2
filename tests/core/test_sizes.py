"""Sizes as people write them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.sizes import DECIMAL, MOST_DIGITS, UNITS, read_length, read_size


@given(st.integers(0, 10**MOST_DIGITS - 1), st.sampled_from(sorted(UNITS)), st.booleans())
def test_a_whole_number_and_a_unit_is_a_size(count: int, unit: str, small: bool) -> None:
    assert read_size(f"{count}{unit.lower() if small else unit}") == count * UNITS[unit]


@given(st.integers(0, 10**9), st.integers(0, 999), st.sampled_from(sorted((UNITS | DECIMAL).keys() - {""})))
def test_a_fraction_is_rounded_up_to_a_byte(count: int, thousandths: int, unit: str) -> None:
    exact = (count + Fraction(thousandths, 1000)) * (UNITS | DECIMAL)[unit]
    found = read_size(f"{count}.{thousandths:03d}{unit}")
    assert found is not None and 0 <= found - exact < 1


@pytest.mark.parametrize(
    ("text", "size"),
    [("1.5G", 3 << 29), ("1GiB", 1 << 30), ("1gib", 1 << 30), ("1GB", 10**9), ("1gb", 10**9), ("10MB", 10**7),
     ("512B", 512), ("0.5K", 512), ("1P", 1 << 50), ("2 T", 2 << 40), ("1.0000000001K", 1025)],
)  # fmt: skip
def test_what_people_type(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("1GB", 1000001536),
        ("1.3G", 1395867648),
        ("1G", 1 << 30),
        ("4096", 4096),
        ("4097", 4097),
        ("1K", 4096),
        ("", None),
    ],
)  # fmt: skip
def test_a_length_that_was_not_given_in_bytes_is_rounded_up(text: str, length: int | None) -> None:
    assert read_length(text) == length


@pytest.mark.parametrize(
    "text", ["", "K", "KK", "-1", "+1", ".5G", "1.G", "1..5G", "1.5", "1.5B", "1.5.5G", "1,5G", "1  K", " 1", "1_0",
             "0x10", "1E", "1iB", "1KiBB", "1 ", "1KBi", "1BK", "\u0663", "\u00b2", "1e3", "nan", "inf", "1K\n",
             "9" * (MOST_DIGITS + 1)],
)  # fmt: skip
def test_anything_else_is_none(text: str) -> None:
    assert read_size(text) is None
