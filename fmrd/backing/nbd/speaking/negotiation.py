"""What is said before the first request: newstyle, TLS, structured replies, holes, and the export itself. No I/O.

``negotiate`` is driven by whoever has the connection: it yields bytes to be sent, a number of bytes to be received
(and is sent those), or START_TLS, and returns the export. All lengths that a server gives are bounded before anything
of that length is asked for.
"""

import errno
from collections.abc import Generator
from dataclasses import dataclass

from fmrd.backing.nbd.speaking import abi
from fmrd.core.printable import printable
from fmrd.errors import Failed

MOST_REPLY_BYTES = 64 << 10
MOST_REPLIES = 64
"""To one option."""
MOST_BLOCK_BYTES = 32 << 20
"""No request is longer, whatever a server takes."""
LEAST_MOST_BYTES = 4096
"""A server that takes less than this in one request is no disk."""
BASE_ALLOCATION = b"base:allocation"


class StartTls:
    """Yielded where TLS begins."""


START_TLS = StartTls()
Step = bytes | int | StartTls


class Malformed(ConnectionError):
    """What came is no NBD, or against its rules. Nothing more is believed of this session."""

    def __init__(self, sentence: str) -> None:
        super().__init__(errno.EPROTO, f"this is not how an NBD server speaks: {sentence}")


@dataclass(frozen=True)
class Export:
    """An export, as the server offers it. Sizes are bytes."""

    size: int
    flags: int
    structured: bool
    """Replies may come in chunks."""
    context: int | None
    """The number of base:allocation, where the server tells of holes."""
    least: int = 1
    most: int = MOST_BLOCK_BYTES
    """The shortest and the longest request it takes."""

    def offers(self, flag: int) -> bool:
        """Tell whether the server offers that (abi.SEND_...)."""
        return bool(self.flags & flag)


def negotiate(name: str, *, tls: bool) -> Generator[Step, bytes, Export]:
    """Agree on an export. Failed('plex_missing'), ('tls_refused') or ('server_refused'); Malformed."""
    magic, newstyle, flags = abi.GREETING.unpack((yield abi.GREETING.size))
    if magic != abi.NBD_MAGIC:
        raise Malformed("its greeting is another one")
    if newstyle != abi.OPTION_MAGIC or not flags & abi.FIXED_NEWSTYLE:
        raise Malformed("it speaks the old style, which can agree on nothing")
    yield (abi.FIXED_NEWSTYLE | flags & abi.NO_ZEROES).to_bytes(4, "big")
    if tls:
        kind, text = yield from _ask(abi.STARTTLS, b"")
        if kind != abi.ACK:
            raise Failed("tls_refused", f"the server has no TLS{text}", "nbd:// is without; or give the server its TLS")
        yield START_TLS
    structured = (yield from _agreed(abi.STRUCTURED_REPLY, b"")) is not None
    context: int | None = None
    if structured:
        wanted = _counted(name.encode()) + (1).to_bytes(4, "big") + _counted(BASE_ALLOCATION)
        for body in (yield from _agreed(abi.SET_META_CONTEXT, wanted)) or ():
            if len(body) != 4 + len(BASE_ALLOCATION) or body[4:] != BASE_ALLOCATION or context is not None:
                raise Malformed("it tells of what was not asked for")
            context = int.from_bytes(body[:4], "big")
    return (yield from _go(name, structured=structured, context=context))


def _go(name: str, *, structured: bool, context: int | None) -> Generator[Step, bytes, Export]:
    wanted = _counted(name.encode()) + (1).to_bytes(2, "big") + abi.INFO_BLOCK_SIZE.to_bytes(2, "big")
    yield _option(abi.GO, wanted)
    found: Export | None = None
    least, most = 1, MOST_BLOCK_BYTES
    for _ in range(MOST_REPLIES):
        kind, body = yield from _reply(abi.GO)
        if kind == abi.ACK:
            if body or found is None:
                raise Malformed("it agreed on an export and did not say which")
            return Export(found.size, found.flags, structured, context, least, most)
        if kind & abi.REFUSAL:
            raise _refused(kind, name, _words(body))
        if kind != abi.INFO or len(body) < 2:
            raise Malformed(f"it answered with {kind:#x}")
        about = int.from_bytes(body[:2], "big")
        if about == abi.INFO_EXPORT:
            if len(body) != abi.EXPORT.size:
                raise Malformed("what it says of the export has another length")
            _, size, flags = abi.EXPORT.unpack(body)
            if size >= 1 << 63 or not flags & abi.HAS_FLAGS:
                raise Malformed(f"an export of {size} bytes with flags {flags:#x}")
            found = Export(size, flags, structured, context)
        elif about == abi.INFO_BLOCK_SIZE:
            if len(body) != abi.BLOCK_SIZE.size:
                raise Malformed("what it says of block sizes has another length")
            _, least, preferred, most = abi.BLOCK_SIZE.unpack(body)
            sound = 0 < least <= preferred and least <= 64 << 10 and not least & (least - 1)
            if not sound or most < max(least, LEAST_MOST_BYTES):
                raise Malformed(f"blocks of {least} to {most} bytes")
            most = min(most, MOST_BLOCK_BYTES) // least * least
    raise Malformed(f"more than {MOST_REPLIES} replies to one question")


def _agreed(option: int, body: bytes) -> Generator[Step, bytes, list[bytes] | None]:
    """What it told before it agreed; None where it does not."""
    yield _option(option, body)
    told: list[bytes] = []
    while len(told) < MOST_REPLIES:
        kind, found = yield from _reply(option)
        if kind == abi.ACK:
            return told
        if kind == abi.TLS_REQUIRED:
            raise _refused(kind, "", _words(found))
        if kind & abi.REFUSAL:
            return None
        if kind != abi.META_CONTEXT or option != abi.SET_META_CONTEXT:
            raise Malformed(f"it answered with {kind:#x}")
        told.append(found)
    raise Malformed(f"more than {MOST_REPLIES} replies to one question")


def _ask(option: int, body: bytes) -> Generator[Step, bytes, tuple[int, str]]:
    yield _option(option, body)
    kind, found = yield from _reply(option)
    if kind != abi.ACK and not kind & abi.REFUSAL:
        raise Malformed(f"it answered with {kind:#x}")
    return kind, _words(found)


def _option(option: int, body: bytes) -> bytes:
    return abi.OPTION.pack(abi.OPTION_MAGIC, option, len(body)) + body


def _reply(option: int) -> Generator[Step, bytes, tuple[int, bytes]]:
    magic, to, kind, length = abi.OPTION_REPLY.unpack((yield abi.OPTION_REPLY.size))
    if magic != abi.OPTION_REPLY_MAGIC or to != option:
        raise Malformed("it answered something else than what was asked")
    if length > MOST_REPLY_BYTES:
        raise Malformed(f"an answer of {length} bytes")
    return kind, (yield length) if length else b""


def _counted(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


def _words(body: bytes) -> str:
    return f" ({printable(body.decode('utf-8', 'replace'))})" if body else ""


def _refused(kind: int, name: str, text: str) -> Failed:
    if kind == abi.TLS_REQUIRED:
        return Failed("tls_refused", f"the server wants TLS{text}", "nbds://... instead of nbd://...")
    if kind == abi.UNKNOWN:
        return Failed(
            "plex_missing", f"the server has no export '{printable(name)}'{text}", "nbdinfo --list shows them"
        )
    why = {abi.POLICY: "its policy forbids it", abi.SHUTDOWN: "it is shutting down"}.get(kind, f"refusal {kind:#x}")
    sentence = f"the server does not give the export '{printable(name)}': {why}{text}"
    return Failed("server_refused", sentence, "its log may say more")
