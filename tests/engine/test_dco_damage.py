"""The DCO damage matrix: which copies are hurt, and where -> what a start makes of it.

Plexes a and b are in use, c is away and misses regions 3 and 20; a page holds the bits of eight regions. Each row hurts
slots of the copies of H (the home copy), a and b, and starts the volume. Then every page that was hurt is whole again
in every copy in use, and c gets what it must: all copies are the same. A torn slot is what a crash leaves, so the
one that is left counts, though after a rot it may be an older one: of the DRL that names extents written long ago.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from fmrd.backing import dcofile
from fmrd.backing.protocol import DCO_BLOCK_BYTES
from fmrd.core.images import PageSlot
from fmrd.core.record import Record
from fmrd.dco import layout
from fmrd.dco.loading import Loaded, load
from fmrd.front.ctl.offline import read_dco
from tests.engine.rig import REGION, Rig, daemon

PAGE = 8
"""Regions in a page."""
MISSED, FIRST_PAGE = {3, 20}, set(range(PAGE))
SECTOR = 512
ROUNDS = 60


@dataclass(frozen=True)
class Row:
    copies: str
    """Of H, a and b."""
    what: str
    """map (the page of c's map that holds region 3), drl (the page of its extent), record, body (of a record, all but
    its header, which names the plex), or all (the whole copy).
    """
    slots: str
    """newest, older, or both."""
    left: str
    """How the volume was left: stopped, or killed with region 40 just written."""
    starts: str
    """yes, or the code of the refusal."""
    misses: set[int] = frozenset()  # type: ignore[assignment]  # read only
    """c, at the start."""
    states: str = "ACTIVE ACTIVE OFFLINE"

    def __str__(self) -> str:
        return f"{self.slots}_{self.what}_of_{self.copies}_{self.left}"


# fmt: off
EXACT, DOUBT = MISSED, MISSED | FIRST_PAGE
TABLE = [
    #   copies what      slots     left       starts          c misses
    Row("",    "map",    "both",   "stopped", "yes",          EXACT),
    Row("H",   "map",    "newest", "stopped", "yes",          EXACT),
    Row("H",   "map",    "older",  "stopped", "yes",          EXACT),
    Row("H",   "map",    "both",   "stopped", "yes",          EXACT),
    Row("ab",  "map",    "both",   "stopped", "yes",          EXACT),
    Row("Ha",  "map",    "both",   "stopped", "yes",          EXACT),
    Row("Hab", "map",    "older",  "stopped", "yes",          DOUBT),
    Row("Hab", "map",    "newest", "stopped", "yes",          DOUBT),
    Row("Hab", "map",    "both",   "stopped", "yes",          DOUBT),
    Row("Hab", "map",    "both",   "killed",  "yes",          DOUBT),
    Row("H",   "drl",    "both",   "stopped", "yes",          EXACT),
    Row("H",   "drl",    "both",   "killed",  "yes",          EXACT),
    Row("b",   "drl",    "newest", "stopped", "yes",          EXACT | {2}),
    Row("b",   "drl",    "both",   "stopped", "yes",          DOUBT),
    Row("ab",  "drl",    "older",  "killed",  "yes",          EXACT),
    Row("H",   "record", "newest", "stopped", "yes",          EXACT),
    Row("H",   "record", "older",  "stopped", "yes",          EXACT),
    Row("H",   "record", "newest", "killed",  "yes",          EXACT),
    Row("ab",  "record", "newest", "stopped", "yes",          EXACT),
    Row("a",   "body",   "both",   "stopped", "yes",          EXACT, "STALE ACTIVE OFFLINE"),
    Row("a",   "body",   "both",   "killed",  "yes",          EXACT, "STALE ACTIVE OFFLINE"),
    Row("ab",  "body",   "both",   "stopped", "plexes_changed"),
    # Whatever names a plex is gone with its record's header, and another disk might lie there: it is asked for.
    Row("a",   "record", "both",   "stopped", "yes",          EXACT, "STALE ACTIVE OFFLINE"),
    Row("a",   "all",    "both",   "stopped", "yes",          EXACT, "STALE ACTIVE OFFLINE"),
    Row("a",   "all",    "both",   "killed",  "yes",          EXACT, "STALE ACTIVE OFFLINE"),
    Row("H",   "record", "both",   "stopped", "home_damaged"),
    Row("H",   "all",    "both",   "stopped", "home_damaged"),
    Row("ab",  "record", "both",   "stopped", "plexes_changed"),
]
# fmt: on


REMEDIES: dict[str, Callable[[Rig], Awaitable[object]]] = {
    "home_damaged": lambda rig: rig.verbs.import_volume(paths=[str(rig.path("a")), str(rig.path("b"))]),
    "plexes_changed": lambda rig: rig.verbs.start(volume="data", accept="data-01"),
}
"""What the hint of the refusal says."""


class Copies:
    """The copies of the volume's DCO, while nobody has them open."""

    def __init__(self, directory: Path) -> None:
        self.paths = {
            "H": directory / "state" / "volumes" / "data.dco",
            "a": directory / "a.dco",
            "b": directory / "b.dco",
        }

    def load(self, name: str) -> tuple[Loaded, Record]:
        file = dcofile.open_file(str(self.paths[name]))
        assert file is not None
        try:
            loaded = load(file)
        finally:
            file.close()
        assert loaded.image.record is not None
        return loaded, loaded.image.record

    def spots(self, name: str, what: str, slots: str) -> list[tuple[int, int]]:
        """(offset, length) of what a row hurts there."""
        loaded, record = self.load(name)
        if what == "all":
            return [(0, self.paths[name].stat().st_size)]
        if what == "record":
            order = [loaded.record_slot, 1 - loaded.record_slot]
            return [(layout.record_offset(slot), layout.RECORD_SLOT_BYTES) for slot in _chosen(order, slots)]
        if what == "body":
            header, length = layout.HEADER_BYTES, layout.RECORD_SLOT_BYTES - layout.HEADER_BYTES
            return [(layout.record_offset(slot) + header, length) for slot in (0, 1)]
        column = record.volume.drl if what == "drl" else record.volume.plexes[2].map
        page = 0
        found = loaded.image.pages[column.index, page]
        order = sorted((0, 1), key=lambda slot: -_age(found[slot]))
        return [
            (layout.page_offset(column.index, page, slot, record.columns), DCO_BLOCK_BYTES)
            for slot in _chosen(order, slots)
        ]

    def tear(self, name: str, offset: int, random: Random) -> None:
        """Flip a bit there, or take the whole sector from somewhere else in the copy."""
        with self.paths[name].open("r+b") as file:
            if random.randrange(2):
                [byte] = os.pread(file.fileno(), 1, offset)
                os.pwrite(file.fileno(), bytes([byte ^ 1 << random.randrange(8)]), offset)
            else:
                other = os.pread(file.fileno(), SECTOR, offset // SECTOR * SECTOR ^ layout.RECORD_SLOT_BYTES)
                os.pwrite(file.fileno(), other, offset // SECTOR * SECTOR)

    def hurt(self, name: str, offset: int, length: int) -> None:
        """Every byte becomes another one."""
        with self.paths[name].open("r+b") as file:
            data = os.pread(file.fileno(), length, offset)
            os.pwrite(file.fileno(), bytes(byte ^ 0x5A for byte in data), offset)


def _age(slot: PageSlot | None) -> int:
    return slot.sequence if slot is not None else -1


def _chosen(order: list[int], slots: str) -> list[int]:
    return {"newest": order[:1], "older": order[1:], "both": order}[slots]


async def leave(directory: Path, how: str) -> None:
    async with daemon(directory) as rig:
        rig.registry.context.page_regions = PAGE
        await rig.make("abc", drl_extent_bytes=2 * REGION)
        await rig.write_regions(*range(64), byte=b"1")
        await rig.verbs.plex_off(volume="data", plex="data-03")
        await rig.write_regions(*MISSED, byte=b"2")
        await rig.service.mirror.clean()
        if how == "killed":
            await rig.write_regions(40, byte=b"3")
            rig.kill()


@pytest.mark.parametrize("row", TABLE, ids=str)
async def test_what_a_start_makes_of_it(tmp_path: Path, row: Row) -> None:
    await leave(tmp_path, row.left)
    copies = Copies(tmp_path)
    hurt = [(name, *spot) for name in row.copies for spot in copies.spots(name, row.what, row.slots)]
    for name, offset, length in hurt:
        copies.hurt(name, offset, length)
    for name in row.copies:
        if row.what in ("map", "drl"):
            assert [found["page"] for found in read_dco(str(copies.paths[name]))["damaged_pages"]] == [0]
    async with daemon(tmp_path) as rig:
        if row.starts != "yes":
            failure = rig.registry.units["data"].failure
            assert failure is not None and failure.code == row.starts
            await REMEDIES[row.starts](rig)
        else:
            killed = {40, 41} if row.left == "killed" else set()
            assert await rig.states() == row.states
            assert set(rig.plex("c").map.bits.search(1)) == row.misses | killed
        await comes_to_rest(rig, unknown=row.what in ("record", "all"))
    for name in copies.paths:
        loaded, _ = copies.load(name)
        assert not loaded.image.damaged and None not in loaded.image.records, "what was hurt is whole again"


async def comes_to_rest(rig: Rig, *, unknown: bool = False) -> None:
    """``unknown``: nothing may be left that names a plex, so that a full copy has to be asked for."""
    await rig.end_all()
    await rig.verbs.plex_on(volume="data", plex="data-03")
    failed = (await rig.verbs.recover(volume="data"))["failed"]
    assert {each["code"] for each in failed} <= ({"refused_unknown_plex"} if unknown else set())
    for each in failed:
        await rig.verbs.plex_att(volume="data", plex=each["plex"], full=True)
    await rig.end_all()
    assert await rig.states() == "ACTIVE ACTIVE ACTIVE"
    assert [await rig.data.read(region * REGION + 512, 1) for region in (0, 3, 20)] == [b"1", b"2", b"2"]
    await rig.stop()
    assert rig.same("a", "b", "c")


async def test_a_flipped_bit_or_a_torn_sector_anywhere_in_one_copy_changes_nothing(tmp_path: Path) -> None:
    """One after the other, on the same volume: the other copies win, and what was hurt is written anew. What a copy of
    a plex alone may have known is its DRL: of a page of that, the regions count as dirty.
    """
    random = Random(1)
    await leave(tmp_path, "stopped")
    copies = Copies(tmp_path)
    seen: set[str] = set()
    missed = set(MISSED)
    for _ in range(ROUNDS):
        name = random.choice("Hab")
        _, record = copies.load(name)
        pages = layout.page_offset(0, 0, 0, record.columns)
        offset = random.choice([random.randrange(4096), layout.RECORD_SLOT_BYTES + random.randrange(4096),
                                pages + random.randrange(copies.paths[name].stat().st_size - pages)])  # fmt: skip
        copies.tear(name, offset, random)
        damaged = read_dco(str(copies.paths[name]))["damaged_pages"]
        for lost in damaged if name != "H" else []:
            if lost["column"] == record.volume.drl.index:
                missed |= set(range(lost["page"] * PAGE, (lost["page"] + 1) * PAGE))
        if any(not slot for slot in read_dco(str(copies.paths[name]))["slots"]):
            seen.add("a record")
        if damaged:
            seen.add("a page")
        async with daemon(tmp_path) as rig:
            assert await rig.states() == "ACTIVE ACTIVE OFFLINE", (name, offset)
            assert MISSED <= set(rig.plex("c").map.bits.search(1)) <= missed, (name, offset)
        for each in copies.paths:
            loaded, _ = copies.load(each)
            assert not loaded.image.damaged and None not in loaded.image.records, (name, offset)
    assert seen == {"a record", "a page"}
    async with daemon(tmp_path) as rig:
        await comes_to_rest(rig)
