"""`make` makes plex files, their copies of the DCO, and at last the home copy, whose rename is the commit point."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.backing.protocol import DcoFile
from fmrd.core.geometry import Geometry
from fmrd.core.reasons import Reason
from fmrd.core.record import MOST_PAGES, PlexRecord, Record, VolumeRecord, geometry_of
from fmrd.core.records.parts import Column
from fmrd.core.records.rows import Rows
from fmrd.core.states import PlexState
from fmrd.core.volume.family import Family
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco import layout
from fmrd.dco.copy import DcoCopy
from fmrd.dco.ledger import Ledger
from fmrd.dco.store import Store
from fmrd.engine.context import Context
from fmrd.engine.copies.carried import copy_of
from fmrd.engine.opening.closing import close
from fmrd.engine.opening.files import PlexFiles, dco_bytes, off_the_loop
from fmrd.engine.opening.stamping import stamp_of
from fmrd.engine.opening.taking import Looked, Manners, PlexWish, look_at
from fmrd.engine.serving.open_plex import Lanes, OpenPlex
from fmrd.errors import BadRequest, Failed, FmrdError

log = logging.getLogger(__name__)


async def obtain(
    context: Context, looked: Looked, name: str, geometry: Geometry, timeout_seconds: float
) -> tuple[PlexFiles, bool]:
    """Create a plex file where there was none, or take what was there. Returns (files, whether it is new)."""
    lanes = Lanes(name)
    path = looked.wish.path

    def run() -> tuple[PlexFiles, bool]:
        host = context.host
        if not looked.seen.exists:
            made = host.create_plex(path, geometry.length_bytes)
            return PlexFiles(made, lanes, None, None, made.stamp(), looked.may_replace), True
        backing = host.take_plex(path, looked.tail_bytes, looked.seen)
        backing.patience_seconds = timeout_seconds
        try:
            if not backing.is_block and backing.length < geometry.length_bytes:
                backing.extend(geometry.length_bytes)
            if backing.length < geometry.length_bytes:
                raise Failed(
                    "plex_too_short",
                    f"{path} holds {backing.length} usable bytes, the volume has {geometry.length_bytes}",
                )
        except BaseException:
            backing.close()
            raise
        return PlexFiles(backing, lanes, None, None, None, looked.may_replace), False

    return await ask(context.system, lanes.data, run, timeout_seconds)


async def examine(
    context: Context, settings: VolumeRecord, wishes: Sequence[PlexWish], manners: Manners
) -> list[Looked]:
    """All that is asked before anything is made; a dry run ends here."""
    geometry, timeout = geometry_of(settings).check(), settings.io_timeout_seconds
    if manners.keep is not None and manners.keep not in [w.path for w in wishes]:
        raise BadRequest("bad_request", f"--from {manners.keep} is not one of the plexes")
    if len(wishes) + 1 > context.columns:
        raise Failed("plex_too_many", f"volume {settings.name}: at most {context.columns - 1} plexes")
    if (len(wishes) + 1) * geometry.pages > MOST_PAGES:
        raise Failed(
            "dco_full",
            f"volume {settings.name}: {len(wishes)} maps of {geometry.regions} regions each are too many",
            "give larger regions (--region-size), or fewer plexes",
        )
    named = tuple(_planned(f"{settings.name}-{at:02d}", wish, at) for at, wish in enumerate(wishes, 1))
    layout.must_have_room(Record(layout.HOME, "", 0, (replace(settings, plexes=named),)))
    preferred = settings.rdpol.removeprefix("prefer:")
    if preferred != settings.rdpol and not any(preferred in (plex.name, plex.path) for plex in named):
        raise Failed("plex_unknown", f"volume {settings.name} would have no plex {preferred}")
    looked = await look_at(context, wishes, geometry, manners, timeout)
    home = Lane(f"{settings.name} home")
    await ask(context.system, home, partial(_try_home, context, settings.name, dco_bytes(geometry)), timeout)
    return looked


def to_be_copied(looked: Sequence[Looked], from_path: str | None) -> list[str]:
    """The paths of the plexes that a volume made of these would begin to copy to: all but one, unless all are new."""
    if from_path is None and not any(each.seen.exists for each in looked):
        return []
    paths = [each.wish.path for each in looked]
    return [path for path in paths if path != (from_path or paths[0])]


def must_have_place(family: Family, volume: Volume, wish: PlexWish, bitmaps: int = 1) -> Rows:
    """One plex more, with so many bitmaps. Failed('plex_too_many') or ('dco_full') where the DCO has no room for it,
    and none can be made. Return the rows as they will be then.
    """
    runs = family.runs_for(bitmaps, volume) or family.rows.runs
    record = replace(family.record(family.sequence), runs=runs)
    used = {column.index for each in family.volumes for column in each.columns()}
    unused = min(set(range(record.rows.total)) - used)
    original = replace(record.volume, plexes=(*record.volume.plexes, _planned("new", wish, unused)))
    layout.must_have_room(replace(record, volumes=(original, *record.volumes[1:])))
    return record.rows


def must_have_room(family: Family, volume: Volume, **changes: object) -> None:
    """Failed('dco_full') where these settings leave too little room in the record for what comes to it later."""
    record = family.record(family.sequence)
    changed = [
        replace(v, **changes) if v.uuid == volume.settings.uuid else v  # type: ignore[arg-type]  # parse_settings checked
        for v in record.volumes
    ]
    layout.must_have_room(replace(record, volumes=tuple(changed)))


def _planned(name: str, wish: PlexWish, column: int) -> PlexRecord:
    uuid = str(UUID(int=column))
    return PlexRecord(name, uuid, wish.path, wish.dco_path, PlexState.ACTIVE, Column(column, 0))


async def make(context: Context, settings: VolumeRecord, wishes: Sequence[PlexWish], manners: Manners) -> None:
    """A new family under ``settings.name``, settled and not started. What was made is removed again if it fails."""
    found = await examine(context, settings, wishes, manners)
    geometry, from_path = geometry_of(settings), manners.keep
    paths = [w.path for w in wishes]
    opened: list[PlexFiles] = []
    created: list[tuple[PlexWish, PlexFiles]] = []
    timeout = settings.io_timeout_seconds
    home_lane = Lane(f"{settings.name} home")
    try:
        for number, looked in enumerate(found, 1):
            files, new = await obtain(context, looked, f"{settings.name}-{number:02d}", geometry, timeout)
            opened.append(files)
            if new:
                created.append((looked.wish, files))
        fresh = len(created) == len(wishes)
        source = 0 if from_path is None else paths.index(from_path)

        def assemble() -> tuple[Volume, list[Plex]]:
            made = [_plex(context, settings.name, geometry, i, w, fresh or i == source) for i, w in enumerate(wishes)]
            return Volume(replace(settings, settled=True), made), made

        volume, plexes = await off_the_loop(context, settings, assemble)
        family = Family(context.new_uuid(), context.new_uuid(), 0, Rows(context.columns), len(wishes) + 2, [volume])
        size = dco_bytes(geometry, family.rows)
        home_file = await ask(context.system, home_lane, partial(_create_home, context, settings.name, size), timeout)
        home = DcoCopy("home", home_file, home_lane, family.uuid, family.rows)
        ledger = Ledger(family, home, context.system, timeout_seconds=timeout)
        carriers: dict[str, OpenPlex] = {}
        store = Store(ledger, volume, carriers, timeout_seconds=timeout, failed=lambda plex, why: None)
        try:
            for plex, files in zip(plexes, opened, strict=True):
                copy = await copy_of(
                    context, files, plex.name, plex.uuid, family.uuid, geometry, family.rows,
                    plex.path, plex.dco_path, timeout,
                )  # fmt: skip
                plex.tail = copy.file.tail
                carriers[plex.uuid] = files.with_dco(copy)
                plex.stamp = await stamp_of(context, volume, plex, carriers, timeout)
            await store.commit(everything=True)
            if volume.demotions or any(carrier.dco_copy.broken for carrier in carriers.values()):
                raise Failed("failed", f"volume {settings.name}: a copy of the DCO could not be written")
        finally:
            await close(context, home_lane, home_file)
        await ask(context.system, home_lane, lambda: context.host.publish_home(settings.name), timeout)
    except BaseException as error:
        if isinstance(error, FmrdError | OSError):
            await remove_created(context, created, timeout)
        raise
    finally:
        for files in opened:
            await close(context, files.lanes, files)


def _try_home(context: Context, name: str, size: int) -> None:
    """Also one that is not read yet, or could not be, is somebody's."""
    if name in context.host.homes():
        raise Failed("volume_exists", f"there is a home copy of the name {name} already")
    context.host.try_home(name, size)


def _create_home(context: Context, name: str, size: int) -> DcoFile:
    _try_home(context, name, size)
    return context.host.create_home(name, size)


async def remove_created(
    context: Context, created: Sequence[tuple[PlexWish, PlexFiles]], timeout_seconds: float
) -> None:
    """Remove what was made for a plex that is not to be, as far as its disk answers."""

    def run() -> None:
        for wish, files in created:
            if files.dco is not None:
                context.host.remove_dco(wish.path, wish.dco_path)
            context.host.remove_plex(wish.path)

    try:
        await ask(context.system, Lane("clean up"), run, timeout_seconds)
    except OSError as error:
        log.warning("left behind: %s (%s)", ", ".join(wish.path for wish, _ in created), error)


def _plex(context: Context, volume: str, geometry: Geometry, index: int, wish: PlexWish, current: bool) -> Plex:
    record = PlexRecord(
        name=f"{volume}-{index + 1:02d}",
        uuid=context.new_uuid(),
        path=wish.path,
        dco_path=wish.dco_path,
        state=PlexState.ACTIVE if current else PlexState.TEMP,
        map=Column(index + 1, index + 1),
        reason=Reason.NONE if current else Reason.FULL_NEW_PLEX,
    )
    return Plex(record, geometry, full=not current)
