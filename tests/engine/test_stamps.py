"""How a plex was left, and what becomes of it where somebody else had it meanwhile."""

import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fmrd.backing import libc
from fmrd.core.stamps import HEAD_BYTES, Piece, Stamp
from fmrd.dco.layout import RECORD_SLOT_BYTES
from fmrd.errors import Refused
from tests.backing.disks import loop_device, run
from tests.engine.faulty import FaultyBacking, Operation
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.waiting import until

DISK = 2 * SIZE + (8 << 20)


def overwrite(path: Path, offset: int, data: bytes = b"elsewhere") -> None:
    """As another host would, or a mount: all of it reaches the disk, and a file keeps its times."""
    status = os.stat(path)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if not path.is_block_device():
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


async def left_behind(rig: Rig, letter: str = "b") -> Stamp:
    """It is let go of, and how is recorded."""
    plex = rig.plex(letter)
    await rig.service.releaser.wait(plex)
    record = rig.service.running.home.record
    found = record.volume.plex(plex.uuid) if record is not None else None
    assert found is not None and plex.stamp is not None and found.stamp == plex.stamp
    return plex.stamp


@pytest.fixture
async def devices(tmp_path: Path) -> AsyncIterator[Rig]:
    with loop_device(tmp_path, DISK, "one.img") as one, loop_device(tmp_path, DISK, "two.img") as two:
        (tmp_path / "a").symlink_to(one)
        (tmp_path / "b").symlink_to(two)
        async with daemon(tmp_path) as rig:
            await rig.make(size_bytes=2 * SIZE)
            await rig.end_all()
            yield rig


@pytest.mark.parametrize("offset", [1024, HEAD_BYTES - 5, 0])
async def test_a_device_that_was_written_elsewhere_is_copied_in_full(devices: Rig, offset: int) -> None:
    rig = devices
    await rig.write_regions(1, 20)
    await rig.det("b")
    await rig.write_regions(0, 30)
    assert (await rig.would("b"))["reason"]["code"] == "fast"
    overwrite(rig.path("b"), offset)
    task = await rig.end(await rig.att("b"))
    assert task["reason"]["code"] == "full_backing_changed"
    assert "written elsewhere" in task["reason"]["message"]
    await rig.stop()


async def test_a_device_that_nobody_wrote_to_is_fast_over_a_restart(tmp_path: Path) -> None:
    with loop_device(tmp_path, DISK, "one.img") as one, loop_device(tmp_path, DISK, "two.img") as two:
        (tmp_path / "a").symlink_to(one)
        (tmp_path / "b").symlink_to(two)
        async with daemon(tmp_path) as rig:
            await rig.make()
            await rig.end_all()
            await rig.write_regions(1, 20)
            await rig.verbs.set(volume="data", settings={"auto_attach": "off"})
            await rig.det("b")
            await rig.write_regions(0, 1, 2)
        async with daemon(tmp_path) as rig:
            assert (await rig.end(await rig.att("b")))["reason"]["code"] == "fast"
            await rig.stop()
            assert rig.path("a").read_bytes()[:SIZE] == rig.path("b").read_bytes()[:SIZE]


async def test_a_device_written_while_its_volume_was_stopped_is_seen_at_the_start(devices: Rig) -> None:
    rig = devices
    await rig.write_regions(1)
    await rig.stop()
    overwrite(rig.path("b"), 1024)
    await rig.verbs.start(volume="data")
    await rig.end_all()
    await until(lambda: rig.plex("b").state == "ACTIVE")
    assert (await rig.verbs.task_list(all=True))["tasks"][-1]["reason"]["code"] == "full_backing_changed"
    await rig.stop()
    for letter in "ab":
        overwrite(rig.path(letter), 1024)
    with pytest.raises(Refused, match="plexes_changed"):
        await rig.verbs.start(volume="data")
    await rig.verbs.start(volume="data", accept="data-01")
    await rig.end_all()
    await rig.stop()


async def test_what_the_plex_misses_may_change(devices: Rig) -> None:
    """Its disk failed while that was written: nobody knows what lies there, and it is copied anyhow."""
    rig = devices
    await rig.write_regions(3)
    await rig.service.mirror.clean()
    with rig.host.failing(rig.path("b"), "pwrite"):
        await rig.write_regions(5)
    left = await left_behind(rig)
    assert not any(each.offset // REGION in rig.plex("b").map for each in left.content)
    overwrite(rig.path("b"), 5 * REGION)
    assert (await rig.end(await rig.att("b")))["reason"]["code"] == "fast"
    await rig.stop()


async def test_a_file_whose_times_were_put_back_is_seen_by_its_content(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    assert (await rig.would("b"))["reason"]["code"] == "nothing_missed"
    overwrite(rig.path("b"), 1024)
    decision = await rig.would("b")
    assert decision["reason"]["code"] == "full_backing_changed" and "at 0" in decision["reason"]["message"]


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path], None]:
    """The file system here makes up inode numbers, as exFAT does. Returns what a remount does to a file."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(libc, "INVENTED_INODES", {libc.file_system(descriptor)})
    os.close(descriptor)

    def remount(path: Path) -> None:
        before = os.stat(path)
        shutil.copy2(path, path.with_suffix(".new"))
        os.utime(path.with_suffix(".new"), ns=(before.st_atime_ns, before.st_mtime_ns))
        os.rename(path.with_suffix(".new"), path)
        assert os.stat(path).st_ino != before.st_ino

    return remount


async def test_plexes_on_exfat_start_and_return_after_a_remount(
    tmp_path: Path, invented: Callable[[Path], None]
) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make()
        await rig.write_regions(1, 40)
    for letter in "ab":
        invented(tmp_path / letter)
    async with daemon(tmp_path) as rig:
        assert await rig.states() == "ACTIVE ACTIVE"
        assert not (await rig.verbs.task_list(all=True))["tasks"]
        await rig.det("b")
        await rig.write_regions(2)
        invented(rig.path("b"))
        assert (await rig.end(await rig.att("b")))["reason"]["code"] == "fast"
        await rig.det("b")
        invented(rig.path("b"))
        overwrite(rig.path("b"), 3 * REGION)
        assert (await rig.would("b"))["reason"]["code"] == "full_backing_changed"


async def test_another_file_is_another_where_inodes_are_honest(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    shutil.copy2(rig.path("b"), rig.path("c"))
    os.utime(rig.path("c"), ns=(1, os.stat(rig.path("b")).st_mtime_ns))
    os.rename(rig.path("c"), rig.path("b"))
    decision = await rig.would("b")
    assert decision["reason"]["code"] == "full_backing_changed" and "another file" in decision["reason"]["message"]


def looks(monkeypatch: pytest.MonkeyPatch, path: Path, mtime_ns: int, ctime_ns: int) -> None:
    """Its file system came back with those times."""
    real = FaultyBacking.stamp

    def stamp(self: FaultyBacking, pieces: Sequence[Piece] = ()) -> Stamp:
        found = real(self, pieces)
        return replace(found, mtime_ns=mtime_ns, ctime_ns=ctime_ns) if self.path == str(path) else found

    monkeypatch.setattr(FaultyBacking, "stamp", stamp)


async def test_a_disk_that_died_while_it_was_written_returns_by_its_map(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last times of its file never reached it, so an earlier one is no sign of others."""
    await rig.make(size_bytes=4 * SIZE)
    await rig.write_regions(1)
    before = rig.service.mirror.opened[rig.plex("b").uuid].opened_as
    assert before is not None
    opened = before.mtime_ns
    await rig.service.mirror.clean()
    with rig.host.failing(rig.path("b"), "pwrite", "fdatasync"), rig.host.failing(rig.path("b.dco"), "dco_write"):
        await rig.write_regions(5)
        left = await left_behind(rig)
    assert left.since_ns == opened and opened < left.mtime_ns <= left.ctime_ns
    for mtime_ns, ctime_ns, code in (
        (opened, opened, "fast"), (left.mtime_ns, left.ctime_ns, "fast"), (opened - 1, opened - 1, None),
        (opened, left.ctime_ns + 1, None), (left.mtime_ns + 1, left.mtime_ns + 1, None),
    ):  # fmt: skip
        with monkeypatch.context() as patched:
            looks(patched, rig.path("b"), mtime_ns, ctime_ns)
            assert (await rig.would("b"))["reason"]["code"] == (code or "full_backing_changed")
    with monkeypatch.context() as patched:
        looks(patched, rig.path("b"), opened, opened)
        task = await rig.end(await rig.att("b"))
    assert task["reason"]["code"] == "fast" and task["total_bytes"] == SIZE
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_device_that_was_pulled_is_known_by_what_the_others_hold(devices: Rig) -> None:
    """It cannot be read any more; what is written meanwhile says nothing of it."""
    rig = devices
    await rig.write_regions(0, 3)
    await rig.service.mirror.clean()
    written: list[int] = []

    def write(operation: Operation) -> None:
        if operation.name == "look" and operation.path == str(rig.path("a")) and not written:
            written.append(0)
            rig.plex("b").map.mark(range(9, 10))  # as choose_targets does

    rig.host.watch.hooks.append(write)
    with rig.host.failing(rig.path("b"), "pwrite", "fdatasync", "look"):
        await rig.write_regions(100)
        left = await left_behind(rig)
    held = {each.offset // REGION for each in left.content}
    assert written and {0, 3, 8} < held and not held & {9, 100}
    await rig.write_regions(0)
    assert (await rig.would("b"))["reason"]["code"] == "fast"
    overwrite(rig.path("b"), 1024)
    assert (await rig.would("b"))["reason"]["code"] == "full_backing_changed"


async def test_what_is_written_to_a_plex_before_its_join_is_recorded_is_no_sign_of_others(tmp_path: Path) -> None:
    """Killed between the record that still names it closed and the next one: its bytes are fmrd's own by then."""
    home = str(tmp_path / "state" / "volumes" / "data.dco")
    async with daemon(tmp_path) as rig:
        await rig.make()
        await rig.verbs.set(volume="data", settings={"auto_attach": "off"})
        await rig.det("b")
        assert any(each.offset == 3 * REGION for each in (await left_behind(rig)).content)
        await rig.write_regions(0)

        def no_record(operation: Operation) -> None:
            record = operation.name == "dco_write" and operation.offset < 2 * RECORD_SLOT_BYTES
            if record and operation.path == home and rig.plex("b").is_open:
                raise OSError(errno.EIO, "cut off")

        rig.host.watch.hooks.append(no_record)
        await rig.att("b")
        await rig.write_regions(3)
        assert rig.host.watch.seen("pwrite", str(rig.path("b"))), "it takes part"
        rig.kill()
    async with daemon(tmp_path) as rig:
        assert await rig.states() == "ACTIVE STALE", "no record says that it joined"
        assert (await rig.end(await rig.att("b")))["reason"]["code"] == "fast"
        await rig.stop()
        assert rig.same("a", "b")


async def test_the_time_of_change_of_an_orderly_parting_is_on_the_disk(rig: Rig) -> None:
    await rig.make()
    await rig.write_regions(1)
    await rig.det("b")
    left = rig.plex("b").stamp
    assert left is not None and left.since_ns is None


async def test_a_file_that_others_cut_gets_no_stamp(rig: Rig) -> None:
    """Found at the last fsync. It would be as it was left when it comes back, else."""
    await rig.make()
    await rig.write_regions(1)
    with rig.host.failing(rig.path("b"), "pwrite"):
        os.truncate(rig.path("b"), SIZE // 2)
        await rig.write_regions(2)
        await rig.service.releaser.wait(rig.plex("b"))
    assert rig.plex("b").stamp is None
    assert (await rig.would("b"))["reason"]["code"] == "full_backing_changed"


async def test_what_cannot_be_read_of_a_plex_is_asked_of_another(devices: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails is asked for one piece, since each may take it long."""
    rig = devices
    asked = []

    def pread(offset: int, length: int) -> bytes:
        asked.append(offset)
        raise OSError(5, "it cannot be read")

    backing = rig.service.mirror.opened[rig.plex("b").uuid].backing
    assert isinstance(backing, FaultyBacking)
    monkeypatch.setattr(backing.inner, "pread", pread)
    await rig.det("b")
    assert (await left_behind(rig)).content and set(asked) == {0}
    assert (await rig.would("b"))["reason"]["code"] == "nothing_missed"


async def test_a_device_that_became_longer_carries_its_dco_where_it_was(tmp_path: Path) -> None:
    """An LV was extended; the locator lay at its old end. Afterwards there is one at the new end, too."""
    with loop_device(tmp_path, DISK, "one.img") as one, loop_device(tmp_path, DISK, "two.img") as two:
        (tmp_path / "a").symlink_to(one)
        (tmp_path / "b").symlink_to(two)
        async with daemon(tmp_path) as rig:
            await rig.make()
            await rig.end_all()
            await rig.write_regions(1, 20)
            await rig.det("b")
            await rig.write_regions(2)
        for name, device in (("one.img", one), ("two.img", two)):
            os.truncate(tmp_path / name, 2 * DISK)
            run("losetup", "--set-capacity", device)
        async with daemon(tmp_path) as rig:
            await until(lambda: rig.plex("b").state == "ACTIVE")
            *_, task = [t for t in (await rig.verbs.task_list(all=True))["tasks"] if t["plex"] == "data-02"]
            assert task["reason"]["code"] == "fast"
            assert rig.host.tail_bytes(one) == rig.host.tail_bytes(two) > DISK, "without being told where"
            await rig.write_regions(3)
            await rig.stop()
            assert rig.path("a").read_bytes()[:SIZE] == rig.path("b").read_bytes()[:SIZE]
