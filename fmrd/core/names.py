"""This module says what may name a volume or a plex. Names become file names in two directories, and words of a command
line, so no name from outside is used before it was asked here.
"""

VOLUME_LENGTH = 64
PLEX_LENGTH = 80
"""A plex is named after its volume, with a number behind it."""

_DIGITS = frozenset("0123456789")
_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_") | _DIGITS
_OTHERS = _FIRST | frozenset(".-")


def is_name(text: str, most: int = VOLUME_LENGTH) -> bool:
    """Tell whether a text is a name: at most so many letters, digits, '.', '_' and '-', the first not '.' or '-'."""
    return 1 <= len(text) <= most and text[0] in _FIRST and _OTHERS.issuperset(text)
