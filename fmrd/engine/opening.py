"""From files to an open family: start at home, and import (RULES). What is decided is in core/recovery.py."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import trio

from fmrd.backing.hops import Lane, ask
from fmrd.core.family import Family
from fmrd.core.plex import Plex
from fmrd.core.record import Record, VolumeRecord, geometry_of
from fmrd.core.recovery import Found, Standing, StartOptions, choose_record, judge_plexes, open_volume, seed
from fmrd.core.volume import Volume
from fmrd.dco.copy import Copy, Loaded, load
from fmrd.dco.store import Store
from fmrd.engine.context import Context
from fmrd.engine.files import Lanes, PlexFiles, copy_of, dco_bytes, find_plex, let_go, tail_bytes
from fmrd.engine.mirror import Mirror
from fmrd.errors import Failed, Refused

log = logging.getLogger(__name__)

HOME = "home"
"""Whose lanes, beside those of the plexes by uuid, are the home copy's."""


@dataclass
class Opening:
    """An open family, before anything runs on it."""

    mirror: Mirror
    lanes: dict[str, Lanes]
    files: dict[str, PlexFiles]
    notes: list[str]


async def read_home(context: Context, name: str) -> Loaded:
    """The home copy, read and closed again. Refused('home_damaged') if it has no valid record."""

    def run() -> Loaded:
        file = context.host.open_home(name)
        try:
            return load(file)
        finally:
            file.close()

    loaded = await ask(context.hops, Lane(f"{name} home"), run, context.io_timeout_seconds)
    if loaded.image.record is None:
        raise Refused("home_damaged", f"volume {name}: no record of the home copy is valid", "fmrctl import PATH...")
    return loaded


async def find_all(
    context: Context, volume: VolumeRecord, lanes: dict[str, Lanes]
) -> tuple[dict[str, Found], dict[str, PlexFiles]]:
    """Open every plex that can be had, all at once: a disk that hangs delays the others by nothing."""
    found: dict[str, Found] = {}
    files: dict[str, PlexFiles] = {}
    tail = tail_bytes(geometry_of(volume))
    timeout = min(volume.io_timeout_seconds, context.io_timeout_seconds) / 2

    async def one(uuid: str, path: str, dco_path: str | None) -> None:
        found[uuid], opened = await find_plex(context, path, dco_path, lanes[uuid], tail, timeout)
        if opened is not None:
            files[uuid] = opened

    async with trio.open_nursery() as nursery:
        for plex in volume.plexes:
            lanes.setdefault(plex.uuid, Lanes(plex.name))
            if plex.state.value == "OFFLINE" or plex.excluded:
                found[plex.uuid] = Found(False, problem="it is offline")
                continue
            nursery.start_soon(one, plex.uuid, plex.path, plex.dco_path)
    for plex in volume.plexes:
        here = files.get(plex.uuid)
        if here is not None and here.backing.length < volume.length_bytes:
            found[plex.uuid] = replace(found[plex.uuid], present=False, problem="it is shorter than the volume")
    return found, files


async def start_at_home(context: Context, name: str, options: StartOptions, lanes: dict[str, Lanes]) -> Opening:
    """RULES, "Start at home". Everything that was opened is closed again when it is refused."""
    home_lane = lanes.setdefault(HOME, Lanes(f"{name} home")).data
    if home_lane.outstanding:
        count = home_lane.outstanding
        raise Failed("home_failed", f"volume {name}: {count} system call(s) on the home copy have not returned yet")
    loaded = await read_home(context, name)
    newest = loaded.image.record
    assert newest is not None
    found, files = await find_all(context, newest.volume, lanes)
    try:
        record = choose_record(loaded.image, found, options)
        standing = judge_plexes(record, found, options)
        volume_notes = open_volume(record, loaded.image, found, standing)
        home_file = await ask(context.hops, home_lane, lambda: context.host.open_home(name), context.io_timeout_seconds)
        home = Copy("home", home_file, home_lane, record.family, record.columns)
        home.adopt(loaded)
    except BaseException:
        _close(context, files)
        raise
    return await _open(context, record, home, loaded, volume_notes, standing, lanes, files)


async def start_from_copy(
    context: Context, record: Record, loaded: Loaded, standing: Mapping[str, Standing], found: Mapping[str, Found],
    lanes: dict[str, Lanes], files: dict[str, PlexFiles],
) -> Opening:  # fmt: skip
    """Import: the newest travelling copy takes the place of the home copy, and a new home copy is published last."""
    name = record.volume.name
    home_lane = lanes.setdefault(HOME, Lanes(f"{name} home")).data
    try:
        volume_notes = open_volume(record, loaded.image, found, standing)
        size = dco_bytes(geometry_of(record.volume), record.columns)
        home_file = await ask(
            context.hops, home_lane, lambda: context.host.create_home(name, size), context.io_timeout_seconds
        )
        home = Copy("home", home_file, home_lane, record.family, record.columns)
    except BaseException:
        _close(context, files)
        raise
    opening = await _open(context, record, home, loaded, volume_notes, standing, lanes, files)
    try:
        await ask(context.hops, home_lane, lambda: context.host.publish_home(name), context.io_timeout_seconds)
    except BaseException:
        _close(context, opening.files)
        let_go(context, home_lane, home_file)
        raise
    return opening


async def _open(
    context: Context, record: Record, home: Copy, loaded: Loaded, volume_notes: tuple[Volume, list[str]],
    standing: Mapping[str, Standing], lanes: dict[str, Lanes], files: dict[str, PlexFiles],
) -> Opening:  # fmt: skip
    """Step 6: the opening commit, then the seeds, then a second commit. Only after that may anything be served."""
    volume, notes = volume_notes
    settings = volume.settings
    family = Family.of(record, [volume])
    store = Store(family, home, context.hops, timeout_seconds=settings.io_timeout_seconds, failed=_report)
    store.assume(record)
    store.page_sequence = max([loaded.page_sequence, *(f.loaded.page_sequence for f in files.values() if f.loaded)])
    family.next_epoch = max(family.next_epoch, loaded.next_epoch)
    mirror = Mirror(family, store, context.hops, {})
    online: dict[str, PlexFiles] = {}
    try:
        for plex in volume.plexes:
            here = files.pop(plex.uuid, None)
            if here is None:
                continue
            if not plex.is_open or not standing[plex.uuid].online:
                let_go(context, here.lanes, here)
                continue
            online[plex.uuid] = here
            plex.stamp = None
            copy = await copy_of(
                context, here, plex.name, plex.uuid, family.uuid, volume.geometry, family.columns,
                plex.path, plex.dco_path, settings.io_timeout_seconds,
            )  # fmt: skip
            store.copies[plex.uuid] = copy
            mirror.disks[plex.uuid] = here.disk
        family.begin_lineage(context.new_uuid())
        await store.commit(everything=True)
        if volume.drl.count:
            seeded = seed(volume)
            notes.append(f"recovery: {volume.drl.count} dirty extent(s), {seeded} plex(es) to copy to")
            await store.commit()
        await mirror.recorded()
    except BaseException:
        _close(context, online)
        _close(context, files)
        let_go(context, home.lane, home.file)
        raise
    for note in notes:
        log.warning("volume %s: %s", volume.name, note)
    return Opening(mirror, lanes, online, notes)


def _report(plex: Plex, sentence: str) -> None:
    log.warning("%s", sentence)


def _close(context: Context, files: dict[str, PlexFiles]) -> None:
    for opened in files.values():
        let_go(context, opened.lanes, opened)
    files.clear()
