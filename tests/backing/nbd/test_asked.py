"""What a server is really asked for: durable writes, zeros that stay blocks, nothing that was not offered, and copies
that do not take the end of a file for a hole.
"""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fmrd.backing.host import LinuxHost
from fmrd.backing.nbd.speaking import abi
from fmrd.errors import PlexChanged, SourceError
from tests.backing.nbd import fake as server
from tests.backing.nbd.fake import CONTEXT, SIZE, fake

TRIM = 4
Asked = tuple[int, int, int, int]
"""(command, flags, offset, length)"""
ZEROS = [(SIZE, True)]


@contextmanager
def answering(where: Path, flags: int, holes: list[tuple[int, bool]] = ZEROS) -> Iterator[tuple[str, list[Asked]]]:
    """A server that answers everything, with zeros, and offers ``flags``; its URI, and what it was asked."""
    asked: list[Asked] = []

    def script(connection: socket.socket) -> None:
        while True:
            _, marks, command, cookie, offset, length = abi.REQUEST.unpack(server.receive(connection, abi.REQUEST.size))
            if command == abi.DISCONNECT:
                return
            asked.append((command, marks, offset, length))
            if command == abi.WRITE:
                server.receive(connection, length)
            if command == abi.READ:
                connection.sendall(server.data(cookie, offset, bytes(length)))
            elif command == abi.BLOCK_STATUS:
                extents = b"".join(struct.pack(">II", size, 3 if zero else 0) for size, zero in holes)
                connection.sendall(server.chunk(abi.STATUS, cookie, struct.pack(">I", CONTEXT) + extents))
            else:
                connection.sendall(server.simple(cookie))

    export = abi.EXPORT.pack(abi.INFO_EXPORT, SIZE, flags | abi.HAS_FLAGS | abi.SEND_FLUSH)
    before = server.TRANSCRIPT[-1]
    server.TRANSCRIPT[-1] = server.reply(abi.GO, abi.INFO, export) + server.reply(abi.GO, abi.ACK)
    try:
        with fake(where, script) as uri:
            yield uri, asked
    finally:
        server.TRANSCRIPT[-1] = before


@pytest.fixture
def host(tmp_path: Path) -> LinuxHost:
    return LinuxHost(tmp_path / "state")


@pytest.mark.parametrize("has_fua", [True, False])
def test_a_mark_is_durable_when_its_write_returns(tmp_path: Path, host: LinuxHost, has_fua: bool) -> None:
    with answering(tmp_path, abi.SEND_FUA if has_fua else 0) as (uri, asked):
        dco = host.open_dco("/a/plex", uri)
        assert dco is not None
        asked.clear()
        dco.write(8192, bytes(4096))
        dco.close()
    mark = (abi.WRITE, abi.FUA if has_fua else 0, 8192, 4096)
    assert asked == [mark] if has_fua else asked == [mark, (abi.FLUSH, 0, 0, 0)]


def test_data_waits_for_a_flush_and_asks_for_no_more(tmp_path: Path, host: LinuxHost) -> None:
    with answering(tmp_path, abi.SEND_FUA) as (uri, asked):
        plex = host.open_plex(uri, 0)
        plex.pwrite(0, b"x" * 512)
        plex.fdatasync()
        plex.close()
    assert asked == [(abi.WRITE, 0, 0, 512), (abi.FLUSH, 0, 0, 0)]


@pytest.mark.parametrize("punch", [True, False])
def test_zeros_stay_blocks_unless_they_are_given_back(tmp_path: Path, host: LinuxHost, punch: bool) -> None:
    with answering(tmp_path, abi.SEND_WRITE_ZEROES | abi.SEND_TRIM) as (uri, asked):
        plex = host.open_plex(uri, 0)
        plex.make_zero(4096, 100_000, punch=punch)
        plex.close()
    assert asked == [(abi.WRITE_ZEROES, 0 if punch else abi.NO_HOLE, 4096, 100_000)]


def test_zeros_are_written_where_nothing_else_is_offered(tmp_path: Path, host: LinuxHost) -> None:
    with answering(tmp_path, abi.SEND_TRIM) as (uri, asked):
        plex = host.open_plex(uri, 0)
        plex.make_zero(10, 300_000, punch=True)
        plex.close()
    assert {command for command, *_ in asked} == {abi.WRITE} and sum(length for *_, length in asked) == 300_000


@pytest.mark.parametrize("there", ["zeros", "data"])
def test_a_copy_of_a_hole_is_zeros_and_never_a_trim(tmp_path: Path, host: LinuxHost, there: str) -> None:
    source = host.create_plex(str(tmp_path / "near"), SIZE)
    source.pwrite(512 << 10, os.urandom(64 << 10))
    holes = ZEROS if there == "zeros" else [(SIZE, False)]
    with answering(tmp_path, abi.SEND_WRITE_ZEROES | abi.SEND_TRIM, holes) as (uri, asked):
        plex = host.open_plex(uri, 0)
        written = plex.copy_from(source, 0, SIZE)
        plex.close()
    source.close()
    changes = [each for each in asked if each[0] != abi.BLOCK_STATUS]
    zeroed = [(abi.WRITE_ZEROES, abi.NO_HOLE, 0, 512 << 10), (abi.WRITE_ZEROES, abi.NO_HOLE, 576 << 10, 448 << 10)]
    assert [each for each in changes if each[0] != abi.WRITE] == (zeroed if there == "data" else [])
    assert sum(length for command, *_, length in changes if command == abi.WRITE) == 64 << 10
    assert written == (SIZE if there == "data" else 64 << 10)


def test_what_is_a_hole_there_is_not_read(tmp_path: Path, host: LinuxHost) -> None:
    target = host.create_plex(str(tmp_path / "near"), SIZE)
    target.pwrite(0, b"old" * 1000)
    with answering(tmp_path, 0, [(256 << 10, True), (128 << 10, False), (SIZE, True)]) as (uri, asked):
        plex = host.open_plex(uri, 0)
        target.copy_spans(plex, [(0, SIZE)])
        plex.close()
    assert target.pread(0, 3000) == bytes(3000)
    target.close()
    assert [each[2:] for each in asked if each[0] == abi.READ] == [(256 << 10, 128 << 10)]


def test_a_source_that_somebody_cut_is_no_hole(tmp_path: Path, host: LinuxHost) -> None:
    source = host.create_plex(str(tmp_path / "near"), SIZE)
    source.pwrite(0, os.urandom(SIZE))
    os.truncate(source.path, SIZE // 2)
    with answering(tmp_path, abi.SEND_WRITE_ZEROES, [(SIZE, False)]) as (uri, asked):
        plex = host.open_plex(uri, 0)
        with pytest.raises(SourceError) as caught:
            plex.copy_from(source, SIZE // 2, SIZE // 4)
        assert isinstance(caught.value.error, PlexChanged)
        plex.close()
    source.close()
    assert not [each for each in asked if each[0] in (abi.WRITE, abi.WRITE_ZEROES)]
