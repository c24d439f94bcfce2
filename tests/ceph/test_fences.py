"""A write is under way in the cluster, its session is given up, and the next one writes to the same bytes: it is the
exclusive lock, taken away from the first, that keeps the late write out. From others it is never taken.
"""

import multiprocessing
import os
import signal
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import trio

from fmrd.backing.host import LinuxHost
from fmrd.backing.nbd.exports import Exports
from fmrd.backing.nbd.plex import NbdPlex
from fmrd.backing.rbd import image
from fmrd.backing.rbd.owning import who
from fmrd.backing.rbd.session import RbdSession
from fmrd.errors import Answered, Failed, Refused
from tests.ceph.cluster import Cluster
from tests.waiting import until

SIZE = 4 << 20
A, B = b"A" * 4096, b"B" * 4096
LAYERING = 1


@pytest.fixture
def uri(cluster: Cluster) -> str:
    return cluster.image(SIZE)


async def opened(exports: Exports, uri: str) -> NbdPlex:
    return await trio.to_thread.run_sync(exports.open_plex, uri, 0)


async def closed(plex: NbdPlex) -> None:
    await trio.to_thread.run_sync(plex.close)


async def test_after_a_session_that_was_given_up_its_write_never_lands_over_a_newer_one(
    cluster: Cluster, uri: str
) -> None:
    exports = Exports(me=lambda: "this one")
    plex = await opened(exports, uri)
    errors: list[Exception | None] = []
    cluster.hang()
    plex.begin_pwrite(0, A, errors.append)
    plex.begin_pwrite(8192, A, errors.append)
    plex.hang_up()
    await until(lambda: len(errors) == 2)
    assert all(error is not None and not isinstance(error, Answered) for error in errors)
    cluster.go_on()
    again = await opened(exports, uri)
    await trio.to_thread.run_sync(again.pwrite, 0, B)
    await trio.to_thread.run_sync(again.fdatasync)
    await closed(plex)
    assert isinstance(plex.session, RbdSession)
    assert await trio.to_thread.run_sync(plex.session.gone.wait, 30), "what it had under way is over"
    assert await trio.to_thread.run_sync(again.pread, 0, 4096) == B
    await closed(again)
    assert cluster.content(uri, 0, 4096) == B


def _write_and_hang(uri: str, state: Path, told: Connection) -> None:
    plex = LinuxHost(state).open_plex(uri, 0)
    plex.pwrite(4096, A)
    told.send("opened")
    told.recv()
    plex.pwrite(0, A)
    told.send("written")


async def test_a_process_that_died_lost_its_lock_at_once_and_one_that_lives_keeps_it(
    cluster: Cluster, uri: str, tmp_path: Path
) -> None:
    """One that only seems to be dead (it was stopped) cannot write any more, either."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_write_and_hang, args=(uri, tmp_path, theirs))
    process.start()
    try:
        assert await trio.to_thread.run_sync(ours.recv) == "opened"
        with pytest.raises(Failed, match=r"plex_busy.*has its exclusive lock"):
            await opened(Exports(me=lambda: "another fmrd"), uri)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        plex = await opened(Exports(me=partial(who, tmp_path)), uri)
        assert await trio.to_thread.run_sync(plex.pread, 4096, 4096) == A
        await trio.to_thread.run_sync(plex.pwrite, 0, B)
        ours.send("now write")
        os.kill(process.pid, signal.SIGCONT)
        await trio.to_thread.run_sync(process.join)
        assert process.exitcode, "its write failed"
        assert await trio.to_thread.run_sync(plex.pread, 0, 4096) == B
        await closed(plex)
    finally:
        process.kill()
        process.join()
        process.close()


async def test_a_session_whose_lock_is_broken_is_lost_and_says_why(cluster: Cluster, uri: str) -> None:
    plex = await opened(Exports(me=lambda: "this one"), uri)
    with cluster.opened(uri) as other:
        owner = next(iter(other.lock_get_owners()))
        other.lock_break(owner["mode"], owner["owner"])
        with pytest.raises(ConnectionError, match="its lock was broken"):
            await trio.to_thread.run_sync(plex.pwrite, 0, A)
    assert plex.standing.lost
    await closed(plex)
    again = await opened(Exports(me=lambda: "this one"), uri)
    await trio.to_thread.run_sync(again.pwrite, 0, B)
    await closed(again)


async def test_one_image_is_one_plex_however_it_is_named(cluster: Cluster, uri: str, tmp_path: Path) -> None:
    """And its lock is not taken from ourselves."""
    exports = Exports(me=lambda: "this one")
    plex = await opened(exports, uri)
    (tmp_path / "same.conf").write_text(cluster.conf.read_text())
    twin = uri.partition("?")[0] + f"?conf={tmp_path / 'same.conf'}&id=fmrd"
    with pytest.raises(Failed, match="plex_busy"):
        await opened(exports, twin)
    await trio.to_thread.run_sync(plex.pwrite, 0, B)
    await closed(plex)


async def test_a_cluster_that_hangs_ends_the_session_in_time_and_the_next_opening_too(
    cluster: Cluster, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "OPEN_SECONDS", 0.3)
    exports = Exports(me=lambda: "this one")
    plex = await opened(exports, uri)
    plex.patience_seconds = 0.3
    cluster.hang()
    try:
        with pytest.raises(ConnectionError, match="no answer within"):
            await trio.to_thread.run_sync(plex.pwrite, 0, A)
        for _ in range(2):
            with pytest.raises(Failed, match="does not answer"):
                await trio.to_thread.run_sync(partial(image.connect, plex.session.uri, 0.3))
    finally:
        cluster.go_on()
    await closed(plex)
    while True:
        try:
            again = await opened(exports, uri)
            break
        except Failed:
            await trio.lowlevel.checkpoint()
    await trio.to_thread.run_sync(again.pwrite, 0, B)
    await closed(again)


async def test_what_cannot_be_a_plex_says_what_to_do(cluster: Cluster) -> None:
    exports = Exports()
    with pytest.raises(Refused, match=r"not_fenced") as refused:
        await opened(exports, cluster.image(SIZE, features=LAYERING))
    assert "rbd feature enable" in refused.value.hint
    for wrong in (
        f"rbd:rbd/none?conf={cluster.conf}&id=fmrd",
        f"rbd:none/disk?conf={cluster.conf}&id=fmrd",
        "rbd:rbd/x?conf=/none",
    ):
        with pytest.raises(Failed, match="plex_missing"):
            await opened(exports, wrong)


async def test_more_than_librbd_is_given_at_a_time_ends_all_the_same(
    cluster: Cluster, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fmrd.backing.rbd.calling.MOST_UNDER_WAY", 3)
    plex = await opened(Exports(), uri)
    ends: list[Exception | None] = []
    for number in range(50):
        plex.begin_pwrite(number * 4096, bytes([number]) * 4096, ends.append)
    await until(lambda: len(ends) == 50)
    assert not any(ends)
    for number in range(50):
        assert cluster.content(uri, number * 4096, 1) == bytes([number])
    await closed(plex)
