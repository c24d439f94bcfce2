"""Bytes, regions, extents: against a model that asks every byte (well, every 512th: sizes here are tiny)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.geometry import MAX_LENGTH_BYTES, MAX_PAGES, MAX_REGION_BYTES, MAX_REGIONS, PAGE_REGIONS, Geometry
from fmrd.errors import BadRequest

UNIT = 512


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Unchecked, so that regions can be tiny and the model quick."""
    region = UNIT << draw(st.integers(0, 3))
    ratio = 1 << draw(st.integers(0, 3))
    length = UNIT * draw(st.integers(1, 100))
    return Geometry(length, region, region * ratio, ratio * draw(st.integers(1, 4)))


@st.composite
def spans(draw: st.DrawFn) -> tuple[Geometry, int, int]:
    """A geometry, and (offset, length) inside the volume."""
    geometry = draw(geometries())
    units = geometry.length_bytes // UNIT
    first = draw(st.integers(0, units))
    return geometry, first * UNIT, draw(st.integers(0, units - first)) * UNIT


def units_of(geometry: Geometry, size: int, number: int) -> set[int]:
    """The bytes, in steps of UNIT, of region or extent ``number``."""
    return set(range(number * size, min((number + 1) * size, geometry.length_bytes), UNIT))


@given(spans())
def test_a_range_touches_just_the_regions_and_extents_that_share_a_byte_with_it(
    span: tuple[Geometry, int, int],
) -> None:
    geometry, offset, length = span
    asked = set(range(offset, offset + length, UNIT))
    regions = [r for r in range(geometry.regions) if units_of(geometry, geometry.region_bytes, r) & asked]
    extents = [e for e in range(geometry.extents) if units_of(geometry, geometry.extent_bytes, e) & asked]
    assert list(geometry.regions_of(offset, length)) == regions
    assert list(geometry.extents_of(offset, length)) == extents


@given(spans())
def test_whole_regions_are_those_that_lie_inside_the_range(span: tuple[Geometry, int, int]) -> None:
    geometry, offset, length = span
    asked = set(range(offset, offset + length, UNIT))
    whole = [r for r in range(geometry.regions) if units_of(geometry, geometry.region_bytes, r) <= asked]
    assert list(geometry.whole_regions_of(offset, length)) == whole


@given(geometries())
def test_regions_extents_and_pages_cover_the_volume_once(geometry: Geometry) -> None:
    everything = set(range(0, geometry.length_bytes, UNIT))
    regions = [units_of(geometry, geometry.region_bytes, r) for r in range(geometry.regions)]
    assert set().union(*regions) == everything
    assert all(regions), "no region is empty, not even the last"
    spans_of_extents = [geometry.regions_of_extent(e) for e in range(geometry.extents)]
    assert [r for span in spans_of_extents for r in span] == list(range(geometry.regions))
    assert (geometry.pages - 1) * geometry.page_regions < geometry.regions <= geometry.pages * geometry.page_regions
    assert (geometry.pages - 1) * geometry.page_extents < geometry.extents <= geometry.pages * geometry.page_extents


@given(geometries(), st.data())
def test_a_page_of_the_drl_is_about_the_same_bytes_as_that_page_of_a_map(
    geometry: Geometry, data: st.DataObject
) -> None:
    extent = data.draw(st.integers(0, geometry.extents - 1))
    pages = {region // geometry.page_regions for region in geometry.regions_of_extent(extent)}
    assert pages == {extent // geometry.page_extents}


@given(geometries(), st.data())
def test_bytes_of_regions_are_counted_with_a_short_last_one(geometry: Geometry, data: st.DataObject) -> None:
    numbers = st.integers(0, geometry.regions)
    start, stop = sorted((data.draw(numbers), data.draw(numbers)))
    offset, length = geometry.bytes_of(range(start, stop))
    covered = set().union(*(units_of(geometry, geometry.region_bytes, r) for r in range(start, stop)))
    assert set(range(offset, offset + length, UNIT)) == covered
    chosen = data.draw(st.sets(st.integers(0, geometry.regions - 1)))
    held = sum(len(units_of(geometry, geometry.region_bytes, r)) * UNIT for r in chosen)
    assert geometry.bytes_in(len(chosen), geometry.regions - 1 in chosen) == held


SOUND = Geometry(1 << 30)

REFUSED = {
    "more regions than memory holds": (replace(SOUND, length_bytes=MAX_LENGTH_BYTES), "in memory"),
    "empty": (replace(SOUND, length_bytes=0), "a volume of 0 bytes"),
    "negative": (replace(SOUND, length_bytes=-4096), "a volume of -4096 bytes"),
    "unaligned": (replace(SOUND, length_bytes=(1 << 30) + 512), "a multiple of 4096"),
    "beyond a pebibyte": (replace(SOUND, length_bytes=MAX_LENGTH_BYTES + 4096), "at most 1 PiB"),
    "a region that is no power of two": (replace(SOUND, region_bytes=96 << 10), "a region of 98304 .* a power of two"),
    "and an extent of just one": (replace(SOUND, region_bytes=12 << 10, extent_bytes=12 << 10), "a region of 12288"),
    "a region of nothing": (replace(SOUND, region_bytes=0), "a region of 0 bytes .* a power of two"),
    "a region of 2K": (replace(SOUND, region_bytes=2048), "a region of 2048 .* between"),
    "a region of 128M": (replace(SOUND, region_bytes=MAX_REGION_BYTES * 2, extent_bytes=MAX_REGION_BYTES * 2),
                         "a region of 134217728 .* between"),
    "an extent that is no power of two": (replace(SOUND, extent_bytes=31 << 16), "a DRL extent .* a power of two"),
    "a negative extent": (replace(SOUND, extent_bytes=-(4 << 20)), "a DRL extent of -4194304 .* a power of two"),
    "an extent of nothing": (replace(SOUND, extent_bytes=0), "a DRL extent of 0 bytes .* a power of two"),
    "an extent smaller than a region": (replace(SOUND, extent_bytes=32 << 10), "1 to 1024 regions"),
    "an extent of 2048 regions": (replace(SOUND, extent_bytes=128 << 20), "1 to 1024 regions"),
    "no regions in a page": (replace(SOUND, page_regions=0), "a page holds"),
    "more regions than a page holds": (replace(SOUND, page_regions=PAGE_REGIONS * 2), "a page holds at most 31744"),
    "a page for each of many regions": (Geometry(1 << 40, 4096, 4096, page_regions=1), "pages are more than"),
    "a page that cuts an extent": (replace(SOUND, page_regions=PAGE_REGIONS - 1), "1 to 1024 regions"),
}  # fmt: skip


@pytest.mark.parametrize(("geometry", "words"), REFUSED.values(), ids=REFUSED)
def test_a_measure_that_cannot_be_is_refused(geometry: Geometry, words: str) -> None:
    with pytest.raises(BadRequest, match=words) as refused:
        geometry.check()
    assert refused.value.code == "bad_size"


@pytest.mark.parametrize(
    "geometry",
    [
        SOUND,
        Geometry(4096, 4096, 4096),
        Geometry((1 << 30) + 4096, 64 << 10, 64 << 20),
        Geometry(1 << 50, 64 << 20, 64 << 20),
        Geometry(MAX_REGIONS * 4096, 4096, 4096),
        Geometry(MAX_PAGES * 4096, 4096, 4096, page_regions=1),
    ],
    ids=lambda g: f"{g.length_bytes}-{g.region_bytes}-{g.extent_bytes}",
)
def test_a_measure_that_can_be_is_returned(geometry: Geometry) -> None:
    assert geometry.check() is geometry
