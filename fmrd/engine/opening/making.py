"""`make` makes plex files, their copies of the DCO, and at last the home copy, whose rename is the commit point."""

import logging
from dataclasses import dataclass, replace
from functools import partial

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.backing.protocol import LOCATOR_BYTES, DcoFile
from fmrd.core.geometry import Geometry
from fmrd.core.reasons import Reason
from fmrd.core.record import Column, PlexRecord, VolumeRecord, geometry_of
from fmrd.core.states import PlexState
from fmrd.core.volume.family import Family
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco import layout
from fmrd.dco.copy import DcoCopy
from fmrd.dco.ledger import Ledger
from fmrd.dco.store import Store
from fmrd.engine.context import Context
from fmrd.engine.opening.files import PlexFiles, copy_of, dco_bytes, let_go
from fmrd.engine.serving.open_plex import Lanes, OpenPlex
from fmrd.errors import BadRequest, Failed, FmrdError, Refused

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlexWish:
    """A wish is a plex to be: where its data and, if not beside it, its copy of the DCO shall lie."""

    path: str
    dco_path: str | None = None


async def obtain(
    context: Context, wish: PlexWish, name: str, geometry: Geometry, *, existing: bool,
    devices: bool = False, timeout_seconds: float,
) -> tuple[PlexFiles, bool]:  # fmt: skip
    """Create a plex file, or open one that exists where that is allowed (``devices``: if it is a block device). Return
    (files, whether it is new). Refused('plex_exists'), Failed('plex_too_short').
    """
    lanes = Lanes(name)
    tail = 0 if wish.dco_path else dco_bytes(geometry) + LOCATOR_BYTES

    def run() -> tuple[PlexFiles, bool]:
        host = context.host
        probe = host.probe(wish.path)
        if not probe.exists:
            return PlexFiles(host.create_plex(wish.path, geometry.length_bytes), lanes, None, None, None), True
        if not (existing or (devices and probe.is_block)) and (probe.is_block or probe.size):
            what = "block device" if probe.is_block else "file"
            raise Refused(
                "plex_exists", f"{what} {wish.path} exists", "--from PATH keeps its content, --force overwrites it"
            )
        backing = host.open_plex(wish.path, tail)
        try:
            if not backing.is_block and backing.length < geometry.length_bytes:
                backing.extend(geometry.length_bytes)
            if backing.length < geometry.length_bytes:
                raise Failed(
                    "plex_too_short",
                    f"{wish.path} holds {backing.length} usable bytes, the volume has {geometry.length_bytes}",
                )
        except BaseException:
            backing.close()
            raise
        return PlexFiles(backing, lanes, None, None, None), False

    return await ask(context.system, lanes.data, run, timeout_seconds)


async def make(
    context: Context, settings: VolumeRecord, wishes: list[PlexWish], *, from_path: str | None, force: bool
) -> None:
    """Make a new family under ``settings.name``, settled and not started. What was made is removed again if it fails,
    by FmrdError or OSError.
    """
    geometry = geometry_of(settings).check()
    paths = [w.path for w in wishes]
    if len(set(paths)) != len(paths):
        raise BadRequest("bad_request", "a path is named twice")
    if from_path is not None and from_path not in paths:
        raise BadRequest("bad_request", f"--from {from_path} is not one of the plexes")
    if len(wishes) + 1 > layout.COLUMNS:
        raise Failed("plex_too_many", f"at most {layout.COLUMNS - 1} plexes")
    opened: list[PlexFiles] = []
    created: list[PlexWish] = []
    timeout = settings.io_timeout_seconds
    home_lane = Lane(f"{settings.name} home")
    try:
        for number, wish in enumerate(wishes, 1):
            allowed = force or wish.path == from_path
            name = f"{settings.name}-{number:02d}"
            files, new = await obtain(context, wish, name, geometry, existing=allowed, timeout_seconds=timeout)
            opened.append(files)
            if new:
                created.append(wish)
        if from_path is not None and any(w.path == from_path for w in created):
            raise Failed("plex_missing", f"--from {from_path}: there is no such file")
        fresh = len(created) == len(wishes)
        source = 0 if from_path is None else paths.index(from_path)
        plexes = [_plex(context, settings.name, geometry, i, w, fresh or i == source) for i, w in enumerate(wishes)]
        volume = Volume(replace(settings, settled=True), plexes)
        family = Family(context.new_uuid(), context.new_uuid(), 0, layout.COLUMNS, len(wishes) + 2, [volume])
        size = dco_bytes(geometry)
        home_file = await ask(context.system, home_lane, partial(_create_home, context, settings.name, size), timeout)
        home = DcoCopy("home", home_file, home_lane, family.uuid, family.columns)
        ledger = Ledger(family, home, context.system, timeout_seconds=timeout)
        carriers: dict[str, OpenPlex] = {}
        store = Store(ledger, volume, carriers, timeout_seconds=timeout, failed=lambda plex, why: None)
        try:
            for plex, files in zip(plexes, opened, strict=True):
                copy = await copy_of(
                    context, files, plex.name, plex.uuid, family.uuid, geometry, family.columns,
                    plex.path, plex.dco_path, timeout,
                )  # fmt: skip
                carriers[plex.uuid] = files.with_dco(copy)
                plex.stamp = await ask(context.system, files.lanes.data, files.backing.stamp, timeout)
            await store.commit(everything=True)
            if volume.demotions or any(carrier.dco_copy.broken for carrier in carriers.values()):
                raise Failed("failed", f"volume {settings.name}: a copy of the DCO could not be written")
        finally:
            let_go(context, home_lane, home_file)
        await ask(context.system, home_lane, lambda: context.host.publish_home(settings.name), timeout)
    except BaseException as error:
        if isinstance(error, FmrdError | OSError):
            await remove_created(context, created, timeout)
        raise
    finally:
        for files in opened:
            let_go(context, files.lanes, files)


def _create_home(context: Context, name: str, size: int) -> DcoFile:
    """Also one that is not read yet, or could not be, is somebody's."""
    if name in context.host.homes():
        raise Failed("volume_exists", f"there is a home copy of the name {name} already")
    return context.host.create_home(name, size)


async def remove_created(context: Context, created: list[PlexWish], timeout_seconds: float) -> None:
    """Remove what was made for a plex that is not to be, as far as its disk answers; what is left behind is logged."""

    def run() -> None:
        for wish in created:
            context.host.remove_dco(wish.path, wish.dco_path)
            context.host.remove_plex(wish.path)

    try:
        await ask(context.system, Lane("clean up"), run, timeout_seconds)
    except OSError as error:
        log.warning("left behind: %s (%s)", ", ".join(wish.path for wish in created), error)


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
