"""This module says what may name a volume or a plex. Names become file names in two directories, and words of a command
line, so no name from outside is used before it was asked here.
"""

GIVEN_LENGTH = 64
"""Of a volume that somebody makes."""
VOLUME_LENGTH = 80
"""Of any: a snapshot is named after its original (SNAP12-VOL, UNDO-VOL), and is a volume like others in the end."""
PLEX_LENGTH = 96
"""A plex is named after its volume, with a number behind it."""

TAG_LENGTH = 32
"""What somebody calls some tasks."""
TAGS_ARE = f"a tag has up to {TAG_LENGTH} letters, digits, '.', '_' and '-', and not only digits"

_DIGITS = frozenset("0123456789")
_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_") | _DIGITS
_OTHERS = _FIRST | frozenset(".-")


def derived(prefix: str, volume: str) -> str:
    """Return the name of what belongs to a volume; of a very long one only the beginning is in it."""
    return f"{prefix}-{volume}"[:VOLUME_LENGTH]


def is_name(text: str, most: int = VOLUME_LENGTH) -> bool:
    """Tell whether a text is a name: at most so many letters, digits, '.', '_' and '-', the first not '.' or '-'."""
    return 1 <= len(text) <= most and text[0] in _FIRST and _OTHERS.issuperset(text)


def is_tag(text: str) -> bool:
    """Tell whether a text can be the tag of a task: a name, and none that could be the number of one."""
    return is_name(text, TAG_LENGTH) and not _DIGITS.issuperset(text)
