"""A start leads from files to an open volume (PROTOCOLS, "Start at home", "Import"); core/decisions says how."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import trio

from fmrd.core.decisions.recovery import open_volume, seed
from fmrd.core.decisions.standing import Found, Standing, StartOptions, choose_record, judge_pages, judge_plexes
from fmrd.core.images import CopyImage
from fmrd.core.record import PlexRecord, Record, VolumeRecord, geometry_of
from fmrd.core.volume.plex import Plex
from fmrd.dco.ledger import Ledger
from fmrd.dco.store import Store
from fmrd.engine.context import Context
from fmrd.engine.copies.carried import copy_of
from fmrd.engine.opening.closing import close_all, let_go
from fmrd.engine.opening.files import PlexFiles, find_plex, off_the_loop, tail_bytes
from fmrd.engine.opening.homes import Home
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.open_plex import Lanes, OpenPlex
from fmrd.errors import Failed, FmrdError, failed_by

log = logging.getLogger(__name__)


@dataclass
class Opening:
    """An opening is an open volume before anything runs on it, with the sentences that were logged."""

    mirror: Mirror
    home: Home
    notes: list[str]


@dataclass
class Look:
    """A look is what is there of some plexes, by uuid. Who takes files out of it closes them, ``close`` the others."""

    context: Context
    found: dict[str, Found]
    files: dict[str, PlexFiles]

    def take(self, plexes: Iterable[PlexRecord]) -> dict[str, PlexFiles]:
        """Take the files of these plexes out, as far as they are there."""
        return {p.uuid: self.files.pop(p.uuid) for p in plexes if p.uuid in self.files}

    async def close(self) -> None:
        await close_all(self.context, self.files)


async def look_for(home: Home, volumes: Iterable[VolumeRecord], accept: str | None = None) -> Look:
    """Open every plex that can be had, all at once: a disk that hangs delays the others by nothing. ``accept``: the
    plex that is taken as it is, though its copy of the DCO may not be readable. Failed('exhausted').
    """
    context = home.context
    look = Look(context, {}, {})
    exhausted: list[FmrdError] = []

    async def one(volume: VolumeRecord, plex: PlexRecord, lanes: Lanes) -> None:
        timeout = min(volume.io_timeout_seconds, context.io_timeout_seconds) / 2
        tail = tail_bytes(geometry_of(volume))
        try:
            look.found[plex.uuid], opened = await find_plex(
                context, plex.path, plex.dco_path, lanes, tail, timeout, known=plex.tail, readable=plex.name != accept,
                volume=volume.uuid,
                left=plex.stamp if volume.settled and plex.is_open else None,
            )  # fmt: skip
        except (FmrdError, OSError) as error:
            exhausted.append(failed_by(error) if isinstance(error, OSError) else error)
            return
        if opened is None:
            return
        look.files[plex.uuid] = opened
        if opened.backing.length < volume.length_bytes:
            short = "it is shorter than the volume"
            look.found[plex.uuid] = replace(look.found[plex.uuid], present=False, problem=short)

    async with trio.open_nursery() as nursery:
        for volume in volumes:
            for plex in volume.plexes:
                if plex.state.value == "OFFLINE" or plex.excluded:
                    look.found[plex.uuid] = Found(False, problem="it is offline")
                    continue
                nursery.start_soon(one, volume, plex, home.lanes_of(plex.uuid, plex.name))
    if exhausted:
        await look.close()
        raise exhausted[0]
    return look


async def start_at_home(home: Home, name: str, options: StartOptions) -> Opening:
    """Take one volume of the family through PROTOCOLS, "Start at home". What was opened is closed again when it is
    refused, with the codes that are told there.
    """
    context = home.context
    async with home.kept_open():
        await home.must_not_hang()
        member = home.settings(name) if home.ledger is not None else None  # of what is known all the rest is
        loaded = home.remembered.of(member, home.ledger) if home.remembered is not None else None
        loaded = loaded or await home.read(None if member is None else member.uuid)
        newest = home.ledger.last_record if home.ledger is not None else loaded.image.record
        settings = newest.named(name) if newest is not None else None
        if newest is None or settings is None:
            raise Failed("volume_missing", f"there is no volume {name}")
        wanted = {settings.name: settings}
        original = newest.named(settings.snapshot_of or "")
        if home.ledger is None and original is not None:
            wanted[original.name] = original
        if home.ledger is None and loaded.image.torn:
            wanted = {volume.name: volume for volume in newest.volumes}
        look = await look_for(home, wanted.values(), options.accept)
        try:
            if home.ledger is None:
                record = choose_record(loaded.image, look.found, options)
                settings = record.named(name) or settings
                if original is not None:  # a home copy that was rolled back is as wrong for its snapshots
                    theirs = record.named(original.name) or original
                    known = judge_plexes(record, theirs, look.found, StartOptions())
                    judge = partial(judge_pages, record, theirs, loaded.image, look.found, known)
                    await off_the_loop(context, theirs, judge)
                ledger = await home.open(record, loaded)
            else:
                record, ledger = newest, home.ledger
            standing = judge_plexes(record, settings, look.found, options)
            if options.accept is None:  # that one is taken as it is
                judge = partial(judge_pages, record, settings, loaded.image, look.found, standing)
                await off_the_loop(context, settings, judge)
            if options != StartOptions():  # the administrator says what the volume's data is
                await context.forget_checksums(name)
            return await open_member(home, ledger, record, settings, loaded.image, look, standing)
        finally:
            await look.close()


async def open_member(
    home: Home, ledger: Ledger, record: Record, settings: VolumeRecord, image: CopyImage, look: Look,
    standing: dict[str, Standing],
) -> Opening:  # fmt: skip
    """Take steps 4 to 6: the opening commit, then the seeds, then a second commit. Only after that may anything be
    served. ``image`` is of the copy that tells the maps.
    """
    context = home.context
    opening = partial(open_volume, record, settings, image, look.found, standing)
    volume, notes = await off_the_loop(context, settings, opening)
    volume.configure(replace(volume.settings, stopped=False, settled=False))
    opened: dict[str, OpenPlex] = {}
    store = Store(ledger, volume, opened, timeout_seconds=settings.io_timeout_seconds, failed=report)
    ledger.family.put(volume)
    mirror = Mirror(store, context.system, opened, home.mirrors)
    context.stores.enter(mirror)
    files = look.take(settings.plexes)
    try:
        for plex in volume.plexes:
            here = files.get(plex.uuid)
            if here is None:
                continue
            if here.loaded is not None and look.found[plex.uuid].is_plex(record, plex.uuid):
                home.keep_ahead_of(ledger, here.loaded)
            if not plex.is_open or not standing[plex.uuid].online:
                let_go(context, here.lanes, files.pop(plex.uuid))
                continue
            plex.stamp = None
            copy = await copy_of(
                context, here, plex.name, plex.uuid, ledger.family.uuid, volume.geometry, ledger.family.rows,
                plex.path, plex.dco_path, settings.io_timeout_seconds,
            )  # fmt: skip
            plex.tail = copy.file.tail
            # An instant snapshot is nothing without its original, so its copy would be of no use elsewhere.
            copy.broken = volume.settings.is_instant
            opened[plex.uuid] = files.pop(plex.uuid).with_dco(copy)
            opened[plex.uuid].lanes.settle()  # as it was judged
            plex.session = opened[plex.uuid].is_far
        ledger.family.begin_lineage(context.new_uuid())
        await store.commit(everything=True)
        if volume.drl.count:
            seeded = seed(volume)
            notes.append(f"recovery: {volume.drl.count} dirty extent(s), {seeded} plex(es) to copy to")
            await store.commit()
        await mirror.until_recorded()
    except BaseException:
        del ledger.stores[volume.settings.uuid]
        await close_all(context, {**files, **opened})
        raise
    for note in notes:
        log.warning("volume %s: %s", volume.name, note)
    return Opening(mirror, home, notes)


def report(plex: Plex, sentence: str) -> None:
    """Log that a copy of the DCO failed."""
    log.warning("%s", sentence)
