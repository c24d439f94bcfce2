"""What is told before a snapshot goes is what happens: a dry run and the verb come to the same decision."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fmrd.backing.host import LinuxHost
from fmrd.backing.protocol import Room
from fmrd.core.json_object import Json
from fmrd.errors import FmrdError, Refused
from tests.engine.rig import REGION, SIZE, Rig

REGIONS = SIZE // REGION


async def _full(rig: Rig, name: str = "SNAP") -> None:
    await rig.end((await rig.verbs.snapstart(volume="data", path=str(rig.path("s"))))["task"])
    await rig.verbs.snapshot(volumes=["data"], name=name)


async def _instant(rig: Rig) -> None:
    await rig.verbs.snapshot(volumes=["data"], name="SNAP", instant=str(rig.path("s")))


async def _kept(rig: Rig) -> None:
    """A restore that can be undone, on a file system where blocks cannot be shared."""
    rig.host.try_clone = lambda source, target: None  # type: ignore[method-assign]  # so does this
    rig.host.clone_plex = lambda source, target: Path(target).write_bytes(Path(source).read_bytes())  # type: ignore[method-assign, assignment, return-value]  # stands in for FICLONE
    await _full(rig, "OLD")
    await rig.verbs.snapback(snapshot="OLD", from_replica=True, keep_undo=True)
    await rig.end_all()
    await rig.verbs.snapshot(volumes=["data"], name="SNAP")


VERBS: dict[str, dict[str, object]] = {
    "snapback": {"snapshot": "SNAP"},
    "refresh": {"snapshot": "SNAP"},
    "restore": {"snapshot": "SNAP", "from_replica": True},
    "restore, undo": {"snapshot": "SNAP", "from_replica": True, "keep_undo": True},
    "undo": {"volume": "data"},
}


async def _nothing(rig: Rig) -> None:
    pass


async def _open(rig: Rig, name: str) -> None:
    rig.registry.service(name).running.open_count += 1


async def _grown(rig: Rig) -> None:
    await rig.verbs.grow(volume="data", size_bytes=SIZE + REGION)


async def _full_disk(rig: Rig) -> None:
    rig.host.room = lambda path: Room(1, 1 << 20, 3 * REGION)  # type: ignore[method-assign]  # a disk as large as is wanted


async def _lost(rig: Rig) -> None:
    with rig.host.failing(rig.path("s"), "pwrite", "fdatasync"):
        await rig.write_regions(7)


SITUATIONS: dict[str, Callable[[Rig], Awaitable[object]]] = {
    "well": _nothing,
    "the snapshot is open": lambda rig: _open(rig, "SNAP"),
    "the original is open": lambda rig: _open(rig, "data"),
    "the snapshot is stopped": lambda rig: rig.verbs.stop(volume="SNAP"),
    "the original grew": _grown,
    "the disk is full": _full_disk,
    "the snapshot's disk failed": _lost,
}


async def _came_to(verb: str, rig: Rig, *, dry_run: bool) -> tuple[str, dict[str, int]]:
    """(code of the refusal or '', regions copied to each plex)"""
    what = {"restore": "snapback", "restore, undo": "snapback"}.get(verb, verb)
    try:
        answer: Json = await getattr(rig.verbs, what)(**VERBS[verb], dry_run=dry_run)
    except FmrdError as error:
        return error.code, {}
    if dry_run:
        return "", {each["plex"]: each["regions"] for each in answer["decisions"] if each["regions"]}
    tasks = [await rig.end(task) for task in answer["tasks"]]
    return "", {task["plex"]: task["total_regions"] for task in tasks if task["total_regions"]}


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("taken", [_full, _instant, _kept])
@pytest.mark.parametrize("verb", VERBS)
async def test_a_dry_run_and_the_verb_come_to_the_same(
    rig: Rig, verb: str, taken: Callable[[Rig], Awaitable[None]], situation: str
) -> None:
    await rig.make("ab")
    await rig.write_regions(*range(20), byte=b"0")
    await taken(rig)
    await rig.write_regions(1, 2)
    await rig.write_regions(2, 3, volume="SNAP")
    await SITUATIONS[situation](rig)
    told = await _came_to(verb, rig, dry_run=True)
    before = (await rig.verbs.print())["volumes"]
    happened = await _came_to(verb, rig, dry_run=False)
    assert happened == told
    if happened[0]:
        names = [volume["name"] for volume in (await rig.verbs.print())["volumes"]]
        assert names == [volume["name"] for volume in before], "it was refused, and yet something went"
    for unit in rig.registry.units.values():
        if unit.service is not None:
            unit.service.running.open_count = 0


async def test_a_restore_from_an_instant_snapshot_tells_of_every_plex(rig: Rig) -> None:
    """Its own, too, which becomes one of the original's and copies all that it never held."""
    await rig.make("ab")
    await _instant(rig)
    await rig.write_regions(1, 2)
    answer = await rig.verbs.snapback(snapshot="SNAP", from_replica=True, dry_run=True)
    told = {each["plex"]: each["regions"] for each in answer["decisions"]}
    assert told == {"data-01": 2, "data-02": 2, "data-03": REGIONS - 2} and answer["decision"] in answer["decisions"]


async def test_a_snapshot_whose_refresh_does_not_fit_stays(rig: Rig) -> None:
    await rig.make("ab")
    await rig.data.write(0, b"x" * SIZE)
    await _instant(rig)
    rig.host.room = lambda path: Room(1, 8 * REGION, 0 if path.endswith("s") else SIZE)  # type: ignore[method-assign]  # a disk as large as is wanted
    with pytest.raises(Refused, match="no_room"):
        await rig.verbs.refresh(snapshot="SNAP")
    assert await rig.door("SNAP").read(0, 1) == b"x"


def test_room_is_what_the_file_system_says(tmp_path: Path) -> None:
    host = LinuxHost(tmp_path / "state")
    path = tmp_path / "p"
    path.write_bytes(b"x" * SIZE)
    room = host.room(str(path))
    assert room is not None and room.allocated_bytes >= SIZE and room.free_bytes > 0


async def test_what_a_restore_replaces_is_kept_of_a_plex_that_holds_all_of_it(rig: Rig) -> None:
    await rig.make("ab")
    await _full(rig)
    await rig.write_regions(3)
    rig.plex("a").map.mark(range(3, 4))  # a hole, that was found at no start yet
    cloned: list[str] = []
    rig.host.try_clone = lambda source, target: None  # type: ignore[method-assign]  # no blocks are shared here

    def clone(source: str, target: str) -> None:
        cloned.append(source)
        Path(target).write_bytes(Path(source).read_bytes())

    rig.host.clone_plex = clone  # type: ignore[method-assign]  # stands in for FICLONE
    await rig.verbs.snapback(snapshot="SNAP", from_replica=True, keep_undo=True)
    await rig.end_all()
    assert cloned == [str(rig.path("b"))]
    await rig.verbs.undo(volume="data")
    await rig.end_all()
    assert await rig.data.read(3 * REGION + 512, 1) == b"w"
