"""A snapshot is sent: what changed is read from its file, and nothing else of it, and written as a stream.

Nobody must write to the snapshot meanwhile; that is asked at the beginning and at the end, and without it the stream
has no end, so that no receiver takes it.
"""

import base64
import binascii
import json
import time
import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from fmrd.backing.clients.volume_file import VolumeFile
from fmrd.core.json_object import Json
from fmrd.errors import BadRequest, Failed, Refused
from fmrd.front.ctl.app import App
from fmrd.front.maps import failing
from fmrd.front.maps.pace import Meter, Pace
from fmrd.front.maps.ranges import ZERO, Changes, Range
from fmrd.front.streams.header import Header
from fmrd.front.streams.stream import CHUNK_BYTES, StreamWriter, Writable

READERS = 4
AHEAD = 8
"""Ranges of at most CHUNK_BYTES that are read ahead."""


@dataclass(frozen=True)
class Wish:
    """What is to be sent: a snapshot, all of it or what changed since another one or since a mark."""

    snapshot: str
    since: str | None = None
    mark: str | None = None


@dataclass(frozen=True)
class Token:
    """Where a stream goes on: the sender's part, and the receiver's."""

    wish: Wish
    uuid: str
    base: str
    """Of the other snapshot or of the mark, by uuid; empty for none."""
    version: int | None
    stream: str
    chunks: int
    offset: int
    chain: str


class Sending:
    """One stream, from the daemon that ``app`` asks."""

    def __init__(self, app: App, wish: Wish, token: Token | None = None) -> None:
        self._app = app
        self._wish = wish
        self._token = token
        told = self._ask()
        self.changes = Changes(told)
        if told["version"] is None:
            raise Failed("volume_stopped", f"snapshot {wish.snapshot} is stopped", f"fmrctl start {wish.snapshot}")
        if token is not None:
            _must_be_the_same(token, told)
        self.header = _header(wish, told, token)

    def _ask(self) -> Json:
        wish = self._wish
        everything = wish.since is None and wish.mark is None
        return self._app.ask(
            "changed", volume=wish.snapshot, since=wish.since, mark=wish.mark, everything=everything, whole=True
        )

    def run(self, out: Writable, *, rate: int = 0, packed: str = "") -> StreamWriter:
        """Write the stream. Failed('stream_changed') where the snapshot did not stay as it was; OSError."""
        told, header = self.changes.told, self.header
        writer = StreamWriter(out, header, packed)
        pace = Pace(rate)
        with (
            failing.told(f"snapshot {self._wish.snapshot} cannot be sent"),
            VolumeFile(told["path"], behind=told["behind"], direct=True) as file,
            Meter(self._app, f"sending {self._wish.snapshot}", header.bytes) as meter,
        ):
            before = writer.written
            for each, data in _read_ahead(file, self._ranges()):
                if data is None:
                    writer.zero(each.offset, each.length)
                else:
                    writer.data(each.offset, data)
                meter.advance(each.length)
                pace.passed(writer.written - before)
                before = writer.written
        again = self._ask()
        if again["version"] != told["version"] or again["uuid"] != told["uuid"]:
            raise Failed(
                "stream_changed", f"snapshot {self._wish.snapshot} was written, or stopped, while it was sent",
                "send a snapshot that nobody writes to; mounting is writing (ext4: ro,noload; XFS: ro,norecovery)",
            )  # fmt: skip
        writer.end()
        return writer

    def _ranges(self) -> Iterator[Range]:
        """In pieces of one record each; zeros as long as they are."""
        begin = self.header.offset_bytes
        for each in self.changes.ranges():
            start = max(each.offset, begin)
            while start < each.stop:
                size = each.stop - start
                if each.kind != ZERO:
                    size = min(size, CHUNK_BYTES)
                yield Range(start, size, each.kind)
                start += size


def _read_ahead(file: VolumeFile, ranges: Iterator[Range]) -> Iterator[tuple[Range, bytes | None]]:
    """Yield each range with its data, None for zeros: a few are read while others are digested."""
    waiting: deque[tuple[Range, Future[bytes] | None]] = deque()
    with ThreadPoolExecutor(READERS) as readers:
        try:
            for each in ranges:
                future = None if each.kind == ZERO else readers.submit(file.read, each.offset, each.length)
                waiting.append((each, future))
                if len(waiting) > AHEAD:
                    first, found = waiting.popleft()
                    yield first, None if found is None else found.result()
            while waiting:
                first, found = waiting.popleft()
                yield first, None if found is None else found.result()
        finally:
            for _, found in waiting:
                if found is not None:
                    found.cancel()


def _header(wish: Wish, told: Json, token: Token | None) -> Header:
    source = [wish.snapshot, wish.since or "", wish.mark or "", told["uuid"], told["base"], told["version"]]
    if told["pristine"]:
        source[-1] = None  # nobody wrote to it, and who does so later is seen by that
    header = Header(
        stream=str(uuid.uuid4()), volume=told["original"], snapshot=told["uuid"], name=told["volume"],
        pristine=told["pristine"], length_bytes=told["length_bytes"], region_size_bytes=told["region_size_bytes"],
        increment=told["side"] is not None, since=told["side"] or "", bases=tuple(told["bases"]),
        pristine_only=told["pristine_only"], bytes=told["bytes"], created=round(time.time(), 3),
        source=json.dumps(source, separators=(",", ":")),
    )  # fmt: skip
    if token is None:
        return header
    return replace(header, stream=token.stream, chunks=token.chunks, offset_bytes=token.offset, chain=token.chain)


def _must_be_the_same(token: Token, told: Json) -> None:
    same_base = token.base == told["base"]
    unwritten = told["pristine"] if token.version is None else token.version == told["version"]
    if token.uuid != told["uuid"] or not same_base or not unwritten:
        raise Refused(
            "stream_unfit",
            f"snapshot {told['volume']}, or what it was compared with, is not any more what the cut stream was of",
            "fmrctl receive VOL --abort there, and send anew",
        )


def encode_token(told: Json) -> str:
    """Return the receiver's answer to 'receive_token' as one word."""
    fields = {key: told[key] for key in ("stream", "source", "chunks", "offset_bytes", "chain")}
    return base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode()


def decode_token(word: str) -> Token:
    """BadRequest('bad_request') for what is no token."""
    try:
        told: dict[str, Any] = json.loads(base64.b64decode(word, altchars=b"-_", validate=True))
        snapshot, since, mark, known, base, version = json.loads(told["source"])
        token = Token(
            Wish(snapshot, since or None, mark or None), known, base, version, told["stream"], told["chunks"],
            told["offset_bytes"], told["chain"],
        )  # fmt: skip
        if not all(isinstance(each, str) for each in (snapshot, since, mark, known, base, token.stream, token.chain)):
            raise ValueError("text")
        if not all(type(each) is int and each >= 0 for each in (token.chunks, token.offset, version or 0)):
            raise ValueError("number")
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error, RecursionError) as error:
        raise BadRequest("bad_request", "that is no token of 'fmrctl receive VOL --token'") from error
    return token
