"""What may name a volume or a plex: names become file names in two directories, and words of a command line."""

VOLUME_LENGTH = 64
PLEX_LENGTH = 80
"""A plex is named after its volume, with a number behind it."""

_DIGITS = frozenset("0123456789")
_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_") | _DIGITS
_OTHERS = _FIRST | frozenset(".-")


def is_name(text: str, most: int = VOLUME_LENGTH) -> bool:
    """Letters, digits, '.', '_' and '-', beginning with a letter, a digit or '_', at most so many."""
    return 1 <= len(text) <= most and text[0] in _FIRST and _OTHERS.issuperset(text)
