"""Two disks that fail in different places: what either holds is served, what neither can give is listed, and healed."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fmrd.errors import Failed, Refused
from tests.engine.rig import REGION, SIZE, Json, Rig, daemon

BLOCK = 4096


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with daemon(tmp_path) as running:
        await running.make("ab")
        yield running


@contextmanager
def unreadable(rig: Rig, letters: str, block: int) -> Iterator[None]:
    with ExitStack() as stack:
        for letter in letters:
            within = range(block * BLOCK, (block + 1) * BLOCK)
            stack.enter_context(rig.host.failing(rig.path(letter), "pread", within=within))
        yield


async def lost(rig: Rig) -> list[Json]:
    [volume] = (await rig.verbs.print(volume="data"))["volumes"]
    return volume["lost"]


async def test_each_is_read_where_the_other_fails(rig: Rig) -> None:
    content = os.urandom(SIZE)
    await rig.data.write(0, content)
    with unreadable(rig, "a", 3), unreadable(rig, "b", 40):
        assert await rig.data.read(0, 64 * BLOCK) == content[: 64 * BLOCK]
        assert await rig.data.read(3 * BLOCK, BLOCK) == content[3 * BLOCK : 4 * BLOCK]
        assert await rig.data.read(40 * BLOCK, BLOCK) == content[40 * BLOCK : 41 * BLOCK]
    assert await lost(rig) == [] and await rig.states() == "ACTIVE ACTIVE"


@pytest.mark.parametrize(
    ("offset", "length"), [(3 * BLOCK + 100, BLOCK), (3 * BLOCK - 1, BLOCK + 2), (0, 5 * BLOCK + 7)]
)
async def test_a_read_that_begins_anywhere_is_pieced_together(rig: Rig, offset: int, length: int) -> None:
    content = os.urandom(SIZE)
    await rig.data.write(0, content)
    with unreadable(rig, "a", 3), unreadable(rig, "b", 4), unreadable(rig, "b", 2):
        assert await rig.data.read(offset, length) == content[offset : offset + length]


async def test_what_nobody_can_give_is_listed_until_it_is_written_anew(rig: Rig) -> None:
    with unreadable(rig, "ab", 3):
        with pytest.raises(Failed, match="io_error"):
            await rig.data.read(0, REGION)  # more than what is lost, as a readahead
        await rig.data.read(0, 3 * BLOCK)
        await rig.data.read(4 * BLOCK, REGION - 4 * BLOCK)
        assert await lost(rig) == [{"offset_bytes": 3 * BLOCK, "length_bytes": BLOCK}]
        await rig.data.write(3 * BLOCK, b"n" * (BLOCK // 2))
        assert await lost(rig) == [{"offset_bytes": 3 * BLOCK + BLOCK // 2, "length_bytes": BLOCK // 2}]
        await rig.data.write(3 * BLOCK, b"n" * BLOCK)
        assert await lost(rig) == []
    assert await rig.data.read(3 * BLOCK, BLOCK) == b"n" * BLOCK


async def test_what_can_be_read_again_is_not_lost(rig: Rig) -> None:
    with unreadable(rig, "ab", 3), pytest.raises(Failed, match="io_error"):
        await rig.data.read(3 * BLOCK, BLOCK)
    assert len(await lost(rig)) == 1
    await rig.data.read(3 * BLOCK, BLOCK)
    assert await lost(rig) == []


async def test_the_last_copy_of_what_the_other_cannot_read_is_not_given_up(rig: Rig) -> None:
    """b fails everywhere, a in one block: b goes only where a is durable, and what a cannot give is lost, not a."""
    await rig.data.write(0, os.urandom(SIZE))
    await rig.data.flush()
    await rig.service.mirror.clean()
    with unreadable(rig, "a", 3), rig.host.failing(rig.path("b"), "pwrite"):
        await rig.write_regions(7)
        assert await rig.states() == "ACTIVE IOFAIL"
        with pytest.raises(Failed, match="io_error"):
            await rig.data.read(3 * BLOCK, BLOCK)
        with pytest.raises(Refused, match="last_plex"):
            await rig.det("a")
    assert await rig.states() == "ACTIVE IOFAIL"
