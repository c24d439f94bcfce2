"""What others wrote is shown in one line, as long as is asked for, and nothing in it acts on a terminal."""

import pytest

from fmrd.core.printable import PATH_CHARACTERS, escaped, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/srv/a b", "/srv/a b"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb", "a\\x0ab"),
        ("\u202egnp", "\\u202egnp"),
        ("\udc80", "\\x80"),
        ("\U000e0001", "\\U000e0001"),
        ("Ā𐀀", "Ā𐀀"),
    ],
)
def test_what_a_terminal_would_not_show_is_spelled(text: str, shown: str) -> None:
    assert printable(text) == escaped(text) == shown
    assert printable(shown) == shown, "once is enough"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("abcdef", "abcdef"), ("abcdefg", "abcde…"), ("ab\n", "ab\\x0a"), ("abc\n", "abc…"), ("abcde\n", "abcde…")],
)
def test_it_is_cut_where_it_is_too_long_and_never_within_what_is_spelled(text: str, shown: str) -> None:
    assert printable(text, 6) == shown


def test_a_path_of_pages_does_not_fill_the_screen() -> None:
    assert len(printable("p" * 4096)) == PATH_CHARACTERS and len(escaped("p" * 4096)) == 4096
