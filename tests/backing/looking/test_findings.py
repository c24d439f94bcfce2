"""What comes from a disk never acts on a terminal or a log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.backing.looking.findings import (
    LABEL_CHARACTERS,
    PATH_CHARACTERS,
    SENTENCE_CHARACTERS,
    Finding,
    Kind,
    printable,
)  # fmt: skip

ANYTHING = st.text(st.characters(), max_size=400)
"""Surrogates, too: a file name that is no UTF-8 has them."""


@given(ANYTHING, st.integers(10, 300))
def test_whatever_it_was_it_can_be_shown_and_has_an_end(text: str, most: int) -> None:
    shown = printable(text, most)
    assert shown.isprintable() and len(shown) <= most
    shown.encode("utf-8")  # no surrogate is left
    assert printable(shown, most) == shown, "twice is once"


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=PATH_CHARACTERS))
def test_what_can_be_shown_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@given(ANYTHING)
def test_every_text_of_a_finding_is_safe(text: str) -> None:
    found = Finding(Kind.FILESYSTEM, text * 9, type=text, label=text, uuid=text, where=text, mend=text)
    texts = (found.sentence, found.type, found.label, found.uuid, found.where, found.mend)
    assert all(each.isprintable() for each in texts)
    assert len(found.label) <= LABEL_CHARACTERS and len(found.sentence) <= SENTENCE_CHARACTERS


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("data", "data"),
        ("my disk", "my disk"),
        ("ümläut 日本", "ümläut 日本"),
        ("a\\b", "a\\b"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nfmrd: all is well", "a\\x0afmrd: all is well"),
        ("\x9b2J", "\\x9b2J"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("a\u2028b", "a\\u2028b"),
        ("\udcff", "\\xff"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_cut_never_halves_what_is_spelled_out() -> None:
    assert printable("\n" * 9, 10) == "\\x0a\\x0a…"
    assert printable("\n" * 2, 8) == "\\x0a\\x0a"
