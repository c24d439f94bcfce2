"""What may become a plex, or a copy of the DCO: blank is taken, recognised refused unless forced, in use always."""

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fmrd.core.json_object import Json
from fmrd.errors import BadRequest, Failed, FmrdError, Refused
from tests.backing import disks
from tests.engine.rig import SIZE, Rig

Verb = Callable[..., Awaitable[Json]]


def make(rig: Rig, path: object, dco: object = None, **options: object) -> Awaitable[Json]:
    plex = {"path": str(path)} | ({"dco": str(dco)} if dco else {})
    return rig.verbs.make(volume="other", size_bytes=SIZE, plexes=[plex], **options)  # type: ignore[arg-type]  # of make


def add(rig: Rig, path: object, dco: object = None, **options: object) -> Awaitable[Json]:
    return rig.verbs.plex_add(volume="data", path=str(path), dco=str(dco) if dco else None, **options)  # type: ignore[arg-type]  # of plex_add


def snapstart(rig: Rig, path: object, dco: object = None, **options: object) -> Awaitable[Json]:
    return rig.verbs.snapstart(volume="data", path=str(path), dco=str(dco) if dco else None, **options)  # type: ignore[arg-type]  # of snapstart


def instant(rig: Rig, path: object, dco: object = None, **options: object) -> Awaitable[Json]:
    dco = str(dco) if dco else None
    return rig.verbs.snapshot(volumes=["data"], instant=str(path), dco=dco, **options)  # type: ignore[arg-type]  # of snapshot


VERBS = [make, add, snapstart, instant]
every_verb = pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)


def content(directory: Path) -> dict[str, bytes]:
    """Of every file beside the state and the volume itself."""
    names = [p for p in directory.iterdir() if p.is_file() and p.name not in ("a", "a.dco")]
    return {p.name: p.read_bytes() for p in names}


async def refused(rig: Rig, verb: Verb, path: object, dco: object = None, *, code: str, **options: object) -> FmrdError:
    """By the verb, and by its dry run; nothing is changed."""
    before = content(rig.directory)
    for dry_run in (True, False):
        with pytest.raises(FmrdError) as caught:
            await verb(rig, path, dco, dry_run=dry_run, **options)
        assert caught.value.code == code, caught.value
        assert content(rig.directory) == before
    return caught.value


@every_verb
async def test_a_file_that_is_not_empty(rig: Rig, verb: Verb) -> None:
    await rig.make("a")
    rig.path("x").write_bytes(b"precious")
    error = await refused(rig, verb, rig.path("x"), code="refused_has_data")
    assert isinstance(error, Refused) and "--force" in error.hint
    await verb(rig, rig.path("x"), force=True)


@every_verb
async def test_an_empty_file_of_others_becomes_ours_alone(rig: Rig, verb: Verb) -> None:
    await rig.make("a")
    for name in ("x", "x.dco"):
        rig.path(name).touch()
        rig.path(name).chmod(0o666)
        if not os.geteuid():
            os.chown(rig.path(name), 65534, 65534)
    await verb(rig, rig.path("x"))
    for name in ("x", "x.dco"):
        status = rig.path(name).stat()
        assert (status.st_uid, status.st_mode & 0o777) == (os.geteuid(), 0o600), name


@every_verb
@pytest.mark.parametrize("force", [False, True])
async def test_the_plex_of_another_volume_that_is_stopped(rig: Rig, verb: Verb, force: bool) -> None:
    await rig.make("a")
    await rig.verbs.make(volume="third", size_bytes=SIZE, plexes=[{"path": str(rig.path("x"))}])
    await rig.verbs.stop(volume="third")
    await refused(rig, verb, rig.path("x"), code="refused_in_use", force=force)
    rig.path("link").symlink_to(rig.path("x"))
    await refused(rig, verb, rig.path("link"), code="refused_in_use", force=force)


@every_verb
async def test_a_device_whose_dco_lies_elsewhere_and_whose_volume_is_stopped(
    rig: Rig, verb: Verb, tmp_path: Path
) -> None:
    """Nothing on it tells; the records here do, also by another name."""
    await rig.make("a")
    with disks.loop_device(tmp_path, 32 << 20) as disk:
        plexes = [{"path": disk, "dco": str(rig.path("elsewhere"))}]
        await rig.verbs.make(volume="third", size_bytes=SIZE, plexes=plexes)
        await rig.verbs.stop(volume="third")
        os.mknod(rig.path("node"), 0o600 | 0o060000, os.stat(disk).st_rdev)
        for name in (disk, rig.path("node")):
            await refused(rig, verb, name, code="refused_in_use", force=True)
        await rig.verbs.remove(volume="third")


@every_verb
@pytest.mark.parametrize("force", [False, True])
async def test_dco_names_nothing_that_is_anothers(rig: Rig, verb: Verb, force: bool) -> None:
    await rig.make("a")
    home = rig.directory / "state/volumes/data.dco"
    for dco in (rig.path("a"), rig.path("a.dco"), home):
        await refused(rig, verb, rig.path("x"), dco, code="refused_in_use", force=force)
    await rig.stop()
    if verb is make:
        for dco in (rig.path("a"), rig.path("a.dco"), home):
            await refused(rig, verb, rig.path("x"), dco, code="refused_in_use", force=force)


@every_verb
async def test_a_file_that_lies_where_the_dco_would(rig: Rig, verb: Verb) -> None:
    await rig.make("a")
    rig.path("x.dco").write_bytes(b"a report")
    rig.path("y").write_bytes(b"a report")
    await refused(rig, verb, rig.path("x"), code="refused_has_data")
    await refused(rig, verb, rig.path("x"), rig.path("y"), code="refused_has_data")
    await refused(rig, verb, rig.path("x"), rig.path("x"), code="bad_request")
    await verb(rig, rig.path("x"), force=True)
    assert rig.path("y").read_bytes() == b"a report"


@every_verb
async def test_what_cannot_be_a_plex(rig: Rig, verb: Verb, tmp_path: Path) -> None:
    await rig.make("a")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for path, code in {
        "/dev/fmrd-no-such-disk": "not_a_plex",
        str(tmp_path): "not_a_plex",
        f"{tmp_path}/none/x": "plex_missing",
        f"{tmp_path}/open/x": "refused_unsafe",
    }.items():
        error = await refused(rig, verb, path, code=code, force=True)
        assert "fmrd-no-such" not in path or "there is no such device" in error.message
    with disks.loop_device(tmp_path, 4 << 20) as short:
        await refused(rig, verb, short, code="plex_too_short")
        await refused(rig, verb, rig.path("x"), short, code="not_a_plex", force=True)


async def test_in_a_directory_for_all_a_plex_is_made_first_or_not_at_all(rig: Rig) -> None:
    """As /tmp: nobody puts anything in the place of what is there."""
    (rig.directory / "shared").mkdir()
    (rig.directory / "shared").chmod(0o1777)
    await make(rig, rig.directory / "shared" / "x")
    assert await rig.door("other").read(0, 1) == b"\0"


async def test_one_copy_of_the_dco_for_two_plexes(rig: Rig) -> None:
    one, two, dco = (str(rig.path(name)) for name in ("x", "y", "z"))
    rig.path("link").symlink_to(rig.path("x"))
    for plexes in (
        [{"path": one, "dco": dco}, {"path": two, "dco": dco}],
        [{"path": one}, {"path": two, "dco": f"{one}.dco"}],
        [{"path": one, "dco": two}, {"path": two}],
        [{"path": one}, {"path": one}],
    ):
        with pytest.raises(BadRequest):
            await rig.verbs.make(volume="data", size_bytes=SIZE, plexes=plexes)
    assert sorted(p.name for p in rig.directory.iterdir()) == ["link", "state"]


async def test_one_file_by_two_names_is_no_mirror(rig: Rig) -> None:
    rig.path("x").touch()
    rig.path("link").symlink_to("x")
    plexes = [{"path": str(rig.path(name))} for name in ("x", "link")]
    for dry_run in (True, False):
        with pytest.raises(BadRequest, match="named twice"):
            await rig.verbs.make(volume="data", size_bytes=SIZE, plexes=plexes, dry_run=dry_run)
    assert rig.path("x").stat().st_size == 0


async def test_a_plex_of_a_volume_that_nobody_knows_here_is_taken_on_request(rig: Rig) -> None:
    await rig.make("b")
    await rig.stop()
    for name in ("b", "b.dco"):
        shutil.copy(rig.path(name), rig.path(f"kept-{name}"))
    await rig.verbs.remove(volume="data", erase=True)
    for name in ("b", "b.dco"):
        rig.path(f"kept-{name}").rename(rig.path(name))
    await rig.make("a")
    error = await refused(rig, add, rig.path("b"), code="refused_has_data")
    assert "import" in error.hint
    await rig.end((await add(rig, rig.path("b"), force=True))["task"])
    assert await rig.states() == "ACTIVE ACTIVE"


async def test_what_is_replaced_while_it_is_looked_at_is_not_taken(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.path("x").touch()
    real = rig.host.look

    def look(path: str, mount: str | None, *, sidecar: bool = True) -> object:
        seen = real(path, mount, sidecar=sidecar)
        rig.path("x").rename(rig.path("x-before"))
        rig.path("x").write_bytes(b"precious")
        return seen

    monkeypatch.setattr(rig.host, "look", look)
    with pytest.raises(Refused, match="refused_in_use"):
        await make(rig, rig.path("x"))
    assert rig.bytes_of("x") == b"precious"


async def test_from_keeps_what_is_there_and_takes_no_stranger_for_its_dco(rig: Rig) -> None:
    rig.path("x").write_bytes(b"precious")
    rig.path("x.dco").write_bytes(b"a report")
    await refused(rig, make, rig.path("x"), code="refused_has_data", from_path=str(rig.path("x")))
    rig.path("x.dco").unlink()
    await make(rig, rig.path("x"), from_path=str(rig.path("x")))
    assert await rig.door("other").read(0, 8) == b"precious"


async def test_a_failed_make_removes_nothing_that_it_did_not_make(rig: Rig) -> None:
    rig.path("x.dco").touch()
    with rig.host.failing(rig.path("x.dco"), "dco_write"), pytest.raises(Failed):
        await make(rig, rig.path("x"))
    assert not rig.path("x").exists()
