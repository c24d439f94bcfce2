"""A mounted file system rests here while a snapshot of the volume under it is taken."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.backing.protocol import Freezer
from fmrd.engine.opening.taking import PlexWish
from fmrd.engine.registry import Registry
from fmrd.errors import Failed

log = logging.getLogger(__name__)


async def must_be_freezable(registry: Registry, mountpoints: Sequence[str]) -> None:
    """Refuse as ``frozen`` does where one of them surely is not: before anything is begun, and by a dry run."""
    context, needed = registry.context, _plexes(registry)
    for mountpoint in mountpoints:
        try:
            look = partial(context.host.freezer, mountpoint, needed)
            await ask(context.system, Lane(f"freeze {mountpoint}"), look, context.io_timeout_seconds)
        except OSError as error:
            raise Failed("freeze_failed", f"{mountpoint} cannot be frozen: {error}") from error


@asynccontextmanager
async def frozen(registry: Registry, mountpoint: str) -> AsyncIterator[None]:
    """Freeze a mounted file system in here, so that it is clean in the snapshot; it is thawed whatever happens.
    Failed('freeze_failed') where it cannot be frozen, Refused('refused_freeze') where a plex or the state lies on it.
    """
    context, needed = registry.context, _plexes(registry)
    lane = Lane(f"freeze {mountpoint}")
    freezer: Freezer | None = None
    try:
        try:
            freezer = await ask(
                context.system, lane, partial(context.host.freezer, mountpoint, needed), context.io_timeout_seconds
            )
            await ask(context.system, lane, freezer.freeze, context.io_timeout_seconds)
        except OSError as error:
            raise Failed("freeze_failed", f"{mountpoint} cannot be frozen: {error}") from error
        yield
    finally:
        with trio.CancelScope(shield=True):
            try:
                if freezer is not None:
                    await ask(context.system, lane, freezer.thaw, context.io_timeout_seconds)
            except OSError as error:
                log.error("%s is not known to be thawed: %s", mountpoint, error)


def _plexes(registry: Registry) -> dict[str, str]:
    """Where the plexes of all volumes lie, and their copies of the DCO."""
    found = {}
    for unit in registry.units.values():
        for plex in unit.settings.plexes if unit.settings is not None else ():
            path, dco = PlexWish(plex.path, plex.dco_path).paths
            found[path] = f"plex {plex.name} of volume {unit.name}"
            if plex.dco_path is not None:
                found[dco] = f"the DCO of plex {plex.name} of volume {unit.name}"
    return found
