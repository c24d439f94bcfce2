"""Sizes are read as people write them: a whole number of bytes, or of K, M, G or T, which are powers of 1024."""

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
MOST_DIGITS = 18
"""More than any disk needs, and few enough to be computed with."""


def read_size(text: str) -> int | None:
    """Return the bytes, or None where ``text`` is no size. Small letters are units as well."""
    unit = text[-1:].upper()
    number, unit = (text[:-1], unit) if unit in UNITS else (text, "")
    if not (number.isascii() and number.isdigit() and len(number) <= MOST_DIGITS):
        return None
    return int(number) * UNITS[unit]
