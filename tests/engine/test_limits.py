"""Both ends of every range that is accepted: what can be made is used by every verb; one beyond is refused in words."""

import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fmrd.core.json_object import Json
from fmrd.core.names import GIVEN_LENGTH, VOLUME_LENGTH
from fmrd.core.record import HISTORY_LIMIT
from fmrd.core.records.parts import Position
from fmrd.core.volume import family
from fmrd.dco import layout
from fmrd.dco.values import MOST
from fmrd.errors import BadRequest, Failed
from fmrd.front.arguments import check_arguments
from fmrd.front.checks import MAX_IDS, MAX_ITEMS, MAX_NUMBER, MAX_PATH_BYTES
from fmrd.front.wire import REQUEST_LIMIT_BYTES, Request
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.waiting import until

LONGEST = "n" * GIVEN_LENGTH


class Asked:
    """The verbs as a client reaches them: through the checks of the socket."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Json]]:
        def ask(**arguments: object) -> Awaitable[Json]:
            asked = Request.decode(Request(verb, arguments).encode().rstrip(b"\n"))
            answer: Awaitable[Json] = getattr(self.rig.verbs, verb)(**asked.args)
            return answer

        return ask


async def every_verb(
    rig: Rig, name: str, path: Callable[[str], str], size_bytes: int = SIZE, **options: object
) -> None:
    """A volume's life, by the names that it is shown with."""
    verbs = Asked(rig)
    plexes = [{"path": path(letter)} for letter in "ab"]
    await verbs.make(volume=name, size_bytes=size_bytes, plexes=plexes, dry_run=True, **options)
    made = await verbs.make(volume=name, size_bytes=size_bytes, plexes=plexes, **options)
    first, second = [plex["name"] for plex in made["volume"]["plexes"]]
    last = bytes(size_bytes - 1) + b"x"
    await rig.door(name).write(0, last)
    for verb in ("plex_det", "plex_att", "plex_off", "plex_on", "plex_att"):
        await verbs.__getattr__(verb)(volume=name, plex=second)
    await rig.end_all()
    await verbs.set(volume=name, settings={"rdpol": f"prefer:{second}"})
    await verbs.snapstart(volume=name, path=path("c"))
    await verbs.snapwait(volume=name)
    [taken] = (await verbs.snapshot(volumes=[name]))["volumes"]
    await rig.door(taken["name"]).write(0, b"s")
    [old] = (await verbs.snapshot(volumes=[name], instant=path("d")))["volumes"]
    await rig.door(name).write(size_bytes - 1, b"y")
    assert await rig.door(old["name"]).read(size_bytes - 1, 2) == b"x"
    await verbs.snapback(snapshot=old["name"])
    await rig.end_all()
    await verbs.refresh(snapshot=taken["name"])
    await rig.end_all()
    await until(lambda: rig.registry.find(taken["name"]) is not None)
    assert await rig.door(taken["name"]).read(size_bytes - 1, 2) == b"y"
    await verbs.snapback(snapshot=taken["name"], from_replica=True)
    await rig.end_all()
    await verbs.verify(volume=name)
    await rig.end_all()
    [report] = [t for t in (await verbs.task_list(all=True))["tasks"] if t["type"] == "VERIFY"][-1:]
    assert report["state"] == "done" and report["done_bytes"] == size_bytes
    await verbs.grow(volume=name, size_bytes=size_bytes + 4096)
    await rig.end_all()
    await verbs.stop(volume=name)
    await verbs.start(volume=name, without=[first])
    await verbs.plex_att(volume=name, plex=first)
    await rig.end_all()
    await verbs.plex_dis(volume=name, plex=path("b"))
    assert await rig.door(name).read(0, size_bytes) == last[:-1] + b"y"
    await verbs.stop(volume=name)
    await verbs.remove(volume=name, erase=True)


# Names


@pytest.mark.parametrize("name", ["n", "_", "0", "a.b-c_D", "n.dco", "n.sums", "SNAP-n", LONGEST])
async def test_a_volume_of_any_name_is_used_by_every_verb(rig: Rig, name: str) -> None:
    await every_verb(rig, name, lambda letter: str(rig.path(letter)))


@pytest.mark.parametrize("name", ["", ".", "..", "-n", ".n", "a/b", "a b", "é", "n\n", "\udc80", LONGEST + "n"])
def test_what_is_no_name_is_refused_in_words(name: str) -> None:
    with pytest.raises(BadRequest, match="is not a name"):
        check_arguments("make", {"volume": name, "size_bytes": SIZE, "plexes": [{"path": "/a"}]})


async def test_snapshots_of_snapshots_that_were_cleared_have_names(rig: Rig) -> None:
    """Each is a volume like others, and its name is longer than that of its original; up to the end, and again."""
    verbs = Asked(rig)
    await verbs.make(volume=LONGEST, size_bytes=SIZE, plexes=[{"path": str(rig.path("a"))}])
    name = LONGEST
    for number in range(5):
        [taken] = (await verbs.snapshot(volumes=[name], instant=str(rig.path(f"s{number}"))))["volumes"]
        name = taken["name"]
        assert len(name) == min(GIVEN_LENGTH + 5 * (number + 1), VOLUME_LENGTH)
        await verbs.snapsync(snapshot=name)
        await rig.end_all()
        await verbs.snapclear(snapshot=name)
    await verbs.plex_add(volume=name, path=str(rig.path("x")))
    await rig.end_all()


# Sizes

SIZES = {
    "one page of memory": (4096, {}),
    "one region": (REGION, {}),
    "a last region that is short": (2 * REGION + 4096, {}),
    "the smallest regions": (5 * 4096, {"region_size_bytes": 4096}),
    "the largest extents of them": (5 * 4096, {"region_size_bytes": 4096, "drl_extent_bytes": 4 << 20}),
    "the largest regions": (3 * 4096, {"region_size_bytes": 64 << 20}),
    "the largest extents": (3 * 4096, {"region_size_bytes": 64 << 20, "drl_extent_bytes": 64 << 30}),
}  # fmt: skip


@pytest.mark.parametrize("what", SIZES)
async def test_a_volume_of_any_size_is_used_by_every_verb(rig: Rig, what: str) -> None:
    size, options = SIZES[what]
    await every_verb(rig, "data", lambda letter: str(rig.path(letter)), size, **options)


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (0, {}), (1, {}), (512, {}), (4095, {}), (4097, {}), ((1 << 50) + 4096, {"region_size_bytes": 64 << 20}),
        (MAX_NUMBER, {}), (SIZE, {"region_size_bytes": 2048}), (SIZE, {"region_size_bytes": 128 << 20}),
        (SIZE, {"region_size_bytes": 5000}), (SIZE, {"drl_extent_bytes": 32 << 10}),
        (SIZE, {"drl_extent_bytes": 128 << 20}), ((1 << 44) + 4096, {}),
    ],
)  # fmt: skip
async def test_a_size_that_cannot_be_is_refused_in_words(rig: Rig, size: int, options: dict[str, int]) -> None:
    for dry_run in (True, False):
        with pytest.raises(BadRequest, match="bad_size"):
            await rig.make("a", size, dry_run=dry_run, **options)
    assert not rig.path("a").exists()


# Paths


@pytest.mark.parametrize("name", ["with space", "with,comma", ",dco=x", "ünï", "a'b\"c\\d", "-x", "f" * 251])
async def test_a_plex_at_any_path_is_used_by_every_verb(rig: Rig, name: str) -> None:
    await every_verb(
        rig, "data", lambda letter: str(rig.directory / f"{letter}{name}"[: 251 if len(name) > 99 else None])
    )


@pytest.mark.parametrize("path", ["", "/", "a", "/a/", "/a\nb", "/a\x1b[2J", "/a\udcff", "/" + "p" * MAX_PATH_BYTES])
def test_what_is_no_path_is_refused_in_words(path: str) -> None:
    with pytest.raises(BadRequest, match=r"not a line of text|not an absolute path|longer than"):
        check_arguments("plex_add", {"volume": "data", "path": path})


async def test_a_file_whose_name_leaves_no_room_for_its_dco(rig: Rig) -> None:
    """It may have that elsewhere."""
    path = str(rig.directory / ("f" * 255))
    await rig.make("a")
    for dry_run in (True, False):
        with pytest.raises(BadRequest, match=r"the name of its copy of the DCO is too long.*,dco="):
            await rig.verbs.plex_add(volume="data", path=path, dry_run=dry_run)
    await rig.verbs.plex_add(volume="data", path=path, dco=str(rig.path("f.dco")))
    await rig.end_all()
    for _ in range(2):
        await rig.verbs.plex_det(volume="data", plex=path)
        await rig.verbs.plex_att(volume="data", plex=path)
        await rig.end_all()
    await rig.verbs.plex_dis(volume="data", plex=path)


def worst(rig: Rig) -> int:
    """The bytes of a record of the volume 'data' as it may become: with all history, a stamp and a position each."""
    known = rig.service.mirror.store.family
    history = tuple(Position(f"{at:036d}", MOST) for at in range(HISTORY_LIMIT))
    for plex in known.volume.plexes:
        plex.has = Position("l" * 36, MOST)
    known.history = history
    return len(layout.encode_record(known.record(MOST), 0))


async def test_as_many_plexes_as_there_may_be_with_paths_as_long_as_there_is_room_for(tmp_path: Path) -> None:
    """What a record has to hold later is kept free for it."""
    deep = tmp_path
    while len(str(deep)) < 1600:
        deep /= "d" * 100
    deep.mkdir(parents=True)
    paths = [str(deep / f"{'p' * 40}{at}") for at in range(39)]
    async with daemon(tmp_path) as rig:
        await rig.verbs.make(volume="data", size_bytes=REGION, plexes=[{"path": path} for path in paths])
        for dry_run in (True, False):
            with pytest.raises(Failed, match="dco_full"):
                await rig.verbs.plex_add(volume="data", path=str(deep / "more"), dry_run=dry_run)
            with pytest.raises(Failed, match="dco_full"):
                await rig.verbs.snapshot(volumes=["data"], instant=str(deep / "more"), dry_run=dry_run)
        await rig.verbs.plex_det(volume="data", plex=paths[-1])
        await rig.verbs.plex_att(volume="data", plex=paths[-1])
        await rig.end_all()
        assert worst(rig) <= layout.RECORD_SLOT_BYTES


async def test_paths_that_leave_no_room_in_the_record_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    deep = tmp_path
    while len(str(deep)) < 3700:
        deep /= "é" * 50
    plexes = [{"path": str(deep / str(at))} for at in range(12)]
    async with daemon(tmp_path) as rig:
        for dry_run in (True, False):
            with pytest.raises(Failed, match="dco_full: volume data: the paths of its plexes are too long together"):
                await rig.verbs.make(volume="data", size_bytes=SIZE, plexes=plexes, dry_run=dry_run)
        await rig.make("abcd")
        for plex in rig.service.volume.plexes:
            plex.path = plex.path + "é" * 3800
        for dry_run in (True, False):
            with pytest.raises(Failed, match="dco_full"):
                await rig.verbs.plex_add(volume="data", path=str(rig.path("x")), dry_run=dry_run)


# Columns


async def test_where_all_bitmaps_are_in_use_every_verb_says_so(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that there may be, of which one bank would do for a test."""
    monkeypatch.setattr(family, "MOST_BANKS", 1)
    await rig.make("ab", REGION)
    for number in range(7):
        await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path(f"s{number}")))
    for dry_run in (True, False):
        with pytest.raises(Failed, match="plex_too_many: volume data: 5 bitmaps more are needed") as caught:
            await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("more")), dry_run=dry_run)
        assert "snapclear" in caught.value.hint and not rig.path("more").exists()
    await rig.verbs.snapback(snapshot="SNAP-data")
    await rig.end_all()
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("more")))


# Numbers


@pytest.mark.parametrize("value", ["0.1", "86400", "1e3"])
async def test_a_time_limit_that_is_accepted_is_used(rig: Rig, value: str) -> None:
    await rig.make("ab")
    await rig.verbs.set(volume="data", settings={"io_timeout": value})
    await rig.write_regions(1)
    await rig.det("b")
    await rig.end(await rig.att("b"))


@pytest.mark.parametrize(
    "setting",
    ["io_timeout=0", "io_timeout=-1", "io_timeout=nan", "io_timeout=inf", "io_timeout=1e99", "io_timeout=0.09",
     "rate=-1", "rate=1.5", "rate=9999999T", "rate=K", "fmr=1", "rdpol=prefer:", "auto_attach=yes", "speed=1"],
)  # fmt: skip
async def test_a_setting_that_cannot_be_is_refused_in_words(rig: Rig, setting: str) -> None:
    await rig.make("a")
    key, _, value = setting.partition("=")
    with pytest.raises(BadRequest, match="bad_setting"):
        await rig.verbs.set(volume="data", settings={key: value})


async def test_a_plex_that_is_to_be_preferred_must_be_there(rig: Rig) -> None:
    for dry_run in (True, False):
        with pytest.raises(Failed, match="plex_unknown"):
            await rig.make("ab", rdpol="prefer:data-03", dry_run=dry_run)
    await rig.make("ab", rdpol="prefer:data-02")


@pytest.mark.parametrize("rate", ["1", "1048576T"])
async def test_any_rate_ends_when_it_is_lifted(rig: Rig, rate: str) -> None:
    """Also one of the volume's, of a copy that rests by it: a byte a second is two days for a window."""
    await rig.make("ab")
    await rig.verbs.set(volume="data", settings={"rate": rate})
    await rig.det("b")
    await rig.data.write(0, os.urandom(SIZE))
    task = await rig.att("b")
    found = rig.registry.context.tasks.find(task["id"])
    await until(lambda: found.done_bytes > 0)
    await rig.verbs.set(volume="data", settings={"rate": "0"})
    assert (await rig.end(task))["state"] == "done"


# Requests


def test_the_longest_request_that_is_accepted_fits_its_line() -> None:
    """As long as it can be said: most letters take six bytes of JSON for two of UTF-8."""
    name = "/" + "é" * ((MAX_PATH_BYTES - 1) // 2)
    plexes = [{"path": name, "dco": name}] * MAX_ITEMS
    line = Request("make", {"volume": LONGEST, "size_bytes": SIZE, "plexes": plexes}).encode()
    assert len(line) <= REQUEST_LIMIT_BYTES
    assert Request.decode(line).args["plexes"] == plexes


@pytest.mark.parametrize("count", [MAX_IDS, MAX_IDS + 1])
def test_the_tasks_of_all_volumes_are_waited_for_together(count: int) -> None:
    """`recover --wait` after a crash names each of them."""
    refused = pytest.raises(BadRequest, match="at most") if count > MAX_IDS else contextlib.nullcontext()
    with refused:
        check_arguments("task_monitor", {"ids": list(range(count))})
