"""Where copies differ: to the byte, by sectors, and who is the odd one out."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.decisions.comparing import SECTOR_BYTES, Mismatch, mismatches, mismatches_in

LENGTH = 40 * SECTOR_BYTES
GOOD = bytes(LENGTH)


def with_byte(data: bytes, *places: int, value: int = 1) -> bytes:
    changed = bytearray(data)
    for place in places:
        changed[place] = value
    return bytes(changed)


def test_copies_that_are_the_same_have_none() -> None:
    assert mismatches(4096, {"a": GOOD, "b": GOOD, "c": GOOD}) == []


def test_the_majority_says_who_is_wrong_and_where_to_the_byte() -> None:
    found = mismatches(4096, {"a": GOOD, "b": with_byte(GOOD, 700, 702), "c": GOOD})
    assert found == [Mismatch(4096 + 700, 3, ("b",), "a")]


def test_of_two_nobody_can_tell() -> None:
    assert mismatches(0, {"a": GOOD, "b": with_byte(GOOD, 5)}) == [Mismatch(5, 1, ("a", "b"))]


def test_of_four_two_against_two_prove_nothing() -> None:
    bad = with_byte(GOOD, 5)
    assert mismatches(0, {"a": GOOD, "b": bad, "c": bad, "d": GOOD}) == [Mismatch(5, 1, ("a", "b", "c", "d"))]


def test_who_is_trusted_is_right_whatever_the_others_hold() -> None:
    bad = with_byte(GOOD, 5)
    assert mismatches(0, {"a": GOOD, "b": bad, "c": GOOD}, "b") == [Mismatch(5, 1, ("a", "c"), "b")]


def test_each_sector_has_its_own_verdict() -> None:
    found = mismatches(0, {"a": with_byte(GOOD, 0), "b": with_byte(GOOD, 600), "c": with_byte(GOOD, 1500)})
    assert found == [Mismatch(0, 1, ("a",), "b"), Mismatch(600, 1, ("b",), "a"), Mismatch(1500, 1, ("c",), "a")]


def test_sectors_side_by_side_with_one_verdict_are_one_range() -> None:
    [found] = mismatches(0, {"a": GOOD, "b": with_byte(GOOD, *range(500, 1600)), "c": GOOD})
    assert (found.offset, found.length) == (500, 1100)


def test_sectors_with_one_verdict_and_a_sector_that_is_the_same_between_them_are_two_ranges() -> None:
    found = mismatches(0, {"a": GOOD, "b": with_byte(GOOD, 511, 1024), "c": GOOD})
    assert found == [Mismatch(511, 1, ("b",), "a"), Mismatch(1024, 1, ("b",), "a")]


@given(
    wrong=st.dictionaries(st.sampled_from("abc"), st.sets(st.integers(0, LENGTH - 1), max_size=6), max_size=3),
    offset=st.integers(0, 5).map(lambda n: n * SECTOR_BYTES),
)
def test_every_byte_that_differs_is_in_a_range_and_every_end_of_a_range_differs(
    wrong: dict[str, set[int]], offset: int
) -> None:
    contents = {name: with_byte(GOOD, *wrong.get(name, ()), value=ord(name)) for name in "abc"}
    differ = {offset + at for at in range(LENGTH) if len({data[at] for data in contents.values()}) > 1}
    found = mismatches(offset, contents)
    covered = {at for each in found for at in range(each.offset, each.offset + each.length)}
    assert differ <= covered
    assert {end for each in found for end in (each.offset, each.offset + each.length - 1)} <= differ
    for each in found:
        assert not each.right or each.right not in each.odd


def test_of_two_a_checksum_of_what_they_held_tells_piece_by_piece() -> None:
    size = 2 * SECTOR_BYTES
    good, bad = bytes(3 * size), with_byte(bytes(3 * size), 5, size + 5, 2 * size + 5)
    pieces = [(size, zlib.crc32(bytes(size))), (size, None), (size, zlib.crc32(bad[2 * size :]))]
    assert mismatches_in(4096, {"a": good, "b": bad}, "", pieces) == [
        Mismatch(4096 + 5, 1, ("b",), "a"),
        Mismatch(4096 + size + 5, 1, ("a", "b")),
        Mismatch(4096 + 2 * size + 5, 1, ("a",), "b"),
    ]


def test_a_majority_is_asked_before_a_checksum_and_the_administrator_before_both() -> None:
    bad = with_byte(GOOD, 5)
    pieces = [(LENGTH, zlib.crc32(bad))]
    assert mismatches_in(0, {"a": GOOD, "b": bad, "c": GOOD}, "", pieces) == [Mismatch(5, 1, ("b",), "a")]
    assert mismatches_in(0, {"a": GOOD, "b": bad}, "a", pieces) == [Mismatch(5, 1, ("b",), "a")]


def test_a_checksum_that_neither_fits_proves_nothing() -> None:
    assert mismatches_in(0, {"a": GOOD, "b": with_byte(GOOD, 5)}, "", [(LENGTH, 1)]) == [Mismatch(5, 1, ("a", "b"))]


def test_a_range_across_a_border_of_pieces_is_one() -> None:
    bad = with_byte(GOOD, *range(SECTOR_BYTES - 2, SECTOR_BYTES + 2))
    pieces = [(SECTOR_BYTES, None), (LENGTH - SECTOR_BYTES, None)]
    assert mismatches_in(0, {"a": GOOD, "b": bad}, "", pieces) == [Mismatch(SECTOR_BYTES - 2, 4, ("a", "b"))]
