"""A command line of VxVM, taken apart: options in their places, a keyword, attributes (KEY=VALUE), and words."""

import getopt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fmrd.errors import BadRequest
from fmrd.front.tags import check_tag

SECTOR_BYTES = 512
"""VxVM counts in these where a length has no unit, and in all that it prints."""

TAKES: Mapping[str, str] = {
    "vxassist": "bg:o:t:", "vxplex": "bg:o:t:", "vxvol": "bg:o:t:", "vxmend": "g:o:", "vxrecover": "bcnsg:o:P:t:",
    "vxsnap": "bg:o:d:nlvxt:", "vxtask": "ahlpqrg:v:c:t:w:i:", "vxprint": "AaF:e:g:dhlmnpqrstv",
    "vxcache": "bg:o:t:", "vxstat": "c:g:i:f:psv",
}  # fmt: skip
"""Each tool's options, as getopt writes them. One that is not here is no form of that tool that fmrd-vx knows."""

TAGGED = ("vxassist", "vxplex", "vxvol", "vxrecover", "vxsnap")
"""Tools whose -t is the tag of the tasks that they begin. That of vxtask is a time, that of vxprint a shape."""

KEYED = ("vxassist", "vxplex", "vxvol", "vxmend", "vxsnap", "vxcache", "vxtask")
"""Tools whose first word says what to do; the others do one thing."""

_ATTRIBUTE = re.compile(r"[a-z_%]+=")
_UNITS = {
    "": SECTOR_BYTES,
    "s": SECTOR_BYTES,
    "b": SECTOR_BYTES,
    "k": 1 << 10,
    "m": 1 << 20,
    "g": 1 << 30,
    "t": 1 << 40,
}
_LENGTH = re.compile(r"([0-9]{1,18})([sbkmgt]?)", re.ASCII | re.IGNORECASE)


class NotSupported(Exception):
    """fmrd has nothing that this would be; ``hint`` is the nearest command of fmrctl, or why there is none."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


@dataclass(frozen=True)
class Typed:
    """One command line. ``flags`` are options without a value, ``options`` those of -o, ``attributes`` in their order
    (vxsnap make has several of one key); of options that take a value the last one counts.
    """

    tool: str
    keyword: str
    words: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]
    flags: frozenset[str]
    values: Mapping[str, str]
    options: Mapping[str, str]

    @property
    def group(self) -> str:
        """The disk group: shown where VxVM shows it, and nothing else."""
        return self.values.get("-g", "fmrd")

    @property
    def background(self) -> bool:
        return "-b" in self.flags

    @property
    def name(self) -> str:
        """How the form is called in sentences."""
        return f"{self.tool} {self.keyword}".rstrip()

    def attribute(self, key: str, default: str = "") -> str:
        """The last value of a key."""
        return dict(self.attributes).get(key, default)


def read(tool: str, line: Sequence[str]) -> Typed:
    """Take a command line apart. NotSupported for an option that is not known, BadRequest('bad_request') without a
    keyword, or where a value is missing.
    """
    try:
        options, rest = getopt.gnu_getopt(list(line), TAKES[tool])
    except getopt.GetoptError as error:
        if "requires argument" in error.msg:
            raise BadRequest("bad_request", f"{tool}: {error.msg}", usage(tool)) from None
        raise NotSupported(f"{tool} -{error.opt}", usage(tool)) from None
    if tool in KEYED and not rest:
        raise BadRequest("bad_request", f"{tool}: say what to do", usage(tool))
    keyword, rest = (rest[0], rest[1:]) if tool in KEYED else ("", rest)
    attributes = tuple((word.partition("=")[0], word.partition("=")[2]) for word in rest if _ATTRIBUTE.match(word))
    return Typed(
        tool, keyword, tuple(word for word in rest if not _ATTRIBUTE.match(word)), attributes,
        frozenset(name for name, value in options if not value),
        {name: value for name, value in options if value and name != "-o"},
        dict(_option(part) for name, value in options if name == "-o" for part in _parts(value)),
    )  # fmt: skip


def _parts(value: str) -> list[str]:
    """What one -o holds: several behind commas, but of fmrd_paths, whose value has commas of its own."""
    return [value] if value.startswith("fmrd_paths=") else value.split(",")


def _option(part: str) -> tuple[str, str]:
    key, _, value = part.partition("=")
    return key, value


def tag_of(typed: Typed) -> str | None:
    """Return what -t calls the tasks that the line begins, where its tool takes one. BadRequest('bad_name')."""
    if typed.tool not in TAGGED or "-t" not in typed.values:
        return None
    return check_tag("-t", typed.values["-t"])


def usage(tool: str) -> str:
    return f"fmrd-vx --help has the forms of {tool}"


def read_length(text: str) -> int:
    """Return bytes: sectors of 512 bytes, or s, b (the same), k, m, g, t. BadRequest('bad_size')."""
    found = _LENGTH.fullmatch(text)
    if found is None:
        raise BadRequest(
            "bad_size", f"{text!r} is not a length", "a whole number of sectors, or with s, b, k, m, g or t"
        )
    return int(found[1]) * _UNITS[found[2].lower()]


def read_count(what: str, text: str, most: int) -> int:
    """Return a whole number from 1 to ``most``. BadRequest('bad_request')."""
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise BadRequest("bad_request", f"{what}={text} is not a whole number from 1 to {most}")
    return int(text)


def sectors(length_bytes: int) -> int:
    """What VxVM prints for a length: sectors, a part of one counts whole."""
    return -(-length_bytes // SECTOR_BYTES)
