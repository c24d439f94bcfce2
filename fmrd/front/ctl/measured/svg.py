"""A picture of a volume as SVG: for a ticket, or to be looked at closely."""

from collections.abc import Iterator, Sequence
from html import escape

from fmrd.core.json_object import Json
from fmrd.core.printable import printable
from fmrd.front.ctl.words import format_size

WIDTH = 1024
"""Of the bars, in pixels."""
MARGIN, BAR, STEP = 16, 28, 56
COLOURS = {"plex": "#c0392b", "snapshot": "#8e44ad", "original": "#8e44ad", "drl": "#d68910", "hot": "#b03a2e"}
TITLES = {
    "plex": "plex {} misses {}", "snapshot": "snapshot {} differs in {}", "original": "original {} differs in {}",
    "drl": "dirty region log{}: {} to be recovered after a crash", "hot": "written in the last seconds{}: {}",
}  # fmt: skip


def svg_of(picture: Json) -> str:
    """Return the document: a bar for each row, in which each run of cells that is alike tells what it is."""
    rows = picture["rows"]
    length, cells = picture["length_bytes"], picture["cells"]
    height = 2 * MARGIN + 24 + STEP * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 2 * MARGIN}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="{MARGIN}" y="{MARGIN + 12}" font-size="16">{_text(picture["volume"])}, {format_size(length)}</text>',
    ]
    for number, row in enumerate(rows):
        top = MARGIN + 24 + STEP * number
        title = TITLES[row["kind"]].format(row["name"], format_size(row["bytes"]))
        parts.append(f'<text x="{MARGIN}" y="{top + 13}">{_text(title)}</text>')
        parts.append(f'<rect x="{MARGIN}" y="{top + 18}" width="{WIDTH}" height="{BAR}" fill="#eaf2ea" stroke="#999"/>')
        parts += _bar(row, top + 18, cells, length)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(row: Json, top: int, cells: int, length: int) -> Iterator[str]:
    for start, stop, part in runs(row["parts"]):
        if part:
            left, right = WIDTH * start / cells, WIDTH * stop / cells
            where = f"{format_size(length * start // cells)} to {format_size(length * stop // cells)}: {part / 10:g} %"
            yield (
                f'<rect x="{MARGIN + left:.2f}" y="{top}" width="{max(right - left, 0.5):.2f}" height="{BAR}" '
                f'fill="{COLOURS[row["kind"]]}" fill-opacity="{0.25 + 0.75 * part / 1000:.2f}">'
                f"<title>{where}</title></rect>"
            )


def runs(parts: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (start, stop, part) of cells side by side that have the same."""
    start = 0
    for at in range(1, len(parts) + 1):
        if at == len(parts) or parts[at] != parts[start]:
            yield start, at, parts[start]
            start = at


def _text(text: str) -> str:
    return escape(printable(text), quote=False)
