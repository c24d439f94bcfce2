"""A mounted file system rests here while a snapshot of the volume under it is taken."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.engine.context import Context
from fmrd.errors import Failed

log = logging.getLogger(__name__)


@asynccontextmanager
async def frozen(context: Context, mountpoint: str) -> AsyncIterator[None]:
    """Freeze a mounted file system in here, so that it is clean in the snapshot; it is thawed whatever happens.
    Failed('freeze_failed') where it cannot be frozen.
    """
    freezer = context.host.freezer(mountpoint)
    lane = Lane(f"freeze {mountpoint}")
    try:
        try:
            await ask(context.system, lane, freezer.freeze, context.io_timeout_seconds)
        except OSError as error:
            raise Failed("freeze_failed", f"{mountpoint} cannot be frozen: {error}") from error
        yield
    finally:
        with trio.CancelScope(shield=True):
            try:
                await ask(context.system, lane, freezer.thaw, context.io_timeout_seconds)
            except OSError as error:
                log.error("%s is not known to be thawed: %s", mountpoint, error)
