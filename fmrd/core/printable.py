"""Text that others wrote, made safe to be shown: names, paths, labels, errors of the system.

Escape sequences would reach the terminal that prints them, line ends would forge lines of a log, and marks of direction
would let a name read as another one.
"""

PATH_CHARACTERS = 255
_CUT = "…"


def printable(text: str, most: int = PATH_CHARACTERS) -> str:
    """``text`` in at most ``most`` characters that a terminal shows as they are; all others become \\x1b, \\u202e.

    Doing it twice changes nothing, so a backslash stays what it is.
    """
    if len(text) <= most and text.isprintable():
        return text
    found: list[str] = []
    length = 0
    for character in text:
        shown = character if character.isprintable() else _spelled(ord(character))
        if length + len(shown) > most:
            while length > most - len(_CUT):
                length -= len(found.pop())
            return "".join(found) + _CUT
        found.append(shown)
        length += len(shown)
    return "".join(found)


def escaped(text: str) -> str:
    """All of it, however long, in one line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _spelled(ord(c)) for c in text)


def _spelled(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is no UTF-8
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
