"""A write is under way, its session is given up, and the next one writes to the same bytes: which servers carry out the
first one later, over the second? One with a fence does not, and one without is seen to.
"""

from functools import partial
from pathlib import Path

import pytest
import trio

from fmrd.backing.nbd.exports import Exports
from fmrd.backing.nbd.plex import NbdPlex
from fmrd.errors import Failed, Refused
from tests.e2e.harness import needs_program
from tests.nbd_servers import Server, disk, serving
from tests.waiting import until

pytestmark = needs_program("nbdkit")

SIZE = 1 << 20
SINGLE = "&x-fence=single"
A, B = b"A" * 4096, b"B" * 4096


def slow(where: Path, *words: str) -> Server:
    """A server on a disk that takes its time for A: until the file ``go`` is there."""
    path = disk(where, SIZE)
    write = f'cat >"$tmpdir/$$"; if grep -q A "$tmpdir/$$"; then touch {where}/begun; while [ ! -e {where}/go ]; do '
    write += f'sleep 0.01; done; fi; dd if="$tmpdir/$$" of={path} conv=notrunc oflag=seek_bytes seek=$4 2>/dev/null'
    read = f"dd if={path} iflag=skip_bytes,count_bytes skip=$4 count=$3 2>/dev/null"
    filters = [word for word in words if word.startswith("--")]
    plugin = ["eval", f"get_size=echo {SIZE}", f"pread={read}", f"pwrite={write}", "can_write=exit 0",
              "thread_model=echo parallel", "flush=exit 0", "can_flush=exit 0"]  # fmt: skip
    parameters = [word for word in words if not word.startswith("--")]
    return Server(where / "nbd.sock", ["nbdkit", "-f", "-U", str(where / "nbd.sock"), *filters, *plugin, *parameters])


async def opened(exports: Exports, uri: str) -> NbdPlex:
    return await trio.to_thread.run_sync(exports.open_plex, uri, 0)


async def give_up_a_write(exports: Exports, uri: str, where: Path) -> None:
    """A is under way on the server, and nobody here hears of it any more."""
    plex = await opened(exports, uri)
    errors: list[Exception | None] = []
    plex.begin_pwrite(0, A, errors.append)
    await until((where / "begun").exists)
    plex.hang_up()
    await until(lambda: len(errors) == 1)
    assert errors[0] is not None
    await trio.to_thread.run_sync(plex.close)


async def write(plex: NbdPlex, data: bytes) -> None:
    await trio.to_thread.run_sync(plex.pwrite, 0, data)
    await trio.to_thread.run_sync(plex.fdatasync)


@pytest.mark.parametrize(
    "filters", [("--filter=limit",), ("--filter=noparallel", "serialize=connections")], ids=["limit", "noparallel"]
)
async def test_behind_a_fence_nobody_is_let_in_before_it_has_landed(
    tmp_path: Path, filters: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fmrd.backing.nbd.speaking.opening.BUSY_SECONDS", 0.1)
    monkeypatch.setattr("fmrd.backing.nbd.speaking.opening.OPEN_SECONDS", 0.3)
    with serving(slow(tmp_path, *filters)) as server:
        exports = Exports()
        await give_up_a_write(exports, server.uri + SINGLE, tmp_path)
        with pytest.raises(Failed, match="plex_busy"):
            await opened(exports, server.uri + SINGLE)
        (tmp_path / "go").touch()
        with trio.fail_after(30):
            plex = await opened_in_the_end(exports, server.uri + SINGLE)
        assert (tmp_path / "disk.raw").read_bytes()[:4096] == A, "it has landed"
        await write(plex, B)
        await trio.to_thread.run_sync(plex.close)
        server.stop()
    assert (tmp_path / "disk.raw").read_bytes()[:4096] == B


async def opened_in_the_end(exports: Exports, uri: str) -> NbdPlex:
    while True:
        try:
            return await opened(exports, uri)
        except Failed:
            await trio.lowlevel.checkpoint()


async def test_without_one_the_late_write_wins(tmp_path: Path) -> None:
    """So such a plex joins by somebody's word alone. Should a server become better, this tells."""
    with serving(slow(tmp_path)) as server:
        exports = Exports()
        await give_up_a_write(exports, server.uri, tmp_path)
        plex = await opened(exports, server.uri)
        await write(plex, B)
        (tmp_path / "go").touch()
        with trio.fail_after(30):
            while await trio.to_thread.run_sync(plex.pread, 0, 4096) == B:
                pass
        assert await trio.to_thread.run_sync(plex.pread, 0, 4096) == A
        await trio.to_thread.run_sync(plex.close)


@pytest.mark.parametrize("takes", ["create_dco", "open_dco"])
async def test_a_copy_of_the_dco_in_an_export_of_its_own_is_looked_at_too(tmp_path: Path, takes: str) -> None:
    """Its fence counts as the plex's does, and so does a word that is not true."""
    path = disk(tmp_path, SIZE)
    words = ["nbdkit", "-f", "-U", str(tmp_path / "nbd.sock"), "file", str(path)]
    with serving(Server(tmp_path / "nbd.sock", words)) as server:
        exports = Exports()
        take = partial(getattr(exports, takes), server.uri + SINGLE, 65536, whole=True)
        with pytest.raises(Refused, match="not_fenced"):
            await trio.to_thread.run_sync(partial(take, replace=True) if takes == "create_dco" else take)
        dco = await trio.to_thread.run_sync(partial(exports.open_dco, server.uri, None, whole=True))
        assert dco is not None
        await trio.to_thread.run_sync(dco.close)
