"""Two things at once that seldom meet: a verb and a stop, a verb and a failure, a late call, a join that fails."""

import errno
import fcntl
import os
import shutil
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from fmrd.core.states import PlexState
from fmrd.engine.opening import files
from fmrd.errors import Failed, Refused
from tests.engine.faulty import FaultyBacking, Hang
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.waiting import until

SOON = 0.8
"""An io_timeout for disks that hang."""


def home_of(rig: Rig) -> Path:
    return rig.directory / "state" / "volumes" / "data.dco"


def is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


# A plex leaves


async def test_a_read_of_many_parts_does_without_a_plex_that_leaves_meanwhile(rig: Rig) -> None:
    await rig.make("abc", rdpol="prefer:data-02")
    await rig.data.write(3 * REGION, b"three" + bytes(REGION - 5) + b"four")
    await rig.data.flush()
    for letter, hole in (("a", 4), ("b", 3), ("c", 3)):
        rig.plex(letter).map.mark(range(hole, hole + 1))
    found: list[bytes] = []

    async def read() -> None:
        found.append(await rig.data.read(3 * REGION, REGION + 4))

    async with trio.open_nursery() as nursery:
        with rig.host.hanging(rig.path("a"), "pread") as hang:
            nursery.start_soon(read)
            await until(lambda: hang.waiting == 1)
            await rig.det("b")
            assert not is_locked(rig.path("b"))
    assert found[0].startswith(b"three") and found[0].endswith(b"four")


async def test_a_plex_that_fails_while_it_goes_off_line_is_recorded_off_line(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make()
        with rig.host.hanging(rig.path("b"), "fdatasync"):
            await rig.verbs.plex_off(volume="data", plex="data-02")
            assert await rig.states() == "ACTIVE OFFLINE"
            rig.kill()
    async with daemon(tmp_path) as rig:
        assert await rig.states() == "ACTIVE OFFLINE"


async def test_a_plex_whose_last_call_hangs_is_let_go_of_when_it_has_landed(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make()
        with rig.host.hanging(rig.path("b"), "fdatasync") as hang:
            with rig.host.failing(rig.path("b"), "pwrite"):
                await rig.write_regions(3)
            await until(lambda: hang.waiting == 1 and rig.service.running.home.lanes[rig.plex("b").uuid].data.hung == 1)
            assert is_locked(rig.path("b"))
            hang.let_go()
            await until(lambda: not is_locked(rig.path("b")))


# The last plex hangs, and stays


async def test_no_write_is_acknowledged_that_a_late_one_could_overwrite(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make("a")
        lane = rig.service.running.home.lanes[rig.plex("a").uuid].data
        with rig.host.hanging(rig.path("a"), "pwrite", first_only=True) as hang:
            with pytest.raises(Failed, match="io_error"):
                await rig.data.write(3 * REGION, b"old" * 1000)
            with pytest.raises(Failed, match="may land yet"):
                await rig.data.write(3 * REGION + 2999, b"new" * 1000)
            await rig.data.write(3 * REGION + 3000, b"beside")
            hang.let_go()
            await until(lambda: not lane.outstanding)
            await rig.data.write(3 * REGION, b"new" * 1000)
        assert await rig.data.read(3 * REGION, 3006) == b"new" * 1000 + b"beside"


async def test_what_may_land_yet_is_not_read_as_if_it_were_settled(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make("a")
        await rig.data.write(3 * REGION, b"old" * 1000)
        lane = rig.service.running.home.lanes[rig.plex("a").uuid].data
        with rig.host.hanging(rig.path("a"), "pwrite", first_only=True) as hang:
            with pytest.raises(Failed, match="io_error"):
                await rig.data.write(3 * REGION, b"new" * 500)
            for offset, length in ((3 * REGION, 3000), (3 * REGION + 1499, 1), (2 * REGION, 2 * REGION)):
                with pytest.raises(Failed, match="io_error"):
                    await rig.data.read(offset, length)
            assert await rig.data.read(3 * REGION + 1500, 3) == b"old", "what lies beside it is settled"
            assert await rig.data.seek(3 * REGION, data=True) == 3 * REGION
            hang.let_go()
            await until(lambda: not lane.outstanding)
        assert await rig.data.read(3 * REGION, 1503) == b"new" * 500 + b"old"


async def test_a_write_that_may_land_yet_stays_in_the_drl(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make("a")
        mirror = rig.service.mirror
        with rig.host.hanging(rig.path("a"), "pwrite") as hang:
            with pytest.raises(Failed, match="io_error"):
                await rig.write_regions(3)
            await mirror.clean()
            assert mirror.volume.drl.count == 1
            hang.let_go()
            await until(lambda: not rig.service.running.home.lanes[rig.plex("a").uuid].outstanding)
            await mirror.clean()
            assert mirror.volume.drl.count == 0


async def test_a_copy_does_not_take_what_a_late_write_may_still_change(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make()
        await rig.det("b")
        await rig.write_regions(5)
        with rig.host.hanging(rig.path("a"), "pwrite") as hang:
            with pytest.raises(Failed, match="io_error"):
                await rig.write_regions(3)
            task = await rig.end(await rig.att("b"))
            assert (task["state"], task["done_regions"]) == ("failed", 1)
            hang.let_go()
            await until(lambda: not rig.service.running.home.lanes[rig.plex("a").uuid].outstanding)
        await until(lambda: rig.plex("b").uuid not in rig.service.mirror.opened)
        assert (await rig.end(await rig.att("b")))["state"] == "done"
        await rig.stop()
        assert rig.same("a", "b")


async def test_a_volume_stopped_while_its_last_plex_hung_starts_again(tmp_path: Path) -> None:
    """It left no stamp, and that is no sign that somebody changed the file."""
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make("a")
        await rig.write_regions(3)
        await rig.data.flush()
        await rig.service.mirror.clean()
        with rig.host.hanging(rig.path("a"), "fdatasync"):
            await rig.stop()
        lanes = rig.registry.unit("data").home.lanes.values()
        await until(lambda: not any(each.outstanding for each in lanes) and not is_locked(rig.path("a")))
        await rig.verbs.start(volume="data")
        assert await rig.data.read(3 * REGION + 512, 1) == b"w"


# The home copy hangs


async def test_nothing_is_written_to_a_home_copy_before_what_hung_on_it_has_landed(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make()
        with rig.host.hanging(home_of(rig), "dco_write") as hang:
            with pytest.raises(Failed, match="home_failed"):
                await rig.write_regions(3)
            asked = len(rig.host.watch.seen("dco_write", str(home_of(rig))))
            with pytest.raises(Failed, match="volume data: the home copy of the DCO does not answer"):
                await rig.write_regions(4)
            with pytest.raises(Failed, match="home_failed"):
                await rig.service.mirror.store.commit()
            assert len(rig.host.watch.seen("dco_write", str(home_of(rig)))) == asked
            hang.let_go()
            await until(lambda: not rig.service.mirror.store.home.lane.hung)
            await rig.write_regions(3)
        await rig.stop()
        assert rig.same("a", "b")


async def test_a_volume_does_not_start_before_what_hung_on_its_home_copy_has_landed(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make()
        with rig.host.hanging(home_of(rig), "dco_write") as hang:
            with pytest.raises(Failed, match="home_failed"):
                await rig.stop()
            with pytest.raises(Failed, match="volume data: 1 system call"):
                await rig.verbs.start(volume="data")
            lane = rig.registry.unit("data").home.lane.data
            hang.let_go()
            await until(lambda: not lane.outstanding)
            await rig.verbs.start(volume="data")
        await rig.write_regions(3)
        await rig.stop()
        assert rig.same("a", "b")


# A volume stops


async def test_a_file_opened_while_a_stop_waits_keeps_the_volume_started(rig: Rig) -> None:
    await rig.make()
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            with pytest.raises(Refused, match="volume_open"):
                await rig.stop()

        async with rig.registry.unit("data").busy:
            nursery.start_soon(stop)
            await trio.testing.wait_all_tasks_blocked()
            rig.data.opened()
    await rig.write_regions(3)
    rig.data.released()
    await rig.stop()


async def test_no_copy_begins_by_itself_while_a_volume_stops(rig: Rig) -> None:
    """Another one may just have ended, and allow it."""
    await rig.make()
    copies = rig.service.copying
    async with trio.open_nursery() as nursery:
        with rig.host.hanging(rig.path("a"), "fdatasync") as hang:
            nursery.start_soon(rig.stop)
            await until(lambda: hang.waiting == 1)
            for plex in copies._running.volume.plexes:
                plex.state = PlexState.TEMP
            copies.relieve()
    assert (await rig.verbs.task_list(all=True))["tasks"] == []


# A join fails


async def test_a_join_that_hangs_keeps_the_plex_locked_until_it_has_landed(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make()
        await rig.det("b")
        assert not is_locked(rig.path("b"))
        with rig.host.hanging(rig.path("b.dco"), "dco_write") as hang:
            with pytest.raises(Failed, match=r"io_error: plex data-02: its copy of the DCO"):
                await rig.att("b")
            assert is_locked(rig.path("b"))
            with pytest.raises(Failed, match="plex_hung"):
                await rig.att("b")
            hang.let_go()
            await until(lambda: not is_locked(rig.path("b")))
        assert (await rig.end(await rig.att("b")))["state"] == "done"


async def test_a_new_plex_that_does_not_come_is_forgotten(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make()
        with rig.host.failing(rig.path("x.dco"), "dco_write", within=range(1, 1 << 30)), pytest.raises(Failed):
            await rig.verbs.plex_add(volume="data", path=str(rig.path("x")))
        assert not rig.path("x").exists() and not rig.path("x.dco").exists()
        rig.kill()
    async with daemon(tmp_path) as rig:
        assert await rig.states() == "ACTIVE ACTIVE"


async def test_a_plex_that_could_not_be_recorded_in_sync_arrives_at_the_next_attach(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    await rig.write_regions(3, 5)
    task = await rig.att("b", rate=1)
    await until(lambda: not rig.plex("b").map.any())
    with rig.host.failing(home_of(rig), "dco_write"):
        await rig.verbs.task_set(id=task["id"], rate=0)
        assert (await rig.end(task))["error"]["code"] == "home_failed"
    assert await rig.states() == "ACTIVE TEMP"
    again = await rig.end(await rig.att("b"))
    assert (again["state"], again["reason"]["code"], again["done_regions"]) == ("done", "nothing_missed", 0)
    assert await rig.states() == "ACTIVE ACTIVE"


async def test_what_a_new_plex_asks_of_its_disk_is_not_asked_on_the_thread_that_serves_everybody(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.make()
    here = threading.get_ident()
    asked: list[int] = []
    for name in ("probe", "remove_dco", "remove_plex"):
        real = getattr(rig.host, name)
        monkeypatch.setattr(rig.host, name, lambda *a, real=real: (asked.append(threading.get_ident()), real(*a))[1])
    with rig.host.failing(rig.path("x.dco"), "dco_write"), pytest.raises(Failed):
        await rig.verbs.plex_add(volume="data", path=str(rig.path("x")))
    assert len(asked) >= 3 and here not in asked


# Nothing stays open


async def test_a_copy_of_the_dco_that_is_not_understood_does_not_stay_open(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.make()
    await rig.det("b")
    before = len(os.listdir("/proc/self/fd"))

    def go_on(self: object, calls: int) -> object:
        raise Refused("dco_feature", "from the future")

    with monkeypatch.context() as patched:
        patched.setattr(files.Reading, "go_on", go_on)
        with pytest.raises(Refused, match="dco_feature"):
            await rig.would("b")
    assert len(os.listdir("/proc/self/fd")) == before
    assert (await rig.would("b"))["reason"]["code"] == "nothing_missed"


async def test_an_import_that_fails_at_its_last_step_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make()
    shutil.rmtree(tmp_path / "state")
    async with daemon(tmp_path) as rig:
        paths = [str(rig.path(letter)) for letter in "ab"]

        def full(name: str) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr(rig.host, "publish_home", full)
            with pytest.raises(Failed, match="No space"):
                await rig.verbs.import_volume(paths=paths)
        await rig.verbs.import_volume(paths=paths)
        assert await rig.states() == "ACTIVE ACTIVE"


async def test_two_copies_of_one_plex_are_not_imported(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make()
    shutil.rmtree(tmp_path / "state")
    async with daemon(tmp_path) as rig:
        for suffix in ("", ".dco"):
            shutil.copy(rig.path("a" + suffix), rig.path("copy" + suffix))
        with pytest.raises(Failed, match="the same plex as"):
            await rig.verbs.import_volume(paths=[str(rig.path(name)) for name in ("a", "b", "copy")])
        await rig.verbs.import_volume(paths=[str(rig.path(letter)) for letter in "ab"])


async def test_growth_that_fails_names_volume_and_plex(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.make()

    def extend(self: FaultyBacking, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(FaultyBacking, "extend", extend)
    with pytest.raises(Failed, match=r"volume data: data-01 cannot grow: .*No space"):
        await rig.verbs.grow(volume="data", size_bytes=1 << 30)
    assert rig.data.length_bytes < 1 << 30


async def test_nothing_grows_before_what_hung_has_landed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A late ftruncate would cut off what a newer one had added."""
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make("a")
        real, hang = FaultyBacking.extend, Hang()

        def extend(self: FaultyBacking, length: int) -> None:
            if not hang.waiting:
                hang.wait()
            real(self, length)

        monkeypatch.setattr(FaultyBacking, "extend", extend)
        with pytest.raises(Failed, match=r"data-01 cannot grow: .*no answer"):
            await rig.verbs.grow(volume="data", size_bytes=2 * SIZE)
        with pytest.raises(Failed, match="has not returned yet"):
            await rig.verbs.grow(volume="data", size_bytes=3 * SIZE)
        hang.let_go()
        await until(lambda: not rig.service.running.home.lanes[rig.plex("a").uuid].outstanding)
        await rig.verbs.grow(volume="data", size_bytes=3 * SIZE)
        assert rig.data.length_bytes == rig.path("a").stat().st_size == 3 * SIZE


async def test_a_plex_that_left_while_a_write_hung_is_stamped_when_it_has_landed(tmp_path: Path) -> None:
    """It lacks what the other one has, and so stayed when its write was given up; then it was not needed any more. The
    stamp that the detach took is from before the write, which would look like somebody else's.
    """
    async with daemon(tmp_path, io_timeout_seconds=2.0) as rig:
        await rig.make(size_bytes=2 * SIZE)
        await rig.det("b")
        await rig.write_regions(5)
        seven, nine = (range(region * REGION, (region + 1) * REGION) for region in (7, 9))
        with rig.host.hanging(rig.path("b"), "copy_from") as copy:
            task = await rig.att("b")
            await until(lambda: copy.waiting > 0)
            with rig.host.failing(rig.path("a"), "pwrite", within=seven):
                await rig.write_regions(7)
        assert (await rig.end(task))["state"] == "done"
        await rig.service.mirror.clean()
        with rig.host.hanging(rig.path("b"), "pwrite", within=nine) as hang:
            await rig.write_regions(9)
            assert await rig.states() == "ACTIVE ACTIVE", "b stays for region 7"
            assert (await rig.end(await rig.att("a")))["state"] == "done"
            await rig.det("b")
            assert hang.waiting
        lanes, opened = rig.service.running.home.lanes[rig.plex("b").uuid], rig.service.mirror.opened
        await until(lambda: not lanes.outstanding and rig.plex("b").uuid not in opened)
        decision = await rig.would("b")
        assert decision["reason"]["code"] == "fast" and decision["bytes"] <= SIZE
