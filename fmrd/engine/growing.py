"""`grow` makes a volume longer while it is in use. These are functions over a started volume."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.core.geometry import SECTOR_BYTES
from fmrd.core.reasons import Reason
from fmrd.core.records.rows import Rows
from fmrd.core.states import PlexState
from fmrd.core.volume.plex import Plex
from fmrd.dco.rows.places import spans_of
from fmrd.engine.opening.files import dco_bytes
from fmrd.engine.resync.copy_tasks import CopyTasks
from fmrd.engine.running import Running
from fmrd.engine.verify.checksums import Checksums
from fmrd.errors import BadRequest, Failed, Refused


async def grow(running: Running, copying: CopyTasks, checksums: Checksums, length_bytes: int) -> None:
    """Make it longer, online: files first (sparse), then the copies of the DCO, then the record.
    Refused('snap_instant'), Failed('io_error') where a file does not grow: the volume has its old length then.
    """
    async with running.verb():
        if length_bytes <= running.volume.geometry.length_bytes:  # another growth was faster
            return
        if running.volume.settings.is_instant:
            name = running.volume.name
            raise Refused(
                "snap_instant", f"snapshot {name} does not hold all of its data itself", f"fmrctl snapsync {name}"
            )
        async with running.at_rest(), running.mirror.store.ledger.rows_lock:
            geometry = replace(running.volume.geometry, length_bytes=length_bytes).check()
            more = geometry.pages - running.volume.geometry.pages
            family = running.mirror.store.family
            family.must_bear(more * len(running.volume.columns()))
            rows = Rows(family.rows.columns, family.runs_of_length(geometry.pages))
            size = dco_bytes(geometry, rows)
            added = range(running.volume.geometry.pages, geometry.pages)
            spans = spans_of(rows, [column.index for column in running.volume.columns()], added)
            unlike, dirty = _beyond(running)
            for plex in running.volume.open_plexes():
                opened = running.mirror.opened[plex.uuid]
                await _extend(running, plex.name, opened.lanes.data, partial(opened.backing.extend, length_bytes))
                dco = opened.dco_copy.file
                if not rows.runs:
                    await _extend(running, f"the DCO of {plex.name}", opened.lanes.dco, partial(dco.extend, size))
                elif rows.runs != family.rows.runs:
                    await _extend(
                        running, f"the DCO of {plex.name}", opened.lanes.dco, partial(dco.reserve, size, spans)
                    )
            home = running.mirror.store.home
            await _extend(running, "the home copy of the DCO", home.lane, partial(home.file.extend, size))
            for plex in dirty:
                await _clear_the_rest_of_a_region(running, plex, length_bytes)
            if dirty:
                await running.mirror.sync()
            last = running.volume.geometry.regions - 1
            await checksums.forget(range(last, last + 1))  # it gets longer
            family.rows.runs = rows.runs
            running.volume.grow(length_bytes, unlike)
            await running.mirror.store.commit(everything=True)
        for plex in unlike:
            if not running.context.tasks.running(running.volume.name, plex.name):
                copying.start(plex, (Reason.GROWN, f"plex {plex.name}: what was added to the volume is copied to it"))


def room(running: Running) -> int:
    """Return the greatest length to which the plexes that are devices can follow. BadRequest('bad_size') without one:
    a file has no end.
    """
    geometry = running.volume.geometry
    lengths = []
    for plex in running.volume.open_plexes():
        backing = running.mirror.opened[plex.uuid].backing
        if backing.is_block:  # a copy of the DCO at its tail has the pages that it has
            pages_end = geometry.pages * geometry.page_regions * geometry.region_bytes
            lengths.append(min(backing.length, pages_end) if plex.dco_path is None else backing.length)
    if not lengths:
        name = running.volume.name
        raise BadRequest("bad_size", f"volume {name}: no plex of it is a device, so 'max' is no length", "give a size")
    return max(geometry.length_bytes, min(lengths) // SECTOR_BYTES * SECTOR_BYTES)


def _beyond(running: Running) -> tuple[list[Plex], list[Plex]]:
    """(plexes that must copy what is added, plexes where something lies beyond the volume's end). A file just as
    long as the volume grows by zeros; a longer one, or a device, by what lies there: one plex is right then.
    """
    old = running.volume.geometry.length_bytes
    opened = running.volume.open_plexes()
    backings = {plex.uuid: running.mirror.opened[plex.uuid].backing for plex in opened}
    dirty = [p for p in opened if backings[p.uuid].is_block or backings[p.uuid].length > old]
    zeros = [p for p in opened if p not in dirty]
    if not any(p.state is PlexState.ACTIVE for p in zeros):
        zeros = sorted(opened, key=lambda p: p.state is not PlexState.ACTIVE)[:1]
    return [p for p in opened if p not in zeros], dirty


async def _clear_the_rest_of_a_region(running: Running, plex: Plex, length_bytes: int) -> None:
    """A region that was short is current on several plexes, and stays so: its new bytes are zeros on all."""
    geometry = running.volume.geometry
    first = geometry.length_bytes
    count = min(geometry.regions * geometry.region_bytes, length_bytes) - first
    there = running.mirror.opened[plex.uuid]
    if count <= 0:
        return
    write = partial(there.backing.pwrite, first, bytes(count))
    try:
        await ask(running.context.system, there.lanes.data, write, running.timeout_seconds)
    except OSError as error:
        raise Failed("io_error", f"volume {running.volume.name}: {plex.name} cannot grow: {error}") from error


async def _extend(running: Running, what: str, lane: Lane, run: Callable[[], None]) -> None:
    if lane.hung:  # an older one that lands late would cut off what this one adds
        raise Failed(
            "io_error", f"volume {running.volume.name}: {what} cannot grow: a system call has not returned yet"
        )
    try:
        await ask(running.context.system, lane, run, running.timeout_seconds)
    except OSError as error:
        raise Failed("io_error", f"volume {running.volume.name}: {what} cannot grow: {error}") from error
