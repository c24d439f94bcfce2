"""Names as people type them: several at once, with globs, and what was probably meant by one that is not there."""

import difflib
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from fmrd.errors import Failed

GLOB = frozenset("*?[")
CLOSE = 0.6
"""How alike two words must be for one to be meant by the other."""
AS_CLOSE = 0.08
"""How much less alike than the best one another may be, to be named beside it."""


def picked(wanted: Sequence[str], known: Collection[str], what: str = "volume") -> list[str]:
    """Return the names that are meant, each once, in the order asked for (a glob's sorted); all where none is wanted.
    Failed('volume_missing') for one that names nothing, with what was probably meant.
    """
    if not wanted:
        return sorted(known)
    found: dict[str, None] = {}
    for each in wanted:
        names = matching(each, known)
        if not names:
            raise Failed("volume_missing", f"there is no {what} {each}", meant(each, known))
        found |= dict.fromkeys(names)
    return list(found)


def matching(pattern: str, known: Iterable[str]) -> list[str]:
    """A name means itself; only what is no name can be a glob, since names hold none of its characters."""
    if GLOB & set(pattern):
        return sorted(name for name in known if fnmatchcase(name, pattern))
    return [pattern] if pattern in known else []


def meant(word: str, known: Iterable[str]) -> str:
    """Return a hint, or nothing where nothing is alike."""
    alike = {each: difflib.SequenceMatcher(None, word, each).ratio() for each in known}
    best = max(alike.values(), default=0.0)
    close = sorted(each for each, ratio in alike.items() if ratio >= max(CLOSE, best - AS_CLOSE))[:3]
    return f"did you mean {' or '.join(close)}?" if close else ""
