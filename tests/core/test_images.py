"""How a page is made out of the copies that were read (PROTOCOLS, "Pages"; rule 8: doubt is dirt)."""

from dataclasses import dataclass

import pytest
from bitarray import bitarray, frozenbitarray

from fmrd.core.images import CopyImage, PageSlot, ahead, drl_union, fitted, own_bitmap, read_bitmap, read_page
from fmrd.core.records.parts import Column
from tests.core.making import family_record

COLUMN = Column(3, 7)
ONES = "1111"


def slot(bits: str, sequence: int, epoch: int = 7) -> PageSlot:
    return PageSlot(epoch, sequence, frozenbitarray(bits))


def image(*slots: PageSlot | None, page: int = 0, damaged: bool = False) -> CopyImage:
    pages = {(3, page): (slots[0], slots[1])} if slots else {}
    return CopyImage((None, None), pages, frozenset({(3, page)} if damaged else ()))


OLD, NEW = slot("1000", 5), slot("0100", 6)
STALE_EPOCH = slot("0000", 9, epoch=6)
WHOLE, TORN, LOST = image(OLD, NEW), image(OLD, None), image(None, None)


@dataclass(frozen=True)
class Case:
    what: str
    home: CopyImage
    others: list[CopyImage]
    crashed: str
    """What is read after a crash ..."""
    settled: str
    """... and after a settled stop."""
    lost: tuple[bool, bool] = (False, False)


CASES = [
    Case("both slots are good: the newest", WHOLE, [], "0100", "0100"),
    Case("what the others hold older says nothing", WHOLE, [image(slot("1111", 4), slot("1111", 3))], "0100", "0100"),
    Case("what they hold newer is joined", WHOLE, [image(slot("0011", 9), slot("1000", 8))], "0111", "0111"),
    Case("not that of another epoch", WHOLE, [image(STALE_EPOCH, STALE_EPOCH)], "0100", "0100"),
    Case("the slots in the other order", image(NEW, OLD), [], "0100", "0100"),
    Case("one slot is of an earlier epoch", image(STALE_EPOCH, NEW), [], "0100", "0100"),
    Case("both are of an earlier epoch", image(STALE_EPOCH, STALE_EPOCH), [], ONES, ONES, (True, True)),
    Case("one is bad, and nobody else knows", TORN, [], "1000", ONES, (False, True)),
    Case("one is bad, another copy has both: the union", TORN, [WHOLE], "1100", "1100"),
    Case("one is bad, the others too: the newest", TORN, [image(None, NEW)], "0100", ONES, (False, True)),
    Case("one is bad, of two others one is whole", TORN, [image(None, slot("0010", 8)), WHOLE], "1110", "1110"),
    Case("both are bad, another copy has both", LOST, [WHOLE], "0100", "0100"),
    Case("both are bad, another has one", LOST, [TORN], "1000", ONES, (False, True)),
    Case("all are bad", LOST, [LOST], ONES, ONES, (True, True)),
    Case("there is no such page anywhere", image(), [image()], ONES, ONES, (True, True)),
    Case("the other copy is whole in an earlier epoch, which says nothing of this one",
         TORN, [image(STALE_EPOCH, STALE_EPOCH)], "1000", ONES, (False, True)),
    Case("the good one is of an earlier epoch", image(STALE_EPOCH, None), [], ONES, ONES, (True, True)),
]  # fmt: skip


@pytest.mark.parametrize("settled", [False, True], ids=["crashed", "settled"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what.replace(" ", "_"))
def test_a_page(case: Case, settled: bool) -> None:
    bits, lost = read_page(COLUMN, 0, 4, case.home, case.others, settled=settled)
    assert (bits.to01(), lost) == (case.settled if settled else case.crashed, case.lost[settled])


@pytest.mark.parametrize(
    ("what", "home", "other", "sequences"),
    [
        ("the same", WHOLE, WHOLE, set()),
        ("behind", WHOLE, image(OLD, slot("1111", 4)), set()),
        ("one write ahead", WHOLE, image(NEW, slot("0110", 7)), {7}),
        ("a page never written before", image(OLD, OLD), image(NEW, NEW), {6}),
        ("two writes ahead, of the same page", image(OLD, slot("0", 4)), image(NEW, slot("0110", 7)), {6, 7}),
        ("rewritten by a join, with what the home copy holds", WHOLE, image(slot("0100", 9), slot("0100", 9)), set()),
        ("and written once more", WHOLE, image(slot("0100", 9), slot("0110", 10)), {10}),
        ("in another epoch", WHOLE, image(STALE_EPOCH, STALE_EPOCH), set()),
        ("of the other copy a slot is damaged", WHOLE, image(None, slot("0110", 7)), {7}),
        ("the home copy has that page of another epoch only", image(STALE_EPOCH, STALE_EPOCH), WHOLE, set()),
        ("the home copy's page is damaged: nobody can tell", TORN, image(NEW, slot("0110", 7)), set()),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_how_far_another_copy_is_ahead(what: str, home: CopyImage, other: CopyImage, sequences: set[int]) -> None:
    assert ahead([COLUMN], home, other) == sequences, what


def test_bits_beyond_those_stored_are_in_doubt() -> None:
    assert fitted(frozenbitarray("01"), 4) == bitarray("0111")
    assert fitted(frozenbitarray("0110"), 3) == bitarray("011")
    assert read_page(COLUMN, 0, 6, WHOLE, [], settled=True)[0] == bitarray("010011")


def test_a_bitmap_is_its_pages_and_a_lost_page_costs_only_itself() -> None:
    home = CopyImage((None, None), {(3, 0): (OLD, NEW), (3, 2): (None, slot("00", 3))})
    bits, lost = read_bitmap(COLUMN, 10, 4, home, [], settled=False)
    assert (bits.to01(), lost) == ("0100" + "1111" + "00", 1)


def test_the_drl_is_the_union_of_what_all_have() -> None:
    others = [image(slot("0010", 5), slot("0001", 9)), image()]
    assert drl_union(COLUMN, 4, 4, WHOLE, others, settled=False) == bitarray("0101")


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (WHOLE, "0100"),
        (TORN, "1000"),
        (image(), "0000"),
        (LOST, "0000"),
        (image(None, None, damaged=True), "1111"),
        (image(STALE_EPOCH, None, damaged=True), "1111"),
        (image(STALE_EPOCH, STALE_EPOCH), "0000"),
    ],
    ids=["whole", "torn", "no page", "blank", "damaged", "damaged and stale", "stale"],
)
def test_a_bitmap_as_one_copy_alone_tells_it(known: CopyImage, expected: str) -> None:
    assert own_bitmap(COLUMN, 4, 4, known).to01() == expected


def test_what_a_volume_grew_by_is_in_doubt_where_no_page_has_it() -> None:
    short = slot("0000", 6)
    assert own_bitmap(COLUMN, 6, 6, image(short, short)).to01() == "000011"


def test_the_newest_record_of_a_copy() -> None:
    old, new = family_record(sequence=4), family_record(sequence=5)
    assert CopyImage((old, new)).record is CopyImage((new, old)).record is new
    assert CopyImage((None, old)).record is old and CopyImage((None, old)).torn
    assert CopyImage((None, None)).record is None and not CopyImage((old, new)).torn
