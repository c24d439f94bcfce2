"""A range is copied between an export and another backing, with several requests in flight; holes are asked for on both
sides, and what reads as zeros there is made zeros here, never given back (a trim promises nothing).

One thread does it, and waits for all that is in flight before it goes on; what a copy reads it reads once.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from fmrd.backing.nbd.line import Line
from fmrd.backing.nbd.speaking.replies import Request
from fmrd.backing.protocol import Backing
from fmrd.errors import SourceError

REQUEST_BYTES = 256 << 10
"""One request of a copy carries so much."""
IN_FLIGHT = 8
"""So many at once."""
Spans = Sequence[tuple[int, int]]


class Export(Protocol):
    """As much of an export as a copy needs."""

    session: Line

    def reads(self, offset: int, buffer: memoryview) -> list[Request]:
        """Return what fills ``buffer``."""

    def writes(self, offset: int, data: memoryview) -> list[Request]:
        """Return what writes it."""

    def zeros(self, offset: int, length: int, *, punch: bool) -> Iterator[Request]:
        """Yield what makes zeros."""

    def all_segments(self, start: int, stop: int) -> Iterator[tuple[int, int, bool]]:
        """Yield (start, stop, whether it is data)."""


def in_flight(requests: Iterable[Request]) -> Iterator[list[Request]]:
    """Yield them, as many at a time as may be under way together."""
    all_of_them = iter(requests)
    while batch := list(islice(all_of_them, IN_FLIGHT)):
        yield batch


def send(source: Backing, target: Export, spans: Spans) -> int:
    """Make each [start, stop) of an export equal to ``source``'s; return the bytes written. SourceError where reading
    failed, OSError where writing did.
    """
    written = 0
    for start, stop, is_data in _segments_of(source, spans):
        if is_data:
            for at in range(start, stop, REQUEST_BYTES * IN_FLIGHT):
                end = min(stop, at + REQUEST_BYTES * IN_FLIGHT)
                data = memoryview(_read(source, at, end - at))
                pieces = range(at, end, REQUEST_BYTES)
                parts = [target.writes(p, data[p - at : p - at + REQUEST_BYTES]) for p in pieces]
                target.session.carry_out([request for part in parts for request in part])
            written += stop - start
        else:
            for first, last, there in target.all_segments(start, stop):
                if there:
                    for batch in in_flight(target.zeros(first, last - first, punch=False)):
                        target.session.carry_out(batch)
                    written += last - first
    return written


def fetch(source: Export, target: Backing, spans: Spans) -> int:
    """The same from an export to something else."""
    written = 0
    for start, stop, is_data in _told(source, spans):
        if is_data:
            for at in range(start, stop, REQUEST_BYTES * IN_FLIGHT):
                end = min(stop, at + REQUEST_BYTES * IN_FLIGHT)
                target.pwrite(at, _fetched(source, at, end))
            written += stop - start
        else:
            written += _make_hole(target, start, stop)
    return written


def _segments_of(source: Backing, spans: Spans) -> Iterator[tuple[int, int, bool]]:
    for start, stop in spans:
        at = start
        while at < stop:
            try:
                is_data, end = source.data_until(at, stop)
                if not (is_data or source.is_block):
                    source.pread(end - 1, 1)  # beyond the end of a file that somebody cut all looks like a hole
            except OSError as error:
                raise SourceError(error) from error
            yield at, end, is_data
            at = end


def _read(source: Backing, offset: int, length: int) -> bytearray:
    data = bytearray(length)
    try:
        source.pread_into(offset, memoryview(data))
    except OSError as error:
        raise SourceError(error) from error
    return data


def _told(source: Export, spans: Spans) -> Iterator[tuple[int, int, bool]]:
    for start, stop in spans:
        try:
            yield from source.all_segments(start, stop)
        except OSError as error:
            raise SourceError(error) from error


def _fetched(source: Export, start: int, stop: int) -> bytearray:
    data = bytearray(stop - start)
    view = memoryview(data)
    parts = [
        source.reads(at, view[at - start : at - start + REQUEST_BYTES]) for at in range(start, stop, REQUEST_BYTES)
    ]
    try:
        source.session.carry_out([request for part in parts for request in part])
    except OSError as error:
        raise SourceError(error) from error
    return data


def _make_hole(target: Backing, start: int, stop: int) -> int:
    """The bytes that were written: none where it is a hole already."""
    at, written = start, 0
    while at < stop:
        is_data, end = target.data_until(at, stop)
        if is_data:
            target.make_zero(at, end - at, punch=True)
            written += end - at if target.is_block else 0
        at = end
    return written
