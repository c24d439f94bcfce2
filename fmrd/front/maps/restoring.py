"""Data is put back from a snapshot that stays, all of it or a range: only what differs is read, and the volume is all
of what it was before until it is all of what was asked for.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fmrd.backing.clients.volume_file import VolumeFile
from fmrd.core.json_object import Json
from fmrd.errors import BadRequest, Failed, FmrdError
from fmrd.front.ctl.app import App
from fmrd.front.maps import failing
from fmrd.front.maps.pace import Meter, Pace
from fmrd.front.maps.ranges import ZERO, Changes, Range
from fmrd.front.maps.receiving import must_be_that, wait_closed
from fmrd.front.streams.stream import CHUNK_BYTES


@dataclass(frozen=True)
class Wish:
    """From which snapshot what is put back: (offset, length) in bytes, or all of it."""

    volume: str
    snapshot: str
    span: tuple[int, int] | None = None
    spool: str | None = None


@dataclass(frozen=True)
class Ready:
    """All that is to be put back on a volume lies beside it, durably: nothing of it counts yet. ``stream`` names it;
    ``size`` bytes of ``within`` differ.
    """

    wish: Wish
    stream: str
    turn: str
    size: int
    within: int


def restore(app: App, wishes: Sequence[Wish], *, rate: int | None = None, dry_run: bool = False) -> list[Json]:
    """Return the daemon's answers, one a wish. All of it is put beside all volumes before the first changes; each does
    so in one step, one right after the other. Refused('volume_open'), ('receive_present')... where nothing was changed.
    """
    begun: list[Json] = []
    try:
        ready = [_prepared(app, wish, begun, rate=rate or 0, dry_run=dry_run) for wish in wishes]
        if dry_run:
            return [{"notice": f"would put back {each.size} bytes that differ, of {each.within}"} for each in ready]
        return [_taken_over(app, each, begun, rate) for each in ready]
    except BaseException:
        for each in begun:
            with contextlib.suppress(FmrdError):  # what went wrong first is told
                app.ask("receive_discard", volume=each["volume"], stream=each["stream"])
        raise


def _prepared(app: App, wish: Wish, begun: list[Json], *, rate: int, dry_run: bool) -> Ready:
    """Append to ``begun`` what is to be given up where something fails."""
    told = app.ask("restore_begin", volume=wish.volume, snapshot=wish.snapshot, spool=wish.spool, dry_run=dry_run)
    if not dry_run:
        begun.append(told)
    found = app.ask("changed", volume=wish.snapshot, whole=True)  # whoever writes to the volume since is noticed
    changes = Changes(found)
    start, stop = _span(changes, wish)
    size = sum(each.length for each in _within(changes, start, stop))
    if size and not dry_run:
        _put(app, changes, (start, stop), size, told, rate)
        if app.ask("changed", volume=wish.snapshot)["version"] != found["version"]:
            raise Failed("stream_changed", f"snapshot {wish.snapshot} was written while it was read")
        wait_closed(app, told["into"])
    return Ready(wish, told.get("stream", ""), told.get("turn", ""), size, stop - start)


def _taken_over(app: App, ready: Ready, begun: list[Json], rate: int | None) -> Json:
    volume = ready.wish.volume
    if ready.size:
        answer = app.ask("receive_commit", volume=volume, stream=ready.stream, turn=ready.turn, rate=rate)
    else:
        app.ask("receive_discard", volume=volume, stream=ready.stream)
        answer = {"notice": f"nothing to change: {volume} and {ready.wish.snapshot} hold the same there"}
    begun[:] = [each for each in begun if each["volume"] != volume]
    return answer


def _span(changes: Changes, wish: Wish) -> tuple[int, int]:
    length = changes.geometry.length_bytes
    offset, size = wish.span or (0, length)
    if offset + size > length:
        raise BadRequest("bad_size", f"snapshot {wish.snapshot} has {length} bytes, and the range ends beyond them")
    return offset, offset + size


def _put(app: App, changes: Changes, span: tuple[int, int], total: int, begun: Json, rate: int) -> None:
    name = changes.told["volume"]
    with (
        failing.told(f"snapshot {name} cannot be put back"),
        VolumeFile(changes.told["path"], behind=changes.told["behind"], direct=True) as source,
        VolumeFile(begun["path"], writes=True, direct=True) as target,
        Meter(app, f"putting back {name}", total) as meter,
    ):  # fmt: skip
        must_be_that(app, begun["volume"], begun["stream"])
        pace = Pace(rate)
        for each in _within(changes, *span):
            _copy(source, target, each)
            meter.advance(each.length)
            pace.passed(each.length)
        target.sync()


def _within(changes: Changes, start: int, stop: int) -> Iterator[Range]:
    """What differs there, in pieces."""
    for each in changes.ranges():
        at, end = max(each.offset, start), min(each.stop, stop)
        while at < end:
            size = end - at if each.kind == ZERO else min(end - at, CHUNK_BYTES)
            yield Range(at, size, each.kind)
            at += size


def _copy(source: VolumeFile, target: VolumeFile, each: Range) -> None:
    data = None if each.kind == ZERO else source.read(each.offset, each.length)
    if data is None or data.count(0) == len(data):
        target.make_zero(each.offset, each.length)
    else:
        target.write(each.offset, data)
