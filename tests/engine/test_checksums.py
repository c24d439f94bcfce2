"""What verify remembers: with two copies it tells the liar, for exactly as long as nobody wrote there."""

import os
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from fmrd.backing.protocol import Notes
from fmrd.engine.verify import one_pass, sums_file
from fmrd.engine.verify.sums_file import decoded, encoded
from fmrd.errors import Failed
from tests.engine.rig import REGION, SIZE, Json, Rig, daemon
from tests.engine.test_verifying import rot, sound, verify
from tests.waiting import until

LENGTH = 4 * SIZE
"""Four extents of 64 regions."""


@asynccontextmanager
async def verified(directory: Path) -> AsyncIterator[Rig]:
    """Two plexes of random data, settled, and verified once."""
    async with daemon(directory) as rig:
        await rig.make("ab", size_bytes=LENGTH)
        await rig.data.write(0, sound(LENGTH))
        await rig.data.flush()
        await rig.service.mirror.clean()
        assert (await verify(rig))["mismatches"] == []
        yield rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with verified(tmp_path) as running:
        yield running


def sums(directory: Path) -> Path:
    return directory / "state" / "volumes" / "data.sums"


async def found(rig: Rig) -> Json:
    [mismatch] = (await verify(rig))["mismatches"]
    return dict(mismatch)


@pytest.mark.parametrize("letter", "ab")
async def test_of_two_copies_the_one_that_changed_is_wrong(rig: Rig, letter: str) -> None:
    before = rig.bytes_of("a")
    rot(rig, letter, 5 * REGION + 1000)
    mismatch = await found(rig)
    assert (mismatch["plexes"], mismatch["proven"]) == ([{"a": "data-01", "b": "data-02"}[letter]], True)
    assert (mismatch["offset_bytes"], mismatch["length_bytes"]) == (5 * REGION + 1000, 6)
    await verify(rig, repair=True)
    assert rig.bytes_of("a") == rig.bytes_of("b") == before


async def test_without_an_earlier_verify_nobody_can_tell(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        rot(rig, "b", 1000)
        mismatch = await found(rig)
        assert (mismatch["plexes"], mismatch["proven"]) == (["data-01", "data-02"], False)
        assert sums(tmp_path).stat().st_mode & 0o777 == 0o600


async def stop(rig: Rig) -> None:
    pass


async def written(rig: Rig) -> None:
    await rig.write_regions(5)


async def written_and_settled(rig: Rig) -> None:
    await rig.write_regions(5)
    await rig.service.mirror.clean()


async def zeroed_and_settled(rig: Rig) -> None:
    await rig.data.make_zero(5 * REGION, REGION, punch=True)
    await rig.service.mirror.clean()


async def restored(rig: Rig) -> None:
    await rig.verbs.snapstart(volume="data", path=str(rig.path("s")))
    await rig.verbs.snapwait(volume="data")
    await rig.verbs.snapshot(volumes=["data"])
    await rig.write_regions(5, volume="SNAP-data")
    await rig.verbs.snapback(snapshot="SNAP-data", from_replica=True)
    await rig.end_all()
    await rig.verbs.snapabort(volume="data")


async def rewritten_and_verified(rig: Rig) -> None:
    await written_and_settled(rig)
    await verify(rig)


async def repaired_by_hand(rig: Rig) -> None:
    rot(rig, "b", 5 * REGION + 1000)
    await verify(rig, from_plex="data-02")


WHAT_HAPPENS: list[tuple[Callable[[Rig], Awaitable[object]], bool]] = [
    (stop, True),
    (written, False),
    (written_and_settled, False),
    (zeroed_and_settled, False),
    (restored, False),
    (rewritten_and_verified, True),
    (repaired_by_hand, False),
]


@pytest.mark.parametrize("end", ["goes on", "stopped", "killed"])
@pytest.mark.parametrize(("happens", "proven"), WHAT_HAPPENS)
async def test_what_it_remembers_counts_until_somebody_writes_there(
    tmp_path: Path, happens: Callable[[Rig], Awaitable[object]], proven: bool, end: str
) -> None:
    """Region 5 rots after all that; is it proven whose fault that is?"""
    async with verified(tmp_path) as rig:
        await happens(rig)
        if end == "goes on":
            rot(rig, "b", 5 * REGION + 3)
            assert (await found(rig))["proven"] is proven
            return
        if end == "killed":
            rig.kill()
    async with daemon(tmp_path) as rig:
        await rig.end_all()
        rot(rig, "b", 5 * REGION + 3)
        assert (await found(rig))["proven"] is proven
        rot(rig, "a", 200 * REGION)  # in an extent that nobody wrote to
        others = [m for m in (await verify(rig))["mismatches"] if m["offset_bytes"] >= 64 * REGION]
        assert [m["proven"] for m in others] == [True]


async def test_a_repair_leaves_what_is_known_of_the_regions_beside_it(rig: Rig) -> None:
    for region in (5, 6, 60):
        rot(rig, "ab"[region % 2], region * REGION)
    assert [m["repaired"] for m in (await verify(rig, repair=True))["mismatches"]] == [True] * 3


@pytest.mark.parametrize("changes", [written, written_and_settled, restored])
async def test_a_copy_that_lost_a_change_is_not_taken_for_the_right_one(
    rig: Rig, changes: Callable[[Rig], Awaitable[object]]
) -> None:
    """It still is what it was at the last verify; the other one is not, and is right."""
    old = rig.bytes_of("b")[5 * REGION : 6 * REGION]
    await changes(rig)
    rot(rig, "b", 5 * REGION, old)
    assert (await found(rig))["proven"] is False


@pytest.mark.parametrize("settled", [False, True])
async def test_what_was_written_after_it_was_read_is_not_recorded(rig: Rig, settled: bool) -> None:
    checksums, regions = rig.service.checksums, range(5, 7)
    glance, content = checksums.glance, await rig.data.read(5 * REGION, 2 * REGION)
    await rig.write_regions(5)
    if settled:
        await rig.service.mirror.clean()
    await checksums.record(regions, content, glance)
    await rig.service.mirror.clean()
    assert await checksums.known(regions) == [None, None]
    await checksums.record(regions, content, checksums.glance)
    assert await checksums.known(regions) == [zlib.crc32(content[:REGION]), zlib.crc32(content[REGION:])]


@pytest.mark.parametrize("how", ["cut", "flipped", "another volume's", "another past's"])
async def test_what_is_not_understood_or_not_ours_counts_for_nothing(tmp_path: Path, how: str) -> None:
    path = sums(tmp_path)
    async with verified(tmp_path) as rig:
        await rig.stop()
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[:40])
    elif how == "flipped":
        content[40] ^= 1
        path.write_bytes(content)
    elif how == "another past's":
        header = encoded(decoded(bytes(content)) | {"lineage": "elsewhere"})
        path.write_bytes(header + content[len(header) :])
    else:
        async with daemon(tmp_path) as rig:
            await rig.verbs.remove(volume="data")
            await rig.make("ab", force=True)
            path.write_bytes(content)
    async with daemon(tmp_path) as rig:
        if rig.registry.find("data") is None:
            await rig.verbs.start(volume="data")
        await rig.end_all()
        rot(rig, "b", 1000)
        assert (await found(rig))["proven"] is False


async def test_one_that_was_to_stop_and_goes_on_still_wipes_them(tmp_path: Path) -> None:
    async with verified(tmp_path) as rig:
        old = rig.bytes_of("b")[5 * REGION : 6 * REGION]
        await rig.service.checksums.close()
        await rig.write_regions(5)
        await rig.service.mirror.clean()
    async with daemon(tmp_path) as rig:
        rot(rig, "b", 5 * REGION, old)
        assert (await found(rig))["proven"] is False


async def test_what_cannot_be_read_at_a_start_is_not_believed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with verified(tmp_path) as rig:
        old = rig.bytes_of("b")[5 * REGION : 6 * REGION]
    real = sums_file.read_header
    failed: list[Notes] = []

    def once(file: Notes) -> dict[str, Any]:
        if not failed:
            failed.append(file)
            raise OSError(5, "Input/output error")
        return real(file)

    monkeypatch.setattr(sums_file, "read_header", once)
    async with daemon(tmp_path) as rig:
        await until(lambda: bool(failed))
        await rig.write_regions(5)
        await rig.service.mirror.clean()
        rot(rig, "b", 5 * REGION, old)
        assert (await found(rig))["proven"] is False


async def test_a_volume_that_is_removed_takes_them_along(rig: Rig) -> None:
    await rig.verbs.remove(volume="data")
    assert not sums(rig.directory).exists()


async def test_they_survive_growth_but_for_the_region_that_became_longer(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab", size_bytes=LENGTH + 4096)
        await verify(rig)
        await rig.verbs.grow(volume="data", size_bytes=2 * LENGTH)
        rot(rig, "b", 3)
        rot(rig, "b", LENGTH + 5)
        assert [m["proven"] for m in (await verify(rig))["mismatches"]] == [True, False]


async def test_a_state_directory_that_cannot_wipe_them_keeps_the_mark(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    await rig.write_regions(5)
    file = rig.service.checksums._file
    assert file is not None
    with monkeypatch.context() as patch:
        patch.setattr(file, "write", fails)
        patch.setattr(rig.host, "remove_checksums", fails)
        with pytest.raises(Failed, match="home_failed"):
            await rig.service.mirror.clean()
        assert rig.service.volume.drl.count == 1
    await rig.service.mirror.clean()
    assert rig.service.volume.drl.count == 0


async def test_writes_at_random_never_make_it_blame_the_wrong_copy(rig: Rig) -> None:
    """Writes, cleanings and verifies side by side; after each round something rots, and what is proven is right."""
    random = Random(1)
    for _ in range(12):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(verify, rig)
            for _ in range(random.randrange(20)):
                await rig.data.write(random.randrange(LENGTH // 512) * 512, os.urandom(512))
                if not random.randrange(4):
                    await rig.service.mirror.clean()
        await rig.data.flush()
        truth = rig.bytes_of("a")
        assert truth == rig.bytes_of("b")
        letter, at = random.choice("ab"), random.randrange(LENGTH - 8)
        rot(rig, letter, at, bytes(byte ^ 0xFF for byte in truth[at : at + 8]))
        for mismatch in (await verify(rig))["mismatches"]:
            assert not mismatch["proven"] or mismatch["plexes"] == [{"a": "data-01", "b": "data-02"}[letter]]
        rot(rig, letter, at, truth[at : at + 8])


@pytest.mark.parametrize("end", ["stopped", "killed"])
async def test_a_verify_goes_on_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """With what it had found, and what it was told."""
    monkeypatch.setattr(one_pass, "NOTE_SECONDS", 0.0)
    async with verified(tmp_path) as rig:
        for region in (3, 250):
            rot(rig, "b", region * REGION)
        task = (await rig.verbs.verify(volume="data", repair=True, rate=1))["task"]
        await until(lambda: rig.registry.context.tasks.find(task["id"]).done_regions > 0)
        if end == "killed":
            await until(lambda: b'"next":16' in sums(tmp_path).read_bytes()[:4096])
            rig.kill()
    async with daemon(tmp_path) as rig:
        await until(lambda: len(rig.registry.context.tasks.all()) > 0)
        [task] = [t.json() for t in rig.registry.context.tasks.all() if t.type == "VERIFY"]
        assert "from region 16 on" in task["reason"]["message"] and task["rate_bytes_per_second"] is not None
        await rig.verbs.task_set(id=task["id"], rate=0)
        assert (await rig.end(task))["done_regions"] == LENGTH // REGION
        report = (await rig.verbs.verify_report(id=task["id"]))["mismatches"]
        assert [(m["offset_bytes"] // REGION, m["repaired"]) for m in report] == [(3, True), (250, True)]
    async with daemon(tmp_path) as rig:
        await rig.end_all()
        assert not [t for t in rig.registry.context.tasks.all() if t.type == "VERIFY"], "it has ended"
        assert rig.same("a", "b")


async def test_one_that_was_aborted_does_not_go_on(tmp_path: Path) -> None:
    async with verified(tmp_path) as rig:
        task = (await rig.verbs.verify(volume="data", rate=1))["task"]
        await rig.verbs.task_abort(id=task["id"])
    async with daemon(tmp_path) as rig:
        assert await rig.service.checksums.noted() is None
