"""Sizes are read as people write them: bytes, or K, M, G, T, P, which are powers of 1024 (as are KiB, MiB...), while
KB, MB... are powers of 1000, as on the label of a disk. Fractions are fine: ``1.5G``.
"""

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
DECIMAL = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}
MOST_DIGITS = 18
"""More than any disk needs, and few enough to be computed with."""
ROUND_BYTES = 4096
"""What a length is rounded up to where nobody typed it to the byte."""
_LETTERS = "BKMGTPIbkmgtpi"
_FACTORS = {**UNITS, **DECIMAL, **{f"{unit}IB": factor for unit, factor in UNITS.items() if unit}, "B": 1}


def read_size(text: str) -> int | None:
    """Return the bytes, a part of one counted as one; None where ``text`` is no size, as 1.5 without a unit. Small
    letters are units, too.
    """
    number = text.rstrip(_LETTERS)
    factor = _FACTORS.get(text[len(number) :].upper())
    whole, point, part = (number.removesuffix(" ") if number != text else number).partition(".")
    if factor is None or not _is_number(whole) or (point and (factor == 1 or not _is_number(part))):
        return None
    return int(whole) * factor - (-int(part or "0") * factor // int(10 ** len(part)))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def read_length(text: str) -> int | None:
    """The same of a volume, whose length is a multiple of 4096: what was not given in bytes is rounded up to that."""
    size = read_size(text)
    if size is None or text.isdigit():
        return size
    return -(-size // ROUND_BYTES) * ROUND_BYTES
