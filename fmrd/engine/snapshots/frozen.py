"""A mounted file system rests here while a snapshot of the volume under it is taken."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.backing.protocol import Freezer
from fmrd.engine.context import Context
from fmrd.errors import Failed

log = logging.getLogger(__name__)


async def must_be_freezable(context: Context, mountpoints: Sequence[str]) -> None:
    """Failed('freeze_failed') where one of them surely is not: asked before anything is begun, and by a dry run."""
    for mountpoint in mountpoints:
        try:
            look = partial(context.host.freezer, mountpoint)
            await ask(context.system, Lane(f"freeze {mountpoint}"), look, context.io_timeout_seconds)
        except OSError as error:
            raise Failed("freeze_failed", f"{mountpoint} cannot be frozen: {error}") from error


@asynccontextmanager
async def frozen(context: Context, mountpoint: str) -> AsyncIterator[None]:
    """Freeze a mounted file system in here, so that it is clean in the snapshot; it is thawed whatever happens.
    Failed('freeze_failed') where it cannot be frozen.
    """
    lane = Lane(f"freeze {mountpoint}")
    freezer: Freezer | None = None
    try:
        try:
            freezer = await ask(
                context.system, lane, partial(context.host.freezer, mountpoint), context.io_timeout_seconds
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
