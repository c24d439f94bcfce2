"""A picture of a volume as blocks of characters, as wide as the terminal, or in plain ASCII."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len

from fmrd.core.json_object import Json
from fmrd.core.printable import printable
from fmrd.front.ctl.words import format_size

FINEST = 8
"""So many times as many cells as a line has are asked for: each row may take up to so many lines."""
GUTTER = 8
"""Columns for the offset at which a line begins, and a space."""
LEAST_WIDTH, MOST_WIDTH = 8, 512


@dataclass(frozen=True)
class Shades:
    """What stands for a cell of which nothing is in the set, and for those of which up to a quarter is, a half..."""

    nothing: str
    more: str

    def of(self, part: int) -> str:
        return self.nothing if not part else self.more[min(len(self.more) - 1, (part - 1) * len(self.more) // 1000)]

    def legend(self) -> str:
        words = ("up to a quarter", "a half", "three quarters", "all")
        return f"{self.nothing} nothing  " + "  ".join(f"{a} {b}" for a, b in zip(self.more, words, strict=True))


BLOCKS = Shades("·", "░▒▓█")
ASCII = Shades(".", "-+*#")


def shades_of(encoding: str) -> Shades:
    """Return those that this encoding has."""
    return BLOCKS if encoding.lower().replace("-", "").startswith("utf") else ASCII


def line_cells(width: int) -> int:
    """Return how many cells a line has on a terminal of that width."""
    return max(LEAST_WIDTH, min(MOST_WIDTH, width - GUTTER))


def drawn(picture: Json, width: int, height: int, shades: Shades, states: dict[str, str]) -> list[str]:
    """Return the lines: all of it in ``height`` of them, where the rows are not too many for that. Where there is
    nothing to be seen, no line is wasted on it. ``states`` is what is said of a plex.
    """
    rows = picture["rows"]
    drawn_ones = sum(any(row["parts"]) for row in rows)
    room = max(1, (height - 3 - len(rows)) // max(1, drawn_ones))
    lines_a_row = max(each for each in (1, 2, 4, FINEST) if each <= room or each == 1)
    cells = min(line_cells(width) * lines_a_row, picture["cells"])
    found = [_cut(f"{picture['volume']}  {format_size(picture['length_bytes'])}", width)]
    for row in rows:
        found.append(_cut(_title(row, picture["length_bytes"], states), width))
        if any(row["parts"]):
            found += _lines(merged(row["parts"], cells), picture["length_bytes"], line_cells(width), shades)
    return [*found, _cut(shades.legend(), width)]


def merged(parts: Sequence[int], cells: int) -> list[int]:
    """Return so many cells, or as many as there are: each has the mean of those that it covers, and something where
    any of them has.
    """
    size = len(parts)
    cells = min(cells, size)
    edges = [size * cell // cells for cell in range(cells + 1)]
    spans = [parts[start:stop] for start, stop in pairwise(edges)]
    return [max(sum(span) // len(span), 1 if any(span) else 0) for span in spans]


def _title(row: Json, length: int, states: dict[str, str]) -> str:
    size, name = row["bytes"], printable(row["name"])
    share = f"{format_size(size)} ({100 * size / length:.1f} %)" if size else "nothing"
    match row["kind"]:
        case "plex":
            return f"plex {name} {states.get(row['name'], '')}: {share} missing"
        case "snapshot":
            return f"snapshot {name}: {share} differs"
        case "original":
            return f"original {name}: {share} differs"
        case "drl":
            return f"dirty region log: {share} to be recovered after a crash"
        case _:
            return f"written in the last seconds: {share}"


def _lines(parts: Sequence[int], length: int, width: int, shades: Shades) -> list[str]:
    found = []
    for start in range(0, len(parts), width):
        offset = format_size(length * start // len(parts))
        found.append(f"{offset:>{GUTTER - 1}} " + "".join(shades.of(part) for part in parts[start : start + width]))
    return found


def _cut(line: str, width: int) -> str:
    return line if cell_len(line) <= width else printable(line, width)
