"""What the daemon tells of a difference, as ranges and in the formats of others."""

import base64
import json
import zlib
from collections.abc import Callable
from itertools import pairwise

import pytest
from bitarray import bitarray
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.json_object import Json
from fmrd.errors import Failed
from fmrd.front.maps import formats
from fmrd.front.maps.pace import Pace
from fmrd.front.maps.ranges import Blank, Changes, Range, unpacked

REGION = 4096
SHORT = 512
"""What the last region lacks."""


def packed(bits: list[int]) -> str:
    return base64.b64encode(zlib.compress(bitarray(bits, endian="little").tobytes())).decode()


def told(changed: list[int], zero: list[int] | None = None) -> Json:
    count = sum(changed)
    return {
        "volume": "s", "side": "t", "length_bytes": len(changed) * REGION - SHORT, "region_size_bytes": REGION,
        "regions": count, "bytes": count * REGION, "changed": packed(changed),
        "zero": packed(zero or [0] * len(changed)),
    }  # fmt: skip


BITS = st.lists(st.integers(0, 1), min_size=1, max_size=40)


@given(BITS, st.data())
def test_ranges_are_the_regions_in_order_merged_and_of_one_kind(changed: list[int], data: st.DataObject) -> None:
    zero = data.draw(st.lists(st.integers(0, 1), min_size=len(changed), max_size=len(changed)))
    changes = Changes(told(changed, zero))
    length = len(changed) * REGION - SHORT
    kinds = ["same"] * length
    found = list(changes.ranges())
    for each in found:
        kinds[each.offset : each.stop] = [each.kind] * each.length
    for region, bit in enumerate(changed):
        wanted = ("zero" if zero[region] else "data") if bit else "same"
        assert set(kinds[region * REGION : (region + 1) * REGION]) == {wanted}
    assert all(a.stop < b.offset or a.kind != b.kind for a, b in pairwise(found))
    everything = list(changes.all_ranges())
    assert everything[0].offset == 0 and everything[-1].stop == length
    assert all(a.stop == b.offset for a, b in pairwise(everything))


@given(BITS, st.data())
def test_what_is_blank_is_left_out_and_nothing_else(blank: list[int], data: st.DataObject) -> None:
    length = len(blank) * REGION - SHORT
    offset = data.draw(st.integers(0, length - 1))
    size = data.draw(st.integers(1, length - offset))
    found = list(Blank(packed(blank), length, REGION).others(offset, size))
    written = {at // 256 for start, count in found for at in range(start, start + count, 256)}
    assert all(not blank[at * 256 // REGION] for at in written if offset <= at * 256)
    assert sum(count for _, count in found) == sum(
        min(offset + size, (region + 1) * REGION) - max(offset, region * REGION)
        for region, bit in enumerate(blank)
        if not bit and region * REGION < offset + size and (region + 1) * REGION > offset
    )


def lines_of(write: Callable[[Changes, formats.Write], None], changes: Changes) -> list[str]:
    text: list[str] = []
    write(changes, text.append)
    return "".join(text).splitlines()


CHANGES = Changes(told([0, 1, 1, 0, 1], [0, 0, 1, 0, 0]))


def test_ranges_for_people_and_scripts() -> None:
    assert lines_of(formats.write_ranges, CHANGES) == ["4096 4096 data", "8192 4096 zero", "16384 3584 data"]


def test_a_map_for_borg_has_no_gap() -> None:
    assert lines_of(formats.write_borg, CHANGES) == [
        "0 4096 same", "4096 4096 data", "8192 4096 zero", "12288 4096 same", "16384 3584 data",
    ]  # fmt: skip


def test_a_mapfile_for_ddrescue_names_what_changed_finished() -> None:
    lines = [line for line in lines_of(formats.write_ddrescue, CHANGES) if not line.startswith("#")]
    assert lines == [
        "0x00000000     +", "0x00000000  0x00001000  ?", "0x00001000  0x00002000  +", "0x00003000  0x00001000  ?",
        "0x00004000  0x00000E00  +",
    ]  # fmt: skip


@pytest.mark.parametrize("bits", [[0, 0, 0], [1, 1], [1, 0, 1] * 5000])
def test_json_is_one_object_however_long(bits: list[int]) -> None:
    text: list[str] = []
    changes = Changes(told(bits))
    formats.write_json(changes, text.append, 1)
    assert max(map(len, text)) < 1 << 20
    shown = json.loads("".join(text))
    assert [Range(r["offset_bytes"], r["length_bytes"], r["kind"]) for r in shown["ranges"]] == list(changes.ranges())
    assert (shown["output_version"], shown["volume"], shown["side"]) == (1, "s", "t")


@pytest.mark.parametrize(
    "wrong", ["", "!", base64.b64encode(b"x").decode(), packed([1] * 16), base64.b64encode(zlib.compress(b"")).decode()]
)
def test_a_map_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(Failed):
        unpacked(wrong, 8)
    with pytest.raises(Failed, match="too many"):
        unpacked(packed([1] * 8), 1 << 40)


def test_a_pace_is_kept_and_none_is_none() -> None:
    slept: list[float] = []
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    pace = Pace(1000, lambda: now, sleep)
    for _ in range(10):
        pace.passed(500)
    assert sum(slept) == pytest.approx(5.0)
    Pace(0, lambda: now, sleep).passed(1 << 40)
    assert sum(slept) == pytest.approx(5.0)
