"""What --dry-run tells is what the verb does: of every verb that has it, in every situation, at every kind of path.

Both come to the same: the same refusal, or the same figures. snapback, refresh and undo are test_foretold.py's.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fmrd.core.json_object import Json
from fmrd.errors import FmrdError
from fmrd.front.arguments import VERBS
from tests.backing import disks
from tests.engine import test_foretold
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.waiting import until

# Situations of the volume 'data', which has the plexes a and b


async def _well(rig: Rig) -> None:
    pass


async def _missed(rig: Rig) -> None:
    await rig.det("b")
    await rig.write_regions(1, 2, 63)


async def _offline(rig: Rig) -> None:
    await rig.verbs.plex_off(volume="data", plex=str(rig.path("b")))


async def _failed(rig: Rig) -> None:
    with rig.host.failing(rig.path("b"), "pwrite"):
        await rig.write_regions(7)
    await until(lambda: rig.plex("b").uuid not in rig.service.mirror.opened)
    await rig.service.running.home.lanes[rig.plex("b").uuid].idle()  # or one call of its parting would count as hung


async def _gone(rig: Rig) -> None:
    await rig.det("b")
    rig.path("b").rename(rig.path("b-elsewhere"))


async def _stranger(rig: Rig) -> None:
    await rig.det("b")
    rig.path("b.dco").unlink()


async def _changed(rig: Rig) -> None:
    await rig.det("b")
    rig.path("b").write_bytes(b"x" * SIZE)


async def _without_fmr(rig: Rig) -> None:
    await rig.verbs.set(volume="data", settings={"fmr": "off"})
    await rig.det("b")


async def _prepared(rig: Rig) -> None:
    await rig.end((await rig.verbs.snapstart(volume="data", path=str(rig.path("s"))))["task"])


async def _prepared_and_missed(rig: Rig) -> None:
    await _prepared(rig)
    await rig.det("s")
    await rig.write_regions(3)


async def _taken(rig: Rig) -> None:
    await _prepared(rig)
    await rig.verbs.snapshot(volumes=["data"])
    await rig.write_regions(5)


async def _instant(rig: Rig) -> None:
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("s")))
    await rig.write_regions(5)


async def _no_bitmaps_left(rig: Rig) -> None:
    for number in range(7):
        await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path(f"s{number}")))
    await _prepared(rig)


async def _stopped(rig: Rig) -> None:
    await rig.stop()


async def _away(rig: Rig) -> None:
    """Its home copy is lost: an import finds it."""
    await _missed(rig)
    await rig.stop()
    (rig.directory / "state" / "volumes" / "data.dco").unlink()
    rig.registry.units.drop(rig.registry.unit("data"))


async def _away_and_changed(rig: Rig) -> None:
    await _away(rig)
    for letter in "ab":
        with rig.path(letter).open("r+b") as file:
            file.write(b"changed")


SITUATIONS = [
    _well, _missed, _offline, _failed, _gone, _stranger, _changed, _without_fmr, _prepared, _prepared_and_missed,
    _taken, _instant, _no_bitmaps_left, _stopped, _away, _away_and_changed,
]  # fmt: skip

# Places for what is new


def _blank(rig: Rig) -> str:
    return str(rig.path("x"))


def _empty(rig: Rig) -> str:
    rig.path("x").touch()
    return str(rig.path("x"))


def _with_data(rig: Rig) -> str:
    rig.path("x").write_bytes(b"x" * SIZE)
    return str(rig.path("x"))


def _beside_data(rig: Rig) -> str:
    rig.path("x.dco").write_bytes(b"a report")
    return str(rig.path("x"))


def _nowhere(rig: Rig) -> str:
    return str(rig.directory / "missing" / "x")


def _below_a_file(rig: Rig) -> str:
    rig.path("file").touch()
    return str(rig.directory / "file" / "x")


def _a_directory(rig: Rig) -> str:
    rig.path("x").mkdir()
    return str(rig.path("x"))


def _a_plex(rig: Rig) -> str:
    return str(rig.path("a"))


def _another_name_of_a_plex(rig: Rig) -> str:
    rig.path("x").symlink_to(rig.path("a"))
    return str(rig.path("x"))


def _too_long(rig: Rig) -> str:
    return str(rig.directory / ("x" * 252))


PLACES = [
    _blank, _empty, _with_data, _beside_data, _nowhere, _below_a_file, _a_directory, _a_plex, _another_name_of_a_plex,
    _too_long,
]  # fmt: skip

# What both come to

Came = tuple[str, list[tuple[int, int]]]
"""(code of the refusal or '', regions and bytes that are copied to each plex)"""


async def came_to(rig: Rig, verb: str, arguments: dict[str, Any], *, dry_run: bool) -> Came:
    before = [task["id"] for task in (await rig.verbs.task_list(all=True))["tasks"]]
    try:
        answer: Json = await getattr(rig.verbs, verb)(**arguments, dry_run=dry_run)
    except FmrdError as error:
        return error.code, []
    failed = ",".join(each["code"] for each in answer.get("failed", []))
    if dry_run:
        assert [task["id"] for task in (await rig.verbs.task_list(all=True))["tasks"]] == before
        told = answer.get("decisions") or ([answer["decision"]] if "decision" in answer else [])
        return failed, sorted((each["regions"], each["bytes"]) for each in told if each["regions"])
    await rig.end_all()
    tasks = [task for task in (await rig.verbs.task_list(all=True))["tasks"] if task["id"] not in before]
    return failed, sorted((t["total_regions"], t["total_bytes"]) for t in tasks if t["total_regions"])


def files(rig: Rig) -> dict[str, bytes | None]:
    """All there is beside the state directory and what a started volume writes by itself, its copies of the DCO."""
    found = {}
    for path in sorted(rig.directory.iterdir()):
        if path.name != "state" and not (path.suffix == ".dco" and path.with_suffix("").exists()):
            found[path.name] = path.read_bytes() if path.is_file() else None
    return found


async def come_to_the_same(rig: Rig, verb: str, arguments: dict[str, Any]) -> Came:
    before = files(rig)
    told = await came_to(rig, verb, arguments, dry_run=True)
    assert files(rig) == before, "a dry run changed something"
    happened = await came_to(rig, verb, arguments, dry_run=False)
    assert happened == told
    if told[0] and verb != "recover":
        assert files(rig) == before, "it was refused, and changed something"
    return told


OF_A_VOLUME: dict[str, tuple[str, Callable[[Rig], dict[str, Any]]]] = {
    "plex_add": ("plex_add", lambda rig: {"volume": "data", "path": str(rig.path("x"))}),
    "plex_replace": (
        "plex_replace",
        lambda rig: {"volume": "data", "plex": str(rig.path("b")), "path": str(rig.path("x"))},
    ),
    "snapstart": ("snapstart", lambda rig: {"volume": "data", "path": str(rig.path("x"))}),
    "snapshot": ("snapshot", lambda rig: {"volumes": ["data"]}),
    "snapshot of a snapshot": ("snapshot", lambda rig: {"volumes": ["SNAP-data"]}),
    "snapshot, frozen": ("snapshot", lambda rig: {"volumes": ["data"], "freeze": [str(rig.directory)]}),
    "snapshot --all": ("snapshot", lambda rig: {"all": True}),
    "instant": ("snapshot", lambda rig: {"volumes": ["data"], "instant": str(rig.path("x"))}),
    "instant of a snapshot": ("snapshot", lambda rig: {"volumes": ["SNAP-data"], "instant": str(rig.path("x"))}),
    "instant, frozen": (
        "snapshot",
        lambda rig: {"volumes": ["data"], "instant": str(rig.path("x")), "freeze": [str(rig.directory)]},
    ),
    "refresh, frozen": ("refresh", lambda rig: {"snapshot": "SNAP-data", "freeze": [str(rig.directory)]}),
    "snapback": ("snapback", lambda rig: {"snapshot": "SNAP-data"}),
    "restore": ("snapback", lambda rig: {"snapshot": "SNAP-data", "from_replica": True}),
    "restore, undo": ("snapback", lambda rig: {"snapshot": "SNAP-data", "from_replica": True, "keep_undo": True}),
    "undo": ("undo", lambda rig: {"volume": "data"}),
    "plex_att": ("plex_att", lambda rig: {"volume": "data", "plex": str(rig.path("b"))}),
    "plex_att --full": ("plex_att", lambda rig: {"volume": "data", "plex": str(rig.path("b")), "full": True}),
    "plex_att --discard": ("plex_att", lambda rig: {"volume": "data", "plex": str(rig.path("b")), "discard": True}),
    "plex_att of a snapshot plex": ("plex_att", lambda rig: {"volume": "data", "plex": str(rig.path("s"))}),
    "recover": ("recover", lambda rig: {"volume": "data"}),
    "recover, all": ("recover", lambda rig: {}),
    "make": ("make", lambda rig: {"volume": "data", "size_bytes": SIZE, "plexes": [{"path": str(rig.path("x"))}]}),
    "import_volume": ("import_volume", lambda rig: {"paths": [str(rig.path("a")), str(rig.path("b"))]}),
    "import_volume, one": ("import_volume", lambda rig: {"paths": [str(rig.path("a"))]}),
    "import_volume, the old one": ("import_volume", lambda rig: {"paths": [str(rig.path("b"))]}),
    "import_volume --force": ("import_volume", lambda rig: {"paths": [str(rig.path("b"))], "force": True}),
}


OF_A_STORE = {"store_add", "store_resize", "store_remove"}
"""These have a test of their own: test_what_a_store_foretells_is_what_it_does."""
OF_A_CLIENT = {"receive_begin", "restore_begin"}
"""They begin what fmrctl then carries out, and foretell to it what it will do (tests/front/test_json_document.py)."""


def test_every_verb_that_has_a_dry_run_is_here() -> None:
    foretold = {verb for verb, args in VERBS.items() if "dry_run" in args}
    assert {verb for verb, _ in OF_A_VOLUME.values()} == foretold - OF_A_CLIENT - OF_A_STORE
    assert {"snapback", "refresh", "undo"} <= test_foretold.VERBS.keys()


FEW: list[tuple[tuple[str, ...], list[Callable[[Rig], Awaitable[None]]]]] = [
    (("import",), [_well, _stopped, _away, _away_and_changed]),
    (("make",), [_well, _away]),
    (("undo",), [_well, _taken]),
    (("recover, all",), [_well, _missed, _gone]),
    (("snapshot, frozen", "snapshot --all", "instant, frozen"), [_well, _prepared]),
    (("snapback", "restore", "refresh", "snapshot of", "instant of"), [_well, _taken, _instant, _no_bitmaps_left]),
]
"""The situations that matter to what begins so; to everything else all of them do."""


def situations_of(what: str) -> list[Callable[[Rig], Awaitable[None]]]:
    return next((few for words, few in FEW if what.startswith(words)), SITUATIONS)


PAIRS = [(what, situation) for what in OF_A_VOLUME for situation in situations_of(what)]


@pytest.mark.parametrize(("what", "situation"), PAIRS, ids=[f"{what}: {each.__name__[1:]}" for what, each in PAIRS])
async def test_whatever_the_volume_is_like(rig: Rig, what: str, situation: Callable[[Rig], Awaitable[None]]) -> None:
    await rig.make("ab")
    await rig.write_regions(0, 9)
    await situation(rig)
    verb, arguments = OF_A_VOLUME[what]
    await come_to_the_same(rig, verb, arguments(rig))


def make(rig: Rig, path: str) -> dict[str, Any]:
    return {"volume": "other", "size_bytes": SIZE, "plexes": [{"path": path}]}


WITH_A_PATH: dict[str, tuple[str, Callable[[Rig, str], dict[str, Any]]]] = {
    "make": ("make", make),
    "make, two": ("make", lambda rig, path: make(rig, path) | {"plexes": [{"path": path}, {"path": f"{path}y"}]}),
    "make, one path twice": ("make", lambda rig, path: make(rig, path) | {"plexes": [{"path": path}] * 2}),
    "make --from": (
        "make",
        lambda rig, path: make(rig, path)
        | {"plexes": [{"path": str(rig.path("y"))}, {"path": path}], "from_path": path},
    ),
    "make, dco elsewhere": (
        "make",
        lambda rig, path: make(rig, str(rig.path("y"))) | {"plexes": [{"path": str(rig.path("y")), "dco": path}]},
    ),
    "plex_add": ("plex_add", lambda rig, path: {"volume": "data", "path": path}),
    "snapstart": ("snapstart", lambda rig, path: {"volume": "data", "path": path}),
    "instant": ("snapshot", lambda rig, path: {"volumes": ["data"], "instant": path}),
}  # fmt: skip


@pytest.mark.parametrize("force", [False, True], ids=["", "--force"])
@pytest.mark.parametrize("place", PLACES, ids=lambda each: each.__name__[1:])
@pytest.mark.parametrize("what", WITH_A_PATH)
async def test_wherever_it_leads(rig: Rig, what: str, place: Callable[[Rig], str], force: bool) -> None:
    await rig.make("a")
    verb, arguments = WITH_A_PATH[what]
    await come_to_the_same(rig, verb, arguments(rig, place(rig)) | {"force": force})


@pytest.fixture(params=["read-only", "full"])
def small(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system on which nothing can be made; one with an empty file on it, which could be taken."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    where = tmp_path / "small"
    where.mkdir()
    disks.run("mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", where)
    try:
        (where / "empty").touch(0o600)
        if request.param == "read-only":
            disks.run("mount", "-o", "remount,ro", where)
        yield where
    finally:
        disks.run("umount", where)


@pytest.mark.parametrize("name", ["x", "empty"])
@pytest.mark.parametrize("what", WITH_A_PATH)
async def test_where_nothing_can_be_written(rig: Rig, small: Path, what: str, name: str) -> None:
    await rig.make("a")
    verb, arguments = WITH_A_PATH[what]
    code, _ = await come_to_the_same(rig, verb, arguments(rig, str(small / name)))
    assert code == "bad_request" if "twice" in what else code in ("io_error", "plex_missing")
    assert os.listdir(small) == ["empty"]


@pytest.fixture
async def of_a_full_state(tmp_path: Path) -> AsyncIterator[Rig]:
    """A daemon whose state directory takes no home copy."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    state = tmp_path / "state"
    state.mkdir()
    disks.run("mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", state)
    try:
        async with daemon(tmp_path) as rig:
            yield rig
    finally:
        disks.run("umount", state)


async def test_where_the_state_directory_is_full(of_a_full_state: Rig) -> None:
    rig = of_a_full_state
    assert await come_to_the_same(rig, "make", make(rig, str(rig.path("x")))) == ("io_error", [])


@pytest.mark.parametrize("what", WITH_A_PATH)
async def test_on_a_device_that_is_too_short_or_read_only(rig: Rig, loop: str, what: str) -> None:
    await rig.make("a")
    verb, arguments = WITH_A_PATH[what]
    short = await come_to_the_same(rig, verb, arguments(rig, loop))
    disks.run("blockdev", "--setro", loop)
    assert short[0] and (await come_to_the_same(rig, verb, arguments(rig, loop)))[0]
    disks.run("blockdev", "--setrw", loop)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Another file system, with room."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    where = tmp_path / "elsewhere"
    where.mkdir()
    disks.run("mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", where)
    try:
        yield where
    finally:
        disks.run("umount", "--lazy", where)  # of a test that failed the files are open still


@pytest.mark.parametrize("there", ["a plex", "the copy of a plex", "the state directory"])
@pytest.mark.parametrize(
    ("what", "situation"), [("snapshot, frozen", _prepared), ("instant, frozen", _well), ("refresh, frozen", _taken)]
)
async def test_a_file_system_that_fmrd_itself_needs_is_not_frozen(
    tmp_path: Path, elsewhere: Path, what: str, situation: Callable[[Rig], Awaitable[None]], there: str
) -> None:
    """Of another volume, too."""
    if there == "the state directory":
        (tmp_path / "state").symlink_to(elsewhere / "state")
        (elsewhere / "state").mkdir(mode=0o700)
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        if there != "the state directory":
            plex = {"path": str(elsewhere / "p")}
            if there == "the copy of a plex":
                plex = {"path": str(rig.path("p")), "dco": str(elsewhere / "p.dco")}
            await rig.verbs.make(volume="other", size_bytes=SIZE, plexes=[plex])
        await situation(rig)
        verb, arguments = OF_A_VOLUME[what]
        frozen = arguments(rig) | {"freeze": [str(elsewhere)]}
        assert await come_to_the_same(rig, verb, frozen) == ("refused_freeze", [])
        if there != "the state directory":
            await rig.verbs.stop(volume="other")
            await rig.verbs.remove(volume="other")
            code, _ = await came_to(rig, verb, frozen, dry_run=True)
            assert code == "", "nothing of fmrd's lies there any more"


async def test_the_figures_of_a_volume_that_is_made_of_what_is_there(rig: Rig) -> None:
    rig.path("x").write_bytes(os.urandom(SIZE))
    plexes = [{"path": str(rig.path(letter))} for letter in "xyz"]
    asked = {"volume": "data", "size_bytes": SIZE, "plexes": plexes, "from_path": str(rig.path("x"))}
    assert await come_to_the_same(rig, "make", asked) == ("", [(SIZE // REGION, SIZE)] * 2)
