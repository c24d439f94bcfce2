"""What an administrator of the cluster may set or do, and a cluster that stops answering at a bad moment: nothing of it
makes a promise of fmrd's untrue.
"""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import trio

from fmrd.backing.nbd.exports import Exports
from fmrd.backing.nbd.plex import NbdPlex
from fmrd.backing.rbd import image, library, owning, session
from fmrd.backing.rbd.session import RbdSession
from fmrd.errors import Failed, Refused
from tests.ceph.cluster import Cluster
from tests.ceph.test_fences import B, closed, opened
from tests.waiting import until

SIZE = 4 << 20


@pytest.fixture
def uri(cluster: Cluster) -> str:
    return cluster.image(SIZE)


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [("rbd_cache", "true", "not_durable"), ("rbd_blocklist_on_break_lock", "false", "not_fenced")],
)
async def test_what_an_image_or_its_pool_has_set_does_not_take_the_promise_away(
    cluster: Cluster, uri: str, option: str, value: str, code: str
) -> None:
    """librbd puts these above what its caller asks for: writes would end in a cache, or land when a lock was broken."""
    _, rbd = library.load("")
    with cluster.opened(uri) as there:
        there.config_set(option, value)
    with pytest.raises(Refused, match=code) as refused:
        await opened(Exports(), uri)
    assert refused.value.hint == f"rbd config image remove rbd/{uri.partition('?')[0].rpartition('/')[2]} {option}"
    with cluster.opened(uri) as there:
        there.config_remove(option)
    rbd.RBD().config_set(cluster.pool, option, value)
    try:
        with pytest.raises(Refused, match=code) as refused:
            await opened(Exports(), uri)
        assert refused.value.hint == f"rbd config pool remove rbd {option}"
    finally:
        rbd.RBD().config_remove(cluster.pool, option)
    await closed(await opened(Exports(), uri))


@pytest.mark.parametrize("asked", ["pwrite", "make_zero", "fdatasync", "pread"])
async def test_an_image_that_was_made_smaller_is_lost_and_takes_no_half_of_a_write(
    cluster: Cluster, uri: str, asked: str
) -> None:
    """librbd would drop what lies behind the new end, and say that all is well."""
    plex = await opened(Exports(), uri)
    with cluster.opened(uri) as other:
        other.resize(SIZE // 2, True)
    at = SIZE // 2 - 4096
    calls: dict[str, Callable[[], object]] = {
        "pwrite": partial(plex.pwrite, at, bytes(8192)),
        "make_zero": partial(plex.make_zero, at, 8192, punch=False),
        "fdatasync": plex.fdatasync,
        "pread": partial(plex.pread, at, 8192),
    }
    with pytest.raises(ConnectionError, match="made smaller"):
        await trio.to_thread.run_sync(calls[asked])
    await closed(plex)


async def test_an_image_whose_lock_was_disabled_is_written_no_more(cluster: Cluster, uri: str) -> None:
    """librbd would go on without, and nobody would be kept out by the next session."""
    _, rbd = library.load("")
    plex = await opened(Exports(), uri)
    with cluster.opened(uri) as other:
        lock = rbd.RBD_FEATURE_EXCLUSIVE_LOCK
        other.update_features(other.features() & (lock | rbd.RBD_FEATURE_OBJECT_MAP | rbd.RBD_FEATURE_FAST_DIFF), False)
    with pytest.raises(ConnectionError, match="was disabled"):
        await trio.to_thread.run_sync(plex.pwrite, 0, B)
    await closed(plex)
    assert cluster.content(uri, 0, 4096) == bytes(4096)
    with pytest.raises(Refused, match="not_fenced"):
        await opened(Exports(), uri)


async def test_a_cluster_that_hangs_while_the_lock_is_taken_holds_nobody_up(
    cluster: Cluster, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the image is not closed before librbd has returned from that: it would use memory that is gone."""
    took, closing = threading.Event(), threading.Event()
    take, close = owning.take_lock, image.Opened.close

    def hanging(*arguments: Any) -> None:
        cluster.hang()
        try:
            take(*arguments)
        finally:
            took.set()

    def noting(there: image.Opened) -> None:
        if not took.is_set():
            closing.set()
        close(there)

    monkeypatch.setattr(owning, "take_lock", hanging)
    monkeypatch.setattr(image.Opened, "close", noting)
    monkeypatch.setattr(session, "OWN_SECONDS", 0.5)
    exports = Exports(0.3)
    try:
        with trio.fail_after(5), pytest.raises(Failed, match=r"plex_missing.*lock"):
            await trio.to_thread.run_sync(exports.open_plex, uri, 0, abandon_on_cancel=True)
    finally:
        cluster.go_on()
    assert await trio.to_thread.run_sync(took.wait, 30)
    assert not closing.is_set(), "it was closed while its lock was being taken"
    monkeypatch.setattr(owning, "take_lock", take)
    await until_opened(exports, uri)


async def until_opened(exports: Exports, uri: str) -> None:
    while True:
        try:
            plex = await opened(exports, uri)
            break
        except Failed:
            await trio.lowlevel.checkpoint()
    await trio.to_thread.run_sync(plex.pwrite, 0, B)
    await closed(plex)


async def test_who_was_kept_out_is_kept_out_for_longer_than_a_cluster_is_away(
    cluster: Cluster, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call of his waits in the process that he was of: when its OSD is back it would be carried out."""
    ends, close = threading.Event(), image.Opened.close

    def hanging(there: image.Opened) -> None:
        ends.wait()
        close(there)

    monkeypatch.setattr(image.Opened, "close", hanging)
    exports = Exports(me=lambda: "this one")
    plex = await opened(exports, uri)
    plex.hang_up()
    assert isinstance(plex.session, RbdSession)
    address = plex.session.owner
    again = await opened(exports, uri)
    try:
        assert kept_out_for(cluster, address) > timedelta(hours=20)
        cluster.ask(prefix="osd blocklist", blocklistop="rm", addr=address)  # a day has passed
        again.hang_up()
        third = await opened(exports, uri)
        assert kept_out_for(cluster, address) > timedelta(hours=20)
    finally:
        ends.set()
    for each in (plex, again, third):
        await closed(each)


def kept_out_for(cluster: Cluster, address: str | None) -> timedelta:
    blocked = json.loads(cluster.ask(prefix="osd blocklist ls", format="json").partition(b"]")[0] + b"]")
    [until_then] = [each["until"] for each in blocked if each["addr"] == address]
    return datetime.strptime(until_then, "%Y-%m-%dT%H:%M:%S.%f%z") - datetime.now(UTC)


async def test_sessions_that_do_not_end_are_few(cluster: Cluster, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has threads of librbd's, and of an OSD that is away for a night one would be left by every attempt."""
    monkeypatch.setattr(owning, "MOST_LINGERING", 2)
    ends, close = threading.Event(), image.Opened.close

    def hanging(there: image.Opened) -> None:
        ends.wait()
        close(there)

    monkeypatch.setattr(image.Opened, "close", hanging)
    exports = Exports(me=lambda: "this one")
    lingering: list[NbdPlex] = []
    try:
        for _ in range(2):
            lingering.append(plex := await opened(exports, uri))
            plex.hang_up()
        with pytest.raises(Failed, match=r"plex_busy.*2 sessions"):
            await opened(exports, uri)
    finally:
        ends.set()
    for plex in lingering:
        assert isinstance(plex.session, RbdSession)
        await until(plex.session.gone.is_set)
        await closed(plex)
    await until_opened(exports, uri)
