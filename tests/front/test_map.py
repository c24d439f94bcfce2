"""fmrctl map: the picture in a terminal of whatever size, and as SVG."""

import io
import itertools
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from fmrd.core.json_object import Json
from fmrd.front.ctl.measured.blocks import ASCII, BLOCKS, drawn, merged, shades_of
from fmrd.front.ctl.measured.svg import runs, svg_of

MIB = 1 << 20
PARTS = st.lists(st.integers(min_value=0, max_value=1000), min_size=1, max_size=300)


def picture(cells: int = 576) -> Json:
    """Of 512 MiB: the second plex misses the second quarter, a snapshot differs in a spot, the first MiBs are hot."""
    quarter = [0] * (cells // 4) + [1000] * (cells // 4) + [0] * (cells // 2)
    spot = [0] * (cells - 1) + [1]
    rows = [
        {"kind": "plex", "name": "data-01", "bytes": 0, "parts": [0] * cells},
        {"kind": "plex", "name": "data-02", "bytes": 128 * MIB, "parts": quarter},
        {"kind": "snapshot", "name": "old", "bytes": 65536, "parts": spot},
        {"kind": "drl", "name": "", "bytes": 8 * MIB, "parts": [500] * 9 + [0] * (cells - 9)},
        {"kind": "hot", "name": "", "bytes": 0, "parts": [0] * cells},
    ]
    return {"volume": "data", "length_bytes": 512 * MIB, "cells": cells, "rows": rows}


CAPTURE = Path(__file__).parent / "captures" / "map-200x60.txt"
STATES = {"data-01": "ACTIVE", "data-02": "STALE"}

AT_80_BY_24 = """\
data  512M
plex data-01 ACTIVE: nothing missing
plex data-02 STALE: 128M (25.0 %) missing
      0 ........................................................................
   128M ########################################################################
   256M ........................................................................
   384M ........................................................................
snapshot old: 64K (0.0 %) differs
      0 ........................................................................
   128M ........................................................................
   256M ........................................................................
   384M .......................................................................-
dirty region log: 8M (1.6 %) to be recovered after a crash
      0 ++++-...................................................................
   128M ........................................................................
   256M ........................................................................
   384M ........................................................................
written in the last seconds: nothing
. nothing  - up to a quarter  + a half  * three quarters  # all"""


def test_eighty_by_twenty_four() -> None:
    assert "\n".join(drawn(picture(), 80, 24, ASCII, STATES)) == AT_80_BY_24


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (120, 30), (20, 10), (1, 1), (1000, 500)])
@pytest.mark.parametrize("shades", [BLOCKS, ASCII])
def test_it_fits_whatever_terminal(width: int, height: int, shades: object) -> None:
    lines = drawn(picture(), width, height, shades, STATES)  # type: ignore[arg-type]  # one of the two
    if width >= 16:
        assert max(map(cell_len, lines)) <= width
    if height >= 11:
        assert len(lines) <= height
    assert len([line for line in lines if "data-02" in line]) == (width >= 12)


def test_two_hundred_by_sixty_shows_more() -> None:
    """After a change on purpose: look at what is drawn, and put it there."""
    lines = drawn(picture(1536), 200, 60, BLOCKS, STATES)
    assert "\n".join([*lines, ""]) == CAPTURE.read_text()
    at = next(n for n, line in enumerate(lines) if line.startswith("plex data-02"))
    body = "".join(line[8:] for line in lines[at + 1 : at + 9])
    assert len(body) == 1536 and body == "·" * 384 + "█" * 384 + "·" * 768


@given(PARTS, st.integers(min_value=1, max_value=300))
def test_nothing_is_lost_from_sight_when_cells_are_merged(parts: list[int], cells: int) -> None:
    found = merged(parts, cells)
    assert len(found) == min(cells, len(parts))
    assert any(found) == any(parts) and max(found) <= max(parts)
    assert merged(parts, len(parts)) == parts


@pytest.mark.parametrize(
    ("part", "block"), [(0, "·"), (1, "░"), (250, "░"), (251, "▒"), (750, "▓"), (751, "█"), (1000, "█")]
)
def test_shades(part: int, block: str) -> None:
    assert BLOCKS.of(part) == block


@pytest.mark.parametrize(
    ("encoding", "ascii"), [("utf-8", False), ("UTF8", False), ("ascii", True), ("iso8859-1", True)]
)
def test_plain_ascii_where_the_terminal_has_no_more(encoding: str, ascii: bool) -> None:
    assert shades_of(encoding) is (ASCII if ascii else BLOCKS)
    text = "\n".join(drawn(picture(), 80, 24, shades_of(encoding), STATES))
    assert text.isascii() is ascii


@given(PARTS)
def test_runs_cover_all_cells(parts: list[int]) -> None:
    found = list(runs(parts))
    assert [part for start, stop, part in found for _ in range(start, stop)] == parts
    assert all(one[2] != two[2] for one, two in itertools.pairwise(found))


def test_the_svg_is_well_formed_and_tells_each_row(tmp_path: Path) -> None:
    shown = picture()
    shown["volume"] = 'a<b>&"\x1b'
    root = ElementTree.parse(io.StringIO(svg_of(shown))).getroot()
    tag = "{http://www.w3.org/2000/svg}"
    texts = [each.text for each in root.iter(f"{tag}text")]
    assert texts == [
        'a<b>&"\\x1b, 512M', "plex data-01 misses 0", "plex data-02 misses 128M", "snapshot old differs in 64K",
        "dirty region log: 8M to be recovered after a crash", "written in the last seconds: 0",
    ]  # fmt: skip
    assert [each.text for each in root.iter(f"{tag}title")] == [
        "128M to 256M: 100 %", "511.1M to 512M: 0.1 %", "0 to 8M: 50 %",
    ]  # fmt: skip
