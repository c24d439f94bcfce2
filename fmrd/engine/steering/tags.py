"""A tag is a word that somebody gives to a verb, as to vxrecover -t; the tasks that the verb begins have it.

It goes where the verb goes, into whatever trio task carries it out, and ends with it: what somebody else begins later
has no tag, also where a part of the verb has left something behind that does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class _Verb:
    """What is under way, as its parts see it."""

    tag: str = ""


_verb: ContextVar[_Verb | None] = ContextVar("the verb that is under way", default=None)


@contextmanager
def tagged(tag: str) -> Iterator[None]:
    """Tasks that begin in here, and in what is started in here, have this tag until this ends. '' is none."""
    verb = _Verb(tag)
    token = _verb.set(verb)
    try:
        yield
    finally:
        verb.tag = ""
        _verb.reset(token)


def tag_given() -> str:
    """Return the tag of the verb that is under way, '' where it has none."""
    verb = _verb.get()
    return verb.tag if verb is not None else ""
