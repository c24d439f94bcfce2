"""What a verb looked up is looked up again after it waited: nobody's home copy goes by another one's name."""

import errno
from pathlib import Path

import pytest
import trio
import trio.testing

from fmrd.engine.snapshots.breakoffs import names_for
from fmrd.engine.snapshots.pairs import pair_of
from fmrd.errors import BadRequest, Failed, FmrdError, Refused
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.waiting import until

HOMES = "state/volumes/*.dco"


async def _take(rig: Rig, name: str = "SNAP-data", letter: str = "s") -> None:
    await rig.end((await rig.verbs.snapstart(volume="data", path=str(rig.path(letter))))["task"])
    await rig.verbs.snapshot(volumes=["data"], name=name)


async def _stopped_snapshot(rig: Rig) -> None:
    await rig.make("ab")
    await _take(rig)
    await rig.write_regions(1)
    await rig.verbs.stop(volume="SNAP-data")


def _homes(rig: Rig) -> list[str]:
    return sorted(path.stem for path in rig.directory.glob(HOMES))


async def _shown(rig: Rig) -> list[str]:
    return [volume["name"] for volume in (await rig.verbs.print())["volumes"]]


async def test_a_stopped_snapshot_that_went_back_is_shown_no_more(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await _stopped_snapshot(rig)
        for task in (await rig.verbs.snapback(snapshot="SNAP-data"))["tasks"]:
            assert (await rig.end(task))["state"] == "done"
        assert await _shown(rig) == ["data"]
        with pytest.raises(Failed, match="volume_missing"):
            await rig.verbs.remove(volume="SNAP-data")
        assert _homes(rig) == ["data"]
    async with daemon(tmp_path) as rig:
        assert await rig.data.read(REGION + 512, 1) == b"w"


async def test_a_stopped_snapshot_is_refreshed_again_and_again(rig: Rig) -> None:
    await _stopped_snapshot(rig)
    for byte in (b"1", b"2"):
        await rig.write_regions(5, byte=byte)
        for task in (await rig.verbs.refresh(snapshot="SNAP-data"))["tasks"]:
            assert (await rig.end(task))["state"] == "done"
        assert await rig.door("SNAP-data").read(5 * REGION + 512, 1) == byte
        await rig.verbs.stop(volume="SNAP-data")


async def test_two_removes_of_a_stopped_snapshot_leave_its_original(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await _stopped_snapshot(rig)
        codes: list[str] = []

        async def remove() -> None:
            try:
                await rig.verbs.remove(volume="SNAP-data")
            except FmrdError as error:
                codes.append(error.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(remove)
            nursery.start_soon(remove)
        assert codes == ["volume_missing"] and await _shown(rig) == ["data"] and _homes(rig) == ["data"]
    async with daemon(tmp_path) as rig:
        assert await _shown(rig) == ["data"] and await rig.data.read(REGION + 512, 1) == b"w"


async def test_a_home_copy_forgets_only_what_it_names(rig: Rig) -> None:
    """Whatever a registry believes: the record decides whose it is."""
    await rig.make("ab")
    home = rig.service.running.home
    await rig.stop()
    with pytest.raises(Failed, match="volume_missing"):
        await home.forget("other")
    assert _homes(rig) == ["data"]


async def test_two_makes_of_one_name_are_one_volume(rig: Rig) -> None:
    codes: list[str] = []

    async def make(letter: str) -> None:
        try:
            await rig.make(letter)
        except FmrdError as error:
            codes.append(error.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(make, "a")
        nursery.start_soon(make, "b")
    assert codes == ["volume_exists"] and await _shown(rig) == ["data"]
    assert len((await rig.verbs.print())["volumes"][0]["plexes"]) == 1
    await rig.stop()
    await rig.verbs.start(volume="data")


async def test_a_volume_is_not_made_over_a_home_copy_that_nobody_opened(tmp_path: Path) -> None:
    """As of a volume that is left out since another one has its name, or that is still to be read."""
    async with daemon(tmp_path) as rig:
        await rig.make("a")
        await rig.stop()
        before = (tmp_path / "state/volumes/data.dco").read_bytes()
        del rig.registry.units["data"]
        with pytest.raises(Failed, match="volume_exists"):
            await rig.make("b")
        assert (tmp_path / "state/volumes/data.dco").read_bytes() == before and not rig.path("b").exists()


async def test_a_volume_that_got_a_snapshot_meanwhile_is_not_removed(rig: Rig) -> None:
    """And runs on: it is asked again in the step that would stop it."""
    await rig.make("ab")
    await rig.end((await rig.verbs.snapstart(volume="data", path=str(rig.path("s"))))["task"])
    refused: list[str] = []

    async def remove() -> None:
        await began.wait()
        try:
            await rig.verbs.remove(volume="data")
        except Refused as error:
            refused.append(error.code)

    began = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(remove)
        with rig.host.hanging(rig.path("s"), "fdatasync") as hang:
            nursery.start_soon(lambda: rig.verbs.snapshot(volumes=["data"]))
            while not hang.waiting:
                await trio.lowlevel.checkpoint()
            began.set()
            for _ in range(50):
                await trio.lowlevel.checkpoint()
    assert refused == ["snap_present"] and await rig.data.read(0, 1) == b"\0"


async def test_a_snapshot_with_an_offline_plex_goes_back(tmp_path: Path) -> None:
    """It was never looked for since the start, so nobody had lanes for it."""
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await _take(rig)
        added = await rig.verbs.plex_add(volume="SNAP-data", path=str(rig.path("t")))
        await rig.end(added["task"])
        await rig.verbs.plex_off(volume="SNAP-data", plex=str(rig.path("t")))
    async with daemon(tmp_path) as rig:
        for task in (await rig.verbs.snapback(snapshot="SNAP-data", all_plexes=True))["tasks"]:
            assert (await rig.end(task))["state"] == "done"
        assert await _shown(rig) == ["data"] and rig.same("a", "s", "t")


async def test_a_restore_that_is_refused_lets_the_copies_go_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def clone(source: str, target: str) -> None:
        raise OSError(errno.EOPNOTSUPP, "blocks cannot be shared")

    monkeypatch.setattr(rig.host, "clone_plex", clone)
    monkeypatch.setattr(rig.host, "try_clone", lambda source, target: None)
    await rig.make("ab")
    await _take(rig)
    added = (await rig.verbs.plex_add(volume="data", path=str(rig.path("c")), rate=1 << 16))["task"]
    with pytest.raises(Refused, match="undo_impossible"):
        await rig.verbs.snapback(snapshot="SNAP-data", from_replica=True, keep_undo=True)
    tasks = [task for task in rig.registry.context.tasks.running("data") if task.plex == added["plex"]]
    assert len(tasks) == 1
    await rig.end_all()
    assert rig.same("a", "b", "c")


async def test_a_snapshot_by_the_name_of_what_an_undo_keeps_is_not_erased(rig: Rig) -> None:
    await rig.make("ab")
    await _take(rig, name="UNDO-data")
    with pytest.raises(Failed, match="undo_missing"):
        await rig.verbs.undo(volume="data")
    assert rig.path("s").exists()


async def test_a_snapshot_that_was_cleared_is_none_before_the_record_says_so(rig: Rig) -> None:
    """The home copy did not take it: what was done stands, and lands with the next commit."""
    await rig.make("ab")
    await _take(rig)
    with (
        rig.host.failing(rig.directory / "state/volumes/data.dco", "dco_write"),
        pytest.raises(Failed, match="home_failed"),
    ):
        await rig.verbs.snapclear(snapshot="SNAP-data")
    for verb in (rig.verbs.snapclear, rig.verbs.snapback, rig.verbs.refresh):
        with pytest.raises(Failed, match="snap_unknown"):
            await verb(snapshot="SNAP-data")
    await rig.write_regions(1)
    await rig.det("b")
    assert [v["snapshot_of"] for v in (await rig.verbs.print())["volumes"]] == [None, None]


async def test_a_volume_that_is_opened_while_its_restore_waits_keeps_its_data(rig: Rig) -> None:
    await rig.make("ab")
    await _take(rig)
    await rig.write_regions(1)
    refused: list[str] = []

    async def restore() -> None:
        try:
            await rig.verbs.snapback(snapshot="SNAP-data", from_replica=True)
        except Refused as error:
            refused.append(error.code)

    async with trio.open_nursery() as nursery:
        with rig.host.hanging(rig.path("a"), "fdatasync") as hang:
            nursery.start_soon(restore)
            await until(lambda: hang.waiting > 0)
            rig.data.opened()
    assert refused == ["volume_open"] and await rig.data.read(REGION + 512, 1) == b"w"
    rig.data.released()


async def test_a_plex_that_left_its_snapshot_meanwhile_does_not_go_back_with_it(rig: Rig) -> None:
    await rig.make("ab")
    await _take(rig)
    await _take(rig, "other", "t")
    [gone] = pair_of(rig.registry, "other").volume.plexes
    with pytest.raises(Failed, match=r"snap_unknown.*left it meanwhile"):
        pair_of(rig.registry, "SNAP-data").still([gone])


async def test_a_home_copy_does_not_get_a_name_that_another_one_has(rig: Rig) -> None:
    """The volume that it is named after goes, and those that are left would give it theirs."""
    await rig.make("ab")
    await _take(rig)
    await rig.verbs.snapclear(snapshot="SNAP-data")
    await rig.stop()
    strange = rig.directory / "state/volumes/SNAP-data.dco"
    strange.write_bytes(b"somebody's")
    with pytest.raises(Failed, match="volume_exists"):
        await rig.verbs.remove(volume="data")
    assert strange.read_bytes() == b"somebody's" and _homes(rig) == ["SNAP-data", "data"]
    strange.unlink()
    await rig.verbs.remove(volume="data")
    assert _homes(rig) == ["SNAP-data"] == await _shown(rig)


async def test_a_home_copy_stays_open_while_one_of_its_family_is_opened(rig: Rig) -> None:
    """What was read of it before another one stopped would be taken for the newest."""
    await rig.make("ab")
    home = rig.service.running.home
    async with home.kept_open():
        await rig.stop()
        assert home.ledger is not None
    assert home.ledger is None


async def test_a_new_plex_waits_for_the_verb_that_is_at_it(rig: Rig) -> None:
    await rig.make("ab")
    running = rig.service.running
    async with trio.open_nursery() as nursery, running.verb():
        nursery.start_soon(lambda: rig.verbs.plex_add(volume="data", path=str(rig.path("c"))))
        await until(lambda: running._verb.statistics().tasks_waiting == 1)
        assert len(running.volume.plexes) == 2
    assert len(running.volume.plexes) == 3
    await rig.end_all()


async def test_names_of_snapshots_that_nobody_gave(rig: Rig) -> None:
    await rig.make("ab")
    assert names_for(rig.registry, ["data"], None) == ["SNAP-data"]
    await _take(rig)
    assert names_for(rig.registry, ["data", "log"], None) == ["SNAP1-data", "SNAP-log"]
    assert names_for(rig.registry, ["data"], "%v-monday") == ["data-monday"]
    with pytest.raises(Failed, match="volume_exists"):
        names_for(rig.registry, ["data"], "SNAP-%v")
    for volumes, pattern in ((["data"], "a/b"), (["data", "data"], "monday")):
        with pytest.raises(BadRequest, match="bad_name"):
            names_for(rig.registry, volumes, pattern)


@pytest.mark.parametrize("kind", ["broken off", "instant"])
async def test_a_snapshot_does_not_take_a_name_that_is_another_ones_meanwhile(rig: Rig, kind: str) -> None:
    await rig.make("ab")
    await rig.end((await rig.verbs.snapstart(volume="data", path=str(rig.path("s"))))["task"])
    running, refused = rig.service.running, []
    options = {} if kind == "broken off" else {"instant": str(rig.path("i"))}

    async def take() -> None:
        with pytest.raises(Failed, match="volume_exists") as caught:
            await rig.verbs.snapshot(volumes=["data"], name="monday", **options)
        refused.append(caught.value)

    async with trio.open_nursery() as nursery, running.verb():
        nursery.start_soon(take)
        await until(lambda: running._verb.statistics().tasks_waiting == 1)
        await rig.verbs.make(volume="monday", size_bytes=SIZE, plexes=[{"path": str(rig.path("m"))}])
    assert refused and await rig.states() == "ACTIVE ACTIVE SNAPDONE"
    assert not rig.path("i").exists() and await _shown(rig) == ["data", "monday"]
    await rig.write_regions(1)


async def test_a_snapshot_that_goes_back_answers_what_it_was_asked_before(rig: Rig) -> None:
    await rig.make("ab")
    await _take(rig)
    await rig.write_regions(1)
    snapshot, mirror = rig.door("SNAP-data"), rig.registry.service("SNAP-data").mirror
    read: list[bytes] = []

    async def ask() -> None:
        read.append(await snapshot.read(REGION + 512, 1))

    async with trio.open_nursery() as nursery:
        with rig.host.hanging(rig.path("s"), "pread") as hang:
            nursery.start_soon(ask)
            await until(lambda: hang.waiting == 1)
            nursery.start_soon(lambda: rig.verbs.snapback(snapshot="SNAP-data"))
            await until(lambda: mirror.load.closed)
            await trio.testing.wait_all_tasks_blocked()
            assert "SNAP-data" in rig.registry.units and mirror.opened
    assert read == [b"\0"] and "SNAP-data" not in rig.registry.units
    await rig.end_all()
