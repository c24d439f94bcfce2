"""What a server says before the first request: all of it is checked, and garbage at any byte ends in a sentence."""

import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.backing.nbd.speaking import abi, opening
from fmrd.backing.nbd.speaking.negotiation import MOST_REPLY_BYTES, Export, Malformed, StartTls, negotiate
from fmrd.core.far.uris import read_uri
from fmrd.errors import Failed, FmrdError
from tests.backing.nbd.fake import CONTEXT, FLAGS, GREETING, SIZE, TRANSCRIPT, fake, reply

PATIENCE = 5.0
ALL = b"".join(TRANSCRIPT)


class Starved(Exception):
    """It wants more than there is."""


def driven(said: bytes, *, tls: bool = False, name: str = "disk") -> tuple[Export, list[bytes]]:
    """The export, and what was sent. What is asked for is bounded."""
    steps = negotiate(name, tls=tls)
    sent: list[bytes] = []
    at = 0
    step = next(steps)
    try:
        while True:
            if isinstance(step, bytes):
                sent.append(step)
                step = next(steps)
            elif isinstance(step, StartTls):
                step = next(steps)
            else:
                assert 0 < step <= MOST_REPLY_BYTES
                if at + step > len(said):
                    raise Starved
                at += step
                step = steps.send(said[at - step : at])
    except StopIteration as over:
        found: Export = over.value
        return found, sent


def test_an_export_is_agreed_on() -> None:
    export, sent = driven(ALL)
    assert export == Export(SIZE, FLAGS, structured=True, context=CONTEXT, least=1, most=1 << 20)
    assert [abi.OPTION.unpack_from(each)[1] for each in sent[1:]] == [
        abi.STRUCTURED_REPLY, abi.SET_META_CONTEXT, abi.GO,
    ]  # fmt: skip
    assert all(b"disk" in each for each in sent[2:])


def test_a_server_that_knows_little_will_do() -> None:
    said = GREETING + reply(abi.STRUCTURED_REPLY, abi.UNSUPPORTED, b"no")
    said += reply(abi.GO, abi.INFO, abi.EXPORT.pack(abi.INFO_EXPORT, SIZE, FLAGS)) + reply(abi.GO, abi.ACK)
    assert driven(said)[0] == Export(SIZE, FLAGS, structured=False, context=None)


@pytest.mark.parametrize("byte", range(len(ALL)))
def test_garbage_at_any_byte_is_told_or_does_no_harm(byte: int) -> None:
    for change in (0x00, 0xFF, ALL[byte] ^ 1, ALL[byte] ^ 0x80):
        said = ALL[:byte] + bytes([change]) + ALL[byte + 1 :]
        try:
            export, _ = driven(said)
        except (Malformed, FmrdError, Starved):
            continue
        assert 0 <= export.size < 1 << 63 and 0 < export.least <= export.most <= 32 << 20


@given(st.integers(0, len(ALL)), st.binary(max_size=300))
def test_whatever_it_says_in_the_middle_is_told(byte: int, garbage: bytes) -> None:
    try:
        driven(ALL[:byte] + garbage)
    except (Malformed, FmrdError, Starved):
        return


@pytest.mark.parametrize("byte", [*range(0, len(ALL), 7), len(ALL) - 1])
def test_a_server_that_ends_at_any_byte_is_told_with_its_name(tmp_path: Path, byte: int) -> None:
    with fake(tmp_path, lambda connection: connection.sendall(ALL[:byte]), negotiates=False) as uri:
        with pytest.raises(Failed, match="plex_missing") as caught:
            opening.connect(read_uri(uri), PATIENCE)
        assert "fake.sock" in caught.value.message and caught.value.hint


def test_garbage_from_a_real_socket_is_told_with_its_name(tmp_path: Path) -> None:
    said = b"HTTP/1.1 400 Bad Request\r\n"
    with fake(tmp_path, lambda connection: connection.sendall(said), negotiates=False) as uri:
        with pytest.raises(Failed, match="server_malformed") as caught:
            opening.connect(read_uri(uri), PATIENCE)
        assert "fake.sock" in caught.value.message


def test_a_server_that_says_nothing_is_not_waited_for_long(tmp_path: Path) -> None:
    with (
        fake(tmp_path, lambda connection: connection.recv(1) and None, negotiates=False) as uri,
        pytest.raises(Failed, match="no answer"),
    ):
        opening.connect(read_uri(uri), PATIENCE, 0.1)


def refusing(option: int, kind: int, words: bytes = b"") -> Iterable[bytes]:
    for said, which in zip(TRANSCRIPT, (0, abi.STRUCTURED_REPLY, abi.SET_META_CONTEXT, abi.GO), strict=True):
        yield said if which != option else reply(option, kind, words)


@pytest.mark.parametrize(
    ("option", "kind", "code"),
    [
        (abi.GO, abi.UNKNOWN, "plex_missing"), (abi.GO, abi.TLS_REQUIRED, "tls_refused"),
        (abi.STRUCTURED_REPLY, abi.TLS_REQUIRED, "tls_refused"), (abi.GO, abi.POLICY, "server_refused"),
        (abi.GO, abi.SHUTDOWN, "server_refused"), (abi.GO, abi.REFUSAL | 999, "server_refused"),
    ],
)  # fmt: skip
def test_what_it_refuses_is_told_in_its_own_words_made_safe(option: int, kind: int, code: str) -> None:
    with pytest.raises(Failed, match=code) as caught:
        driven(b"".join(refusing(option, kind, b"since \x1b[31m I say so")))
    assert r"since \x1b[31m I say so" in caught.value.message


@pytest.mark.parametrize(
    "said",
    [
        reply(abi.GO, abi.ACK),
        reply(abi.GO, abi.INFO, abi.EXPORT.pack(abi.INFO_EXPORT, 1 << 63, FLAGS)),
        reply(abi.GO, abi.INFO, abi.EXPORT.pack(abi.INFO_EXPORT, SIZE, 0)),
        reply(abi.GO, abi.INFO, abi.BLOCK_SIZE.pack(abi.INFO_BLOCK_SIZE, 3, 4096, 1 << 20)),
        reply(abi.GO, abi.INFO, abi.BLOCK_SIZE.pack(abi.INFO_BLOCK_SIZE, 512, 256, 1 << 20)),
        reply(abi.GO, abi.INFO, abi.BLOCK_SIZE.pack(abi.INFO_BLOCK_SIZE, 1, 1, 512)),
        reply(abi.GO, abi.INFO, struct.pack(">H", abi.INFO_EXPORT)),
        abi.OPTION_REPLY.pack(abi.OPTION_REPLY_MAGIC, abi.GO, abi.INFO, 1 << 31),
        reply(abi.STRUCTURED_REPLY, abi.ACK),
        reply(abi.GO, abi.INFO, b"\0\x09") * 100,
    ],
)
def test_what_cannot_be_is_not_believed(said: bytes) -> None:
    with pytest.raises(Malformed):
        driven(b"".join(TRANSCRIPT[:3]) + said)


def test_tls_is_never_given_up() -> None:
    with pytest.raises(Failed, match="tls_refused"):
        driven(GREETING + reply(abi.STARTTLS, abi.UNSUPPORTED) + b"".join(TRANSCRIPT[1:]), tls=True)
