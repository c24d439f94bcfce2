"""A stream is received: each record is verified, then written to the snapshot that stands for the volume meanwhile; the
daemon makes it the volume's when the end was verified, too, in one commit.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from fmrd.backing.clients.volume_file import VolumeFile
from fmrd.core.json_object import Json
from fmrd.errors import Failed
from fmrd.front.ctl.app import App
from fmrd.front.maps import failing
from fmrd.front.maps.pace import Meter
from fmrd.front.maps.ranges import Blank
from fmrd.front.streams.header import Header
from fmrd.front.streams.stream import Position, Readable, Record, StreamReader

NOTE_BYTES = 64 << 20
NOTE_SECONDS = 10.0
"""After so many bytes, or so long, what has come is made durable, and noted: a stream that is cut goes on there. More
comes meanwhile, though no more than 2 * WRITERS records.
"""
CLOSED_SECONDS = 10.0
"""How long the kernel may take to tell the daemon that a file was closed."""
_LOOK_SECONDS = 0.02
WRITERS = 16


@dataclass(frozen=True)
class Options:
    """How a stream is to be received."""

    spool: str | None = None
    force: bool = False
    rate: int | None = None
    dry_run: bool = False


class Receiving:
    """One stream, into a volume of the daemon that ``app`` asks."""

    def __init__(self, app: App, volume: str, source: Readable, options: Options) -> None:
        self._app = app
        self._volume = volume
        self._options = options
        self._reader = StreamReader(source)
        self._turn = ""
        """Of the daemon's start: what it has taken since that was noted may be gone with it."""
        self._noted = time.monotonic()
        self._since_note = 0

    def run(self) -> Json:
        """Return the daemon's answer. Failed('stream_cut'), ('stream_damaged'), Refused('stream_unfit')..."""
        header = self._reader.header
        begun = self._begin(header)
        if begun["path"] is None:
            if not self._options.dry_run:
                for _ in self._reader.records():  # so that the sender ends well
                    pass
            return {"notice": begun["notice"]}
        self._turn = begun["turn"]
        with Meter(self._app, f"receiving {header.name}", header.bytes) as meter:
            hint = f"fmrctl receive {self._volume} --token tells where to go on"
            with failing.told(f"volume {self._volume} cannot be received", hint):
                self._take(begun["path"], Blank(begun["blank"], header.length_bytes, begun["region_size_bytes"]), meter)
        wait_closed(self._app, begun["into"])
        return self._app.ask(
            "receive_commit", volume=self._volume, stream=header.stream, turn=self._turn, force=self._options.force,
            rate=self._options.rate,
        )  # fmt: skip

    def _begin(self, header: Header) -> Json:
        options = self._options
        return self._app.ask(
            "receive_begin", volume=self._volume, stream=header.stream, snapshot=header.snapshot, name=header.name,
            length_bytes=header.length_bytes, pristine=header.pristine, increment=header.increment,
            bases=list(header.bases), pristine_only=header.pristine_only, source=header.source,
            region_size_bytes=header.region_size_bytes,
            chunks=header.chunks or None, offset_bytes=header.offset_bytes or None, chain=header.chain or None,
            spool=options.spool, force=options.force, dry_run=options.dry_run,
        )  # fmt: skip

    def _take(self, path: str, blank: Blank, meter: Meter) -> None:
        with VolumeFile(path, writes=True, direct=True) as file, Writers() as writers:
            must_be_that(self._app, self._volume, self._reader.header.stream)
            begun = self._reader.position
            try:
                for record in self._reader.records():
                    writers.begin(partial(_write, file, record, blank))
                    meter.advance(record.length)
                    self._since_note += record.length if record.data is not None else 0
                    if self._since_note >= NOTE_BYTES or time.monotonic() - self._noted >= NOTE_SECONDS:
                        writers.begin_after_all(partial(self._note, self._reader.position))
                        self._noted, self._since_note = time.monotonic(), 0
            except Failed as error:
                if error.code in ("stream_cut", "stream_damaged") and self._reader.position != begun:
                    writers.wait()
                    self._note(self._reader.position)
                raise
            writers.wait()

    def _note(self, position: Position) -> None:
        """Nothing that was written counts before this, or the commit: the daemon makes it durable, all at once."""
        self._app.ask(
            "receive_progress", volume=self._volume, stream=self._reader.header.stream, turn=self._turn,
            chunks=position.chunks, offset_bytes=position.offset, chain=position.chain.hex(),
        )  # fmt: skip


class Writers:
    """Several writes at a time: what the snapshot waits for, before each, they share."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(WRITERS)
        self._begun: deque[Future[None]] = deque()

    def __enter__(self) -> "Writers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._pool.shutdown(cancel_futures=True)

    def begin(self, work: Callable[[], None]) -> None:
        """Begin a write; where many are under way, wait for the first, and raise its error."""
        self._begun.append(self._pool.submit(work))
        if len(self._begun) > 2 * WRITERS:
            self._begun.popleft().result()

    def begin_after_all(self, work: Callable[[], None]) -> None:
        """Begin what is to be done once all have ended that were begun before; no one waits for it but who comes last.
        It is not done where one of them failed.
        """
        before = list(self._begun)

        def when_they_have() -> None:
            for each in before:
                each.result()
            work()

        self.begin(when_they_have)

    def wait(self) -> None:
        """Return when all have ended, or raise the error of one."""
        while self._begun:
            self._begun.popleft().result()


def must_be_that(app: App, volume: str, stream: str) -> None:
    """Failed('receive_missing') where the file, open by now, is another stream's: somebody gave up this one and began
    anew. While it is open nobody can.
    """
    if app.ask("receive_token", volume=volume)["stream"] != stream:
        raise Failed("receive_missing", f"volume {volume} receives another stream by now", "let that one end first")


def wait_closed(app: App, volume: str) -> None:
    """Return when the daemon knows that the file of a volume was closed: the kernel tells it a little later."""
    deadline = time.monotonic() + CLOSED_SECONDS
    while app.ask("print", volume=volume)["volumes"][0]["open_count"] and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)


def _write(file: VolumeFile, record: Record, blank: Blank) -> None:
    if record.data is None:
        for offset, length in blank.others(record.offset, record.length):
            file.make_zero(offset, length)
    else:
        file.write(record.offset, record.data)


def verified(source: Readable) -> tuple[Header, Position]:
    """Read all of a stream, and return what it is of and where it ends; Failed('stream_cut'), ('stream_damaged')."""
    reader = StreamReader(source)
    for _ in reader.records():
        pass
    return reader.header, reader.position
