"""Which servers are trusted with a plex: refusals by real ones, each with its code and what to do, and TLS."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from fmrd.backing.host import LinuxHost
from fmrd.backing.nbd.speaking import opening
from fmrd.core.far.uris import read_uri
from fmrd.errors import Failed, FmrdError, Refused
from tests.certificates import authority
from tests.e2e.harness import needs_program
from tests.nbd_servers import Server, disk, nbd_server, nbdkit_file, nbdkit_memory, qemu_nbd, serving

SIZE = 4 << 20
SINGLE = "&x-fence=single"

needs_nbdkit = needs_program("nbdkit")


@pytest.fixture
def where(tmp_path: Path) -> Path:
    (tmp_path / "far").mkdir()
    return tmp_path / "far"


@pytest.fixture
def host(tmp_path: Path) -> LinuxHost:
    """No trio runs here: whoever asks does it all."""
    return LinuxHost(tmp_path / "state")


def nbdkit(where: Path, *words: str) -> Server:
    return Server(where / "nbd.sock", ["nbdkit", "-f", "-U", str(where / "nbd.sock"), *words])


def refused(host: LinuxHost, uri: str, code: str, *, looks: bool = True) -> FmrdError:
    """By a look, which a dry run is, as by who opens it."""
    with pytest.raises(FmrdError, match=code) as caught:
        host.open_plex(uri, 0)
    if looks:
        with pytest.raises(FmrdError, match=code):
            host.look(uri, None)
    assert uri.partition("?")[0] in caught.value.message and caught.value.hint
    return caught.value


@needs_nbdkit
def test_read_only(where: Path, host: LinuxHost) -> None:
    with serving(nbdkit(where, "-r", "memory", "4M")) as server:
        assert isinstance(refused(host, server.uri, "read_only"), Failed)


EVAL = ("eval", "get_size=echo 4194304", "pread=dd if=/dev/zero bs=$3 count=1 2>/dev/null", "pwrite=cat >/dev/null")


@needs_nbdkit
def test_no_flush_is_nothing_durable(where: Path, host: LinuxHost) -> None:
    with serving(nbdkit(where, *EVAL)) as server:
        assert isinstance(refused(host, server.uri, "not_durable"), Refused)


@needs_program("nbd-server")
def test_a_server_that_must_be_told_to_offer_flush(where: Path, host: LinuxHost) -> None:
    with serving(nbd_server(where, SIZE, durable=False)) as server:
        assert "flush = true" in refused(host, server.uri, "not_durable").hint


@needs_nbdkit
def test_blocks_that_are_too_large_for_a_plex_may_do_for_a_dco(where: Path, host: LinuxHost) -> None:
    with serving(nbdkit(where, *EVAL, "flush=exit 0", "can_flush=exit 0", "block_size=echo 4096 4096 1M")) as server:
        assert "--filter=blocksize" in refused(host, server.uri, "min_block").hint
        dco = host.create_dco("/a/plex", server.uri, 1 << 20)
        dco.write(4096, bytes(4096))
        dco.close()
    larger = nbdkit(where, *EVAL, "flush=exit 0", "can_flush=exit 0", "block_size=echo 8192 8192 1M")
    with serving(larger) as server, pytest.raises(Refused, match="min_block"):
        host.create_dco("/a/plex", server.uri, 1 << 20)
    filtered = nbdkit(
        where, "--filter=blocksize", *EVAL, "flush=exit 0", "can_flush=exit 0", "block_size=echo 4096 4096 1M"
    )
    with serving(filtered) as server:
        host.open_plex(server.uri, 0).close()


@needs_nbdkit
def test_a_fence_that_lets_a_second_one_in_is_none(where: Path, host: LinuxHost) -> None:
    with serving(nbdkit_memory(where, SIZE)) as server:
        assert "--filter=limit" in refused(host, server.uri + SINGLE, "not_fenced", looks=False).hint
        plex = host.open_plex(server.uri, 0)
        assert plex.fence == ""
        plex.close()


@pytest.mark.parametrize(
    "filters", [("--filter=limit",), ("--filter=noparallel", "serialize=connections")], ids=["limit", "noparallel"]
)
@needs_nbdkit
def test_a_fence_that_keeps_the_second_one_out_or_waiting_is_one(
    where: Path, host: LinuxHost, filters: tuple[str, ...]
) -> None:
    with serving(nbdkit_file(where, SIZE, *filters)) as server:
        plex = host.open_plex(server.uri + SINGLE, 0)
        assert plex.fence == "single" and plex.far == "NBD"
        plex.pwrite(0, b"x")
        assert plex.pread(0, 1) == b"x"
        plex.close()


@needs_nbdkit
def test_whom_the_server_keeps_out_is_told_that_it_is_busy(
    where: Path, host: LinuxHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(nbdkit_file(where, SIZE, "--filter=limit")) as server:
        first = host.open_plex(server.uri + SINGLE, 0)
        other = LinuxHost(tmp_path / "other")
        monkeypatch.setattr(opening, "BUSY_SECONDS", 0.1)
        assert "one client at a time" in refused(other, server.uri + SINGLE, "plex_busy").message
        first.close()
        monkeypatch.setattr(opening, "BUSY_SECONDS", 30.0)
        other.open_plex(server.uri + SINGLE, 0).close()


@pytest.mark.parametrize("there", [False, True])
def test_nobody_there(where: Path, host: LinuxHost, there: bool) -> None:
    path = where / "nbd.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        if there:
            bound.bind(str(path))
        refused(host, f"nbd+unix:///?socket={path}", "plex_missing")


@needs_program("qemu-nbd")
def test_no_such_export(where: Path, host: LinuxHost) -> None:
    with serving(qemu_nbd(where, SIZE)) as server:
        assert "'other'" in refused(host, server.uri.replace("disk?", "other?"), "plex_missing").message


def test_a_host_that_has_no_name(host: LinuxHost) -> None:
    refused(host, "nbd://nowhere.invalid/x", "plex_missing")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and what it signed for the server ``here.test`` and for a client; another authority beside it."""
    where = tmp_path_factory.mktemp("pki")
    for name in ("good", "other"):
        home = where / name
        home.mkdir()
        authority(home, "server.test", "client.test")
    return where


@contextmanager
def with_tls(where: Path, pki: Path, *words: str) -> Iterator[Server]:
    server = nbdkit(
        where, "--tls=require", f"--tls-certificates={pki / 'good'}", *words, "file", str(disk(where, SIZE))
    )
    with serving(server):
        yield server


def tls(server: Server, pki: Path, name: str = "server.test") -> str:
    uri = server.uri.replace("nbd+unix", "nbds+unix")
    return f"{uri}&tls-certificates={pki}&tls-hostname={name}"


@needs_program("nbdkit", "openssl")
def test_tls_with_certificates_on_both_sides(where: Path, pki: Path, host: LinuxHost) -> None:
    content = bytes(range(256)) * 8192
    with with_tls(where, pki, "--tls-verify-peer") as server:
        plex = host.open_plex(tls(server, pki / "good"), 0)
        plex.pwrite(77, content)
        plex.fdatasync()
        assert plex.pread(77, len(content)) == content
        plex.close()
    assert (where / "disk.raw").read_bytes()[77:][: len(content)] == content


@needs_program("nbdkit", "openssl")
async def test_many_requests_by_tls_at_once(where: Path, pki: Path, tmp_path: Path) -> None:
    with with_tls(where, pki) as server:
        host = LinuxHost(tmp_path / "state")
        plex = await trio.to_thread.run_sync(host.open_plex, tls(server, pki / "good"), 0)
        blocks = [os.urandom(100_000) for _ in range(40)]
        buffers = [memoryview(bytearray(100_000)) for _ in blocks]
        errors: list[Exception | None] = []
        over = trio.Event()

        def ended(error: Exception | None) -> None:
            errors.append(error)
            if len(errors) == len(blocks):
                over.set()

        for number, block in enumerate(blocks):
            plex.begin_pwrite(100_000 * number, block, ended)
        await over.wait()
        over = trio.Event()
        assert not any(errors)
        errors.clear()
        for number, buffer in enumerate(buffers):
            plex.begin_pread_into(100_000 * number, buffer, ended)
        await over.wait()
        assert not any(errors) and [bytes(buffer) for buffer in buffers] == blocks
        await trio.to_thread.run_sync(plex.close)


@needs_program("nbdkit", "openssl")
def test_whoever_cannot_be_trusted_is_not(where: Path, pki: Path, host: LinuxHost) -> None:
    with with_tls(where, pki) as server:
        assert "nbds://" in refused(host, server.uri, "tls_refused").hint
        for uri in (
            tls(server, pki / "other"), tls(server, pki / "good", "another.test"), tls(server, pki / "missing"),
            server.uri.replace("nbd+unix", "nbds+unix"),
        ):  # fmt: skip
            refused(host, uri, "tls_refused")
    with serving(nbdkit_file(where, SIZE)) as server:
        refused(host, tls(server, pki / "good"), "tls_refused")


def test_no_secret_is_ever_part_of_it() -> None:
    assert "key" not in str(read_uri("nbds://host/x?tls-certificates=/etc/pki"))
