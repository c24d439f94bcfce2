"""Bytes, regions, extents: against a model that asks every byte (well, every 512th: sizes here are tiny)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.geometry import MAX_LENGTH_BYTES, MAX_REGION_BYTES, PAGE_REGIONS, Geometry
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
    "more regions than memory holds": replace(SOUND, length_bytes=MAX_LENGTH_BYTES),
    "empty": replace(SOUND, length_bytes=0),
    "negative": replace(SOUND, length_bytes=-4096),
    "unaligned": replace(SOUND, length_bytes=(1 << 30) + 512),
    "beyond a pebibyte": replace(SOUND, length_bytes=MAX_LENGTH_BYTES + 4096),
    "a region that is no power of two": replace(SOUND, region_bytes=96 << 10),
    "a region of nothing": replace(SOUND, region_bytes=0),
    "a region of 2K": replace(SOUND, region_bytes=2048),
    "a region of 128M": replace(SOUND, region_bytes=MAX_REGION_BYTES * 2, extent_bytes=MAX_REGION_BYTES * 2),
    "an extent that is no power of two": replace(SOUND, extent_bytes=3 << 20),
    "a negative extent": replace(SOUND, extent_bytes=-(4 << 20)),
    "an extent smaller than a region": replace(SOUND, extent_bytes=32 << 10),
    "an extent of 2048 regions": replace(SOUND, extent_bytes=128 << 20),
    "no regions in a page": replace(SOUND, page_regions=0),
    "more regions than a page holds": replace(SOUND, page_regions=PAGE_REGIONS * 2),
    "a page for each of many regions": Geometry(1 << 40, 4096, 4096, page_regions=1),
    "a page that cuts an extent": replace(SOUND, page_regions=PAGE_REGIONS - 1),
}


@pytest.mark.parametrize("geometry", REFUSED.values(), ids=REFUSED)
def test_a_measure_that_cannot_be_is_refused(geometry: Geometry) -> None:
    with pytest.raises(BadRequest) as refused:
        geometry.check()
    assert refused.value.code == "bad_size"


@pytest.mark.parametrize(
    "geometry",
    [
        SOUND,
        Geometry(4096, 4096, 4096),
        Geometry((1 << 30) + 4096, 64 << 10, 64 << 20),
        Geometry(1 << 50, 64 << 20, 64 << 20),
    ],
    ids=lambda g: f"{g.length_bytes}-{g.region_bytes}-{g.extent_bytes}",
)
def test_a_measure_that_can_be_is_returned(geometry: Geometry) -> None:
    assert geometry.check() is geometry
