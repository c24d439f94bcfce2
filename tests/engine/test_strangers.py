"""Another disk or file at a plex's path is nobody's: it is not written to before somebody asks for it."""

import errno
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fmrd.backing import dcofile
from fmrd.dco.loading import load
from fmrd.errors import FmrdError, Refused
from tests.engine.faulty import Operation
from tests.engine.rig import SIZE, Rig, daemon

PRECIOUS = b"precious" * (SIZE // 8)


@asynccontextmanager
async def with_a_stranger(directory: Path, *, dco: bytes | None = None) -> AsyncIterator[Rig]:
    """The volume ran on a and b; now something else lies at b, ``dco`` beside it. The plex itself is put aside."""
    async with daemon(directory) as rig:
        await rig.make()
        await rig.write_regions(1)
    (directory / "b").rename(directory / "b-aside")
    (directory / "b.dco").rename(directory / "b-aside.dco")
    (directory / "b").write_bytes(PRECIOUS)
    if dco is not None:
        (directory / "b.dco").write_bytes(dco)
    async with daemon(directory) as rig:
        yield rig


async def stays_out(rig: Rig) -> None:
    assert await rig.states() == "ACTIVE STALE"
    await rig.write_regions(5)
    recovered = await rig.verbs.recover(volume="data")
    assert (recovered["tasks"], [each["code"] for each in recovered["failed"]]) == ([], ["refused_unknown_plex"])
    with pytest.raises(Refused, match="refused_unknown_plex") as caught:
        await rig.att("b")
    assert "att --full" in caught.value.hint
    assert rig.bytes_of("b") == PRECIOUS


async def test_it_is_left_alone_at_a_start_and_by_recover(tmp_path: Path) -> None:
    async with with_a_stranger(tmp_path) as rig:
        await stays_out(rig)
        assert not rig.path("b.dco").exists()


@pytest.mark.parametrize("dco", [b"", bytes(1 << 19), b"a report", b"FMRD-DCO" + bytes(1 << 19)])
async def test_whatever_lies_beside_it_unless_that_names_the_plex(tmp_path: Path, dco: bytes) -> None:
    async with with_a_stranger(tmp_path, dco=dco) as rig:
        await stays_out(rig)
        assert rig.path("b.dco").read_bytes() == dco


async def test_the_plex_returns_as_it_was_when_the_stranger_has_gone(tmp_path: Path) -> None:
    """It was absent, no more: what lay in its place tells nothing of it."""
    async with with_a_stranger(tmp_path) as rig:
        await stays_out(rig)
        rig.path("b-aside").rename(rig.path("b"))
        rig.path("b-aside.dco").rename(rig.path("b.dco"))
        task = await rig.end(await rig.att("b"))
        assert (task["reason"]["code"], task["done_regions"]) == ("fast", 1)


async def test_asked_for_it_is_overwritten(tmp_path: Path) -> None:
    async with with_a_stranger(tmp_path) as rig:
        task = await rig.end(await rig.att("b", full=True))
        assert (task["reason"]["code"], task["done_regions"]) == ("full_forced", 64)
        await rig.stop()
        assert rig.same("a", "b")


async def test_asked_for_and_cut_off_before_that_is_recorded_it_is_a_stranger_still(tmp_path: Path) -> None:
    """Named too early, a device would be taken for the plex as it was, and get only what that missed."""
    async with with_a_stranger(tmp_path) as rig:
        with rig.host.failing(rig.directory / "state/volumes/data.dco", "dco_write"), pytest.raises(FmrdError):
            await rig.att("b", full=True)
        with pytest.raises(Refused, match="refused_unknown_plex"):
            await rig.att("b")
        assert (await rig.end(await rig.att("b", full=True)))["state"] == "done"


async def test_a_plex_of_another_volume_is_not_accepted_either(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("a")
        await rig.verbs.make(volume="other", size_bytes=SIZE, plexes=[{"path": str(rig.path("x"))}])
        await rig.verbs.stop(volume="other")
        await rig.stop()
        for name in ("", ".dco"):
            shutil.copy(rig.path(f"x{name}"), rig.path(f"a{name}"))
        before = rig.path("a.dco").read_bytes()
        with pytest.raises(Refused, match="no_current_plex"):
            await rig.verbs.start(volume="data")
        with pytest.raises(Refused, match="refused_unknown_plex"):
            await rig.verbs.start(volume="data", accept="data-01")
        assert rig.path("a.dco").read_bytes() == before


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE])
async def test_a_copy_that_cannot_be_read_just_now_is_not_none(rig: Rig, code: int) -> None:
    await rig.make()
    await rig.det("b")
    await rig.write_regions(1)
    with rig.host.failing(rig.path("b.dco"), "dco_read", code=code), pytest.raises(FmrdError) as caught:
        await rig.att("b")
    assert caught.value.code == ("io_error" if code == errno.EIO else "exhausted")
    task = await rig.end(await rig.att("b"))
    assert (task["reason"]["code"], task["done_regions"]) == ("fast", 1)


async def test_a_copy_that_can_never_be_read_again_is_overwritten_on_request(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    with rig.host.failing(rig.path("b.dco"), "dco_read"):
        assert (await rig.end(await rig.att("b", full=True)))["reason"]["code"] == "full_forced"
    assert await rig.states() == "ACTIVE ACTIVE"


async def test_a_new_plex_is_named_by_its_own_copy_before_any_record_names_it(rig: Rig) -> None:
    """Or a crash, or a disk that fails then, would leave one that nothing names."""
    await rig.make("a")
    family = rig.service.mirror.store.family.uuid
    named: list[bool] = []

    def look(operation: Operation) -> None:
        if operation.name == "dco_write" and operation.path.endswith("volumes/data.dco") and rig.path("c.dco").exists():
            file = dcofile.open_file(str(rig.path("c.dco")))
            assert file is not None
            image = load(file).image
            file.close()
            uuid = next((p.uuid for p in rig.service.volume.plexes if p.path == str(rig.path("c"))), "")
            named.append(image.names(family, uuid))

    rig.host.watch.hooks.append(look)
    await rig.end((await rig.verbs.plex_add(volume="data", path=str(rig.path("c"))))["task"])
    assert named and all(named)


# An import


async def test_an_import_leaves_alone_what_its_command_does_not_name(tmp_path: Path) -> None:
    """The record says where the other plex lies, and its DCO lies there: the word of whoever wrote them."""
    async with daemon(tmp_path) as rig:
        await rig.make()
        await rig.det("b")
        await rig.write_regions(1)
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "b").write_bytes(PRECIOUS)
    dco = (tmp_path / "b.dco").read_bytes()
    async with daemon(tmp_path) as rig:
        await rig.verbs.import_volume(paths=[str(rig.path("a"))])
        await rig.end_all()
        recovered = await rig.verbs.recover(volume="data")
        assert (recovered["tasks"], [each["plex"] for each in recovered["failed"]]) == ([], ["data-02"])
    async with daemon(tmp_path) as rig:
        assert await rig.states() == "ACTIVE STALE"
        assert rig.bytes_of("b") == PRECIOUS and rig.path("b.dco").read_bytes() == dco
        assert not rig.host.watch.seen("dco_read", str(rig.path("b.dco")))


async def test_an_import_writes_to_no_file_that_the_record_calls_a_dco(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        plexes = [{"path": str(rig.path("a")), "dco": str(rig.path("report"))}]
        await rig.verbs.make(volume="data", size_bytes=SIZE, plexes=plexes)
        await rig.write_regions(1)
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "report").rename(tmp_path / "a.dco")
    (tmp_path / "report").write_bytes(b"a report")
    async with daemon(tmp_path) as rig:
        await rig.verbs.import_volume(paths=[str(rig.path("a"))])
        assert await rig.states() == "ACTIVE"
    async with daemon(tmp_path) as rig:
        assert await rig.states() == "ACTIVE"
        await rig.verbs.remove(volume="data")
    assert (tmp_path / "report").read_bytes() == b"a report"


async def test_a_plex_that_an_import_names_takes_part_again(tmp_path: Path) -> None:
    """Also one that was left out before."""
    async with daemon(tmp_path) as rig:
        await rig.make()
        await rig.stop()
        await rig.verbs.start(volume="data", without=["data-02"])
        await rig.write_regions(1)
    shutil.rmtree(tmp_path / "state")
    async with daemon(tmp_path) as rig:
        await rig.verbs.import_volume(paths=[str(rig.path("a")), str(rig.path("b"))])
        await rig.verbs.recover(volume="data")
        await rig.end_all()
        assert await rig.states() == "ACTIVE ACTIVE"


async def test_what_is_off_line_or_left_out_is_not_looked_for_at_a_start(rig: Rig) -> None:
    """Its disk may be somebody else's by now, or slow."""
    await rig.make("abc")
    await rig.verbs.plex_off(volume="data", plex="data-02")
    await rig.stop()
    await rig.verbs.start(volume="data", without=["data-03"])
    await rig.stop()
    rig.host.watch.log.clear()
    await rig.verbs.start(volume="data")
    assert [operation.path for operation in rig.host.watch.seen("open")] == [str(rig.path("a"))]
