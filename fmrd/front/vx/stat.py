"""vxstat: how much was read and written since the volumes were started."""

import time
from datetime import datetime

from fmrd.core.json_object import Json
from fmrd.errors import BadRequest
from fmrd.front.vx.asking import Vx, show
from fmrd.front.vx.typed import NotSupported, Typed, read_count, sectors

ABOVE = ("", "", "OPERATIONS", "", "BLOCKS", "", "AVG TIME(ms)", "")
HEAD = ("TYP", "NAME", "READ", "WRITE", "READ", "WRITE", "READ", "WRITE")
WIDTHS = (3, 17, 9, 9, 11, 11, 6)
COUNTS = ("reads", "writes", "read_bytes", "write_bytes")
MOST_SECONDS = 86400
Counts = dict[tuple[str, str], tuple[int, ...]]


def show_counts(vx: Vx, typed: Typed) -> None:
    """vxstat [-v] [-p] [-i SECONDS [-c COUNT]] [VOLUME...]: with -i again and again, what was done in between"""
    if "-s" in typed.flags or "-f" in typed.values:
        raise NotSupported("vxstat -s and -f", "fmrctl print --json has the counts of each plex")
    seconds = read_count("-i", typed.values.get("-i", "1"), MOST_SECONDS)
    left = (
        read_count("-c", typed.values["-c"], 1_000_000)
        if "-c" in typed.values
        else 1
        if "-i" not in typed.values
        else 0
    )
    if "-c" in typed.values and "-i" not in typed.values:
        raise BadRequest("bad_request", "vxstat: -c COUNT goes with -i SECONDS")
    show(vx, [ABOVE, HEAD], [], WIDTHS)
    before: Counts = {}
    number = 0
    while True:
        now = _counts(vx, typed)
        vx.line()
        vx.line(datetime.now().strftime("%a %b %d %H:%M:%S %Y"))
        show(vx, [], [_row(what, counts, before.get(what)) for what, counts in now.items()], WIDTHS)
        before = now
        number += 1
        if number == left:
            return
        time.sleep(seconds)


def _counts(vx: Vx, typed: Typed) -> Counts:
    """What was done to each volume and plex. A read is one plex's, a write goes to each: the most
    of theirs.
    """
    volumes = [vx.volume(name) for name in typed.words] or vx.volumes()
    kinds = {kind for kind, flag in (("vol", "-v"), ("pl", "-p")) if flag in typed.flags} or {"vol"}
    found: Counts = {}
    for volume in volumes:
        plexes = [_of(plex) for plex in volume["plexes"]]
        if "vol" in kinds and plexes:
            reads, writes, read, written = zip(*plexes, strict=True)
            found["vol", volume["name"]] = (sum(reads), max(writes), sum(read), max(written))
        if "pl" in kinds:
            found |= {("pl", plex["name"]): _of(plex) for plex in volume["plexes"]}
    return found


def _of(plex: Json) -> tuple[int, ...]:
    return tuple(plex[count] for count in COUNTS)


def _row(what: tuple[str, str], counts: tuple[int, ...], before: tuple[int, ...] | None) -> tuple[str, ...]:
    """Counts begin anew with a volume; then what it did since is all of it. The times of calls are not counted."""
    since = [now - then for now, then in zip(counts, before or (0,) * 4, strict=True)]
    if min(since) < 0:
        since = list(counts)
    reads, writes, read, written = since
    shown = (str(reads), str(writes), str(sectors(read)), str(sectors(written)), "-", "-")
    return *what, *(cell.rjust(width) for cell, width in zip(shown, (*WIDTHS[2:], 6), strict=True))
