"""A plex is opened here: its backing, its copy of the DCO, and what is to be known before it is trusted."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.backing.protocol import LOCATOR_BYTES, Backing, DcoFile, Reach
from fmrd.core.decisions.standing import Found
from fmrd.core.geometry import Geometry
from fmrd.core.images import CopyImage
from fmrd.core.record import Record, VolumeRecord, geometry_of
from fmrd.core.records.rows import Rows
from fmrd.core.stamps import Stamp, pieces_of
from fmrd.dco import layout
from fmrd.dco.copy import PAGES, DcoCopy
from fmrd.dco.loading import Loaded, Reading
from fmrd.dco.rows.places import size_of
from fmrd.engine.context import Context
from fmrd.engine.opening.closing import let_go
from fmrd.engine.serving.open_plex import Lanes, OpenPlex
from fmrd.errors import FmrdError, is_exhaustion

T = TypeVar("T")
CALLS = 16
"""Reads of a copy of the DCO in one hop; all of them together have the time of one."""


@dataclass
class PlexFiles:
    """What opening a plex gave, before a volume has it. ``loaded`` is None where there is no copy of the DCO; one that
    is there may have no valid record, and may be another plex's.
    """

    backing: Backing
    lanes: Lanes
    dco: DcoFile | None
    loaded: Loaded | None
    stamp: Stamp | None
    may_replace: bool = False
    """What lies where its copy of the DCO would be may be overwritten: that was asked for."""

    @property
    def image(self) -> CopyImage | None:
        """Return what its copy of the DCO says; None where that says nothing."""
        return self.loaded.image if self.loaded is not None else None

    @property
    def record(self) -> Record | None:
        """As that copy has it."""
        return self.image.record if self.image is not None else None

    @property
    def left(self) -> Stamp | None:
        """How the plex was left, as its own copy has it, which may be of another host."""
        volume = self.record.holder(self.image.owner) if self.record is not None and self.image is not None else None
        mine = volume.plex(self.image.owner) if volume is not None and self.image is not None else None
        return mine.stamp if mine is not None else None

    @property
    def reaches(self) -> list[Reach]:
        """Return how far its files are."""
        return [self.backing, *([self.dco] if self.dco is not None else [])]

    @property
    def fenced(self) -> bool:
        """Tell whether that they could be opened proves every earlier session over."""
        return any(each.fence for each in self.reaches) and all(each.fence or not each.far for each in self.reaches)

    def with_dco(self, dco_copy: DcoCopy) -> OpenPlex:
        """Return these files as those of a volume; ``dco_copy`` is theirs (``copy_of``)."""
        return OpenPlex(self.backing, self.lanes, dco_copy, self.stamp)

    def found(self) -> Found:
        """Return what a start or a join wants to know of them."""
        return Found(True, self.image, self.stamp, self.backing.is_block, fenced=self.fenced)

    def close(self) -> None:
        """Close both files; while a call on them may hang, ``let_go`` is asked instead."""
        self.backing.close()
        if self.dco is not None:
            self.dco.close()


def dco_bytes(geometry: Geometry, rows: Rows | None = None) -> int:
    """Return the size in bytes of a copy of the DCO for such a volume: of a new family, or with these rows."""
    return size_of(rows or Rows(layout.COLUMNS), geometry.pages)


def tail_bytes(geometry: Geometry, rows: Rows | None = None) -> int:
    """Return what a block device keeps for its DCO, in bytes."""
    return dco_bytes(geometry, rows) + LOCATOR_BYTES


async def open_plex(
    context: Context, path: str, dco_path: str | None, lanes: Lanes, tail: int, timeout_seconds: float,
    *, known: int | None = None, readable: bool = True, volume: str | None = None,
) -> PlexFiles:  # fmt: skip
    """Open and lock a plex, and read its copy of the DCO. FmrdError or OSError where the plex cannot be had, or where a
    copy lies there and cannot be read just now: that is no fact about what is in it. With ``readable`` False it is not
    asked, since all of it is given up. ``known``: where a record says that a device has its locator. ``volume``: whose
    it is to be, by uuid, so that other pages in its copy are not read.
    """
    host = context.host

    def run() -> tuple[PlexFiles, Reading | None]:
        found = host.tail_bytes(path, known)
        backing = host.open_plex(path, found if found is not None else tail if dco_path is None else 0)
        backing.patience_seconds = timeout_seconds
        files = PlexFiles(backing, lanes, None, None, None)
        reading: Reading | None = None
        try:
            files.stamp = backing.stamp()
            files.dco = host.open_dco(path, dco_path, known)
            if files.dco is not None:
                reading = Reading(files.dco, volume)
                files.loaded = reading.go_on(CALLS)
        except OSError as error:
            if readable or reading is None:
                files.close()
                raise error
            reading = None
        except BaseException:
            files.close()
            raise
        return files, reading

    await lanes.closed(timeout_seconds)
    files, reading = await ask(context.system, lanes.data, run, timeout_seconds)
    try:
        if reading is not None and files.loaded is None:
            files.loaded = await go_on(context, lanes.data, reading, timeout_seconds)
    except OSError:
        if readable:
            let_go(context, lanes, files)
            raise
    except BaseException:
        let_go(context, lanes, files)
        raise
    return files


async def go_on(context: Context, lane: Lane, reading: Reading, timeout_seconds: float) -> Loaded:
    """Read the rest of a copy, a few calls in a hop: a disk that is slow may take long for all of them, and only one
    that does not answer runs into the timeout.
    """
    while (loaded := await ask(context.system, lane, partial(reading.go_on, CALLS), timeout_seconds)) is None:
        pass
    return loaded


async def off_the_loop(context: Context, settings: VolumeRecord, decide: Callable[[], T]) -> T:
    """Decide here and now, or, over more pages than others should wait for, on a worker thread."""
    if geometry_of(settings).pages <= PAGES:
        return decide()
    return await ask(context.system, Lane(f"{settings.name} maps"), decide, float("inf"))


async def find_plex(
    context: Context, path: str, dco_path: str | None, lanes: Lanes, tail: int, timeout_seconds: float,
    *, known: int | None = None, readable: bool = True, left: Stamp | None = None, volume: str | None = None,
) -> tuple[Found, PlexFiles | None]:  # fmt: skip
    """The same, where absence is an answer; that something is exhausted says nothing about the plex. ``left``: a stamp
    that it will be compared with.
    """
    try:
        files = await open_plex(
            context, path, dco_path, lanes, tail, timeout_seconds, known=known, readable=readable, volume=volume
        )  # fmt: skip
        await compare(context, files, [left], timeout_seconds)
    except (FmrdError, OSError) as error:
        if is_exhaustion(error):
            raise
        return Found(False, problem=str(error)), None
    return files.found(), files


async def compare(
    context: Context, files: PlexFiles, stamps: Iterable[Stamp | None], timeout_seconds: float
) -> PlexFiles:
    """Read what must be compared with these stamps. Where that fails as open_plex does, they are closed."""
    if pieces := pieces_of(stamps):
        try:
            files.stamp = await ask(
                context.system, files.lanes.data, partial(files.backing.stamp, pieces), timeout_seconds
            )
        except BaseException:
            let_go(context, files.lanes, files)
            raise
    return files
