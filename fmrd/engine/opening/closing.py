"""Files are closed here, off trio's thread, and not before the last call on them has returned."""

import logging
from collections.abc import Mapping
from typing import Protocol

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.engine.context import Context
from fmrd.engine.serving.open_plex import Lanes

log = logging.getLogger(__name__)


class Files(Protocol):
    """These are files of a plex, or a copy of the DCO."""

    def close(self) -> None:
        """Give up the descriptors."""


class PlexFilesLike(Files, Protocol):
    """These are files of a plex."""

    lanes: Lanes


def let_go(context: Context, lane: Lane | Lanes, files: Files) -> None:
    """Have them closed, off trio's thread like any call on them. While one hangs they stay open, and locked, until it
    has landed (PROTOCOLS, "Join"). Whoever opens them again waits for it (``Lane.closed``).
    """
    _lane(lane).begin_closing()
    context.nursery.start_soon(_close, context, lane, files)


async def _close(context: Context, lane: Lane | Lanes, files: Files) -> None:
    try:
        await lane.idle()
        await ask(context.system, _lane(lane), files.close, context.io_timeout_seconds)
    except OSError as error:
        log.warning("%s is not closed yet: %s", _lane(lane).name, error)
    finally:
        _lane(lane).end_closing()


def _lane(lane: Lane | Lanes) -> Lane:
    return lane.data if isinstance(lane, Lanes) else lane


async def close(context: Context, lane: Lane | Lanes, files: Files) -> None:
    """The same, and return when they are closed, unless a call on them hangs."""
    let_go(context, lane, files)
    await lane.closed(context.io_timeout_seconds)


async def close_all(context: Context, files: Mapping[str, PlexFilesLike]) -> None:
    """The same for all of them at once."""
    for each in files.values():
        let_go(context, each.lanes, each)
    for each in files.values():
        await each.lanes.closed(context.io_timeout_seconds)
