"""The last copy of a volume stays in though the session with it is lost, and answers with errors. Here it gets a new
session, under the same gate: nothing is copied, since nobody else has anything newer.

What was under way on the old one must be over, as for a join. And what was not fdatasync'ed when it was lost may be
lost with a server that was restarted: it is made suspect, by an fdatasync on the old session, which fails; so a flush
says so until it is written anew (PROTOCOLS, "Far").
"""

import contextlib
import logging

import trio

from fmrd.core.reasons import Reason
from fmrd.core.volume import faults
from fmrd.core.volume.plex import Plex
from fmrd.engine.copies.carried import copy_of
from fmrd.engine.events import telling
from fmrd.engine.opening.closing import close, let_go
from fmrd.engine.opening.files import PlexFiles, open_plex, tail_bytes
from fmrd.engine.running import Running
from fmrd.errors import Failed, FmrdError, Refused

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 60.0


def is_lost(running: Running, plex: Plex) -> bool:
    """Tell whether a plex is open, and the session with its far side is over."""
    opened = running.mirror.opened.get(plex.uuid)
    standing = opened.backing.standing if opened is not None and plex.is_open else None
    return standing is not None and bool(standing.lost)


async def redial(running: Running, plex: Plex, *, settled: bool = False) -> None:
    """Give an open plex a new session, under the verb lock. ``settled``: somebody says that nothing of the old one is
    under way. Refused('session_open') where nothing proves that, ('refused_unknown_plex') where something else lies
    there; OSError or FmrdError where it cannot be had. It is as before then.
    """
    context, mirror, geometry = running.context, running.mirror, running.volume.geometry
    old = mirror.opened[plex.uuid]
    lanes, seconds = old.lanes, running.timeout_seconds
    files = await open_plex(
        context, plex.path, plex.dco_path, lanes, tail_bytes(geometry), seconds, known=plex.tail,
        volume=running.volume.settings.uuid,
    )  # fmt: skip
    try:
        if not settled:
            running.must_be_over(plex, files)
        _must_be_it(running, plex, files)
        family = mirror.store.family
        copy = await copy_of(
            context, files, plex.name, plex.uuid, family.uuid, geometry, family.rows, plex.path, plex.dco_path,
            seconds,
        )  # fmt: skip
        async with running.at_rest():  # its fdatasync fails on the old session
            if mirror.opened.get(plex.uuid) is not old or not plex.is_open:
                raise Failed("plex_state", f"plex {plex.name} is {plex.state} meanwhile")
            lanes.settle()
            copy.broken = True  # it lacks what was marked meanwhile, and is made anew before it counts
            mirror.opened[plex.uuid] = files.with_dco(copy)
            plex.failure = None
    except BaseException:
        if mirror.opened.get(plex.uuid) is old or plex.uuid not in mirror.opened:
            await close(context, lanes, files)
        raise
    let_go(context, lanes, old)
    telling.session_again(context.events, running.volume, plex)
    with contextlib.suppress(FmrdError):  # the cleaner asks again
        await running.renew_copies()


def _must_be_it(running: Running, plex: Plex, files: PlexFiles) -> None:
    """It is what this fmrd wrote last: nobody put another disk, or an older state of this one, in its place."""
    family = running.mirror.store.family
    theirs = files.record
    named = theirs is not None and files.found().is_plex(family.record(family.sequence), plex.uuid)
    newer = plex.has is None or (
        theirs is not None and theirs.lineage == plex.has.lineage and theirs.sequence >= plex.has.sequence
    )
    if not named or not newer or files.backing.length < running.volume.geometry.length_bytes:
        raise Refused(
            Reason.REFUSED_UNKNOWN_PLEX,
            f"plex {plex.name}: what lies at {plex.path} now is not what was there when its session was lost",
            "bring back what was there; it is the only copy of this volume",
        )


class Redialer:
    """A redialer looks after the sessions of one started volume. Once a period it is asked to ``look``."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._at: set[str] = set()
        """By plex uuid: a task is at it."""

    def look(self) -> None:
        """Begin to bring back each last copy whose session is lost. One whose copy of the DCO lies elsewhere is not
        known again by what lies there: that takes somebody's word (plex att).
        """
        running = self._running
        if not running.context.return_seconds or running.volume.settings.is_instant:
            return
        for plex in running.volume.open_plexes():
            if plex.uuid not in self._at and plex.dco_path is None and self._is_due(plex):
                self._at.add(plex.uuid)
                running.context.nursery.start_soon(self._bring_back, plex)

    def _is_due(self, plex: Plex) -> bool:
        running = self._running
        return (
            running.volume.settings.auto_attach
            and not running.life.stopping.is_set()
            and not running.life.ended
            and is_lost(running, plex)
            and not faults.may_close(plex, running.volume.plexes)  # any other one leaves with the next call, and joins
        )

    async def _bring_back(self, plex: Plex) -> None:
        pause, told = self._running.context.return_seconds, ""
        try:
            while self._is_due(plex):
                try:
                    async with self._running.verb():
                        if self._is_due(plex):
                            await redial(self._running, plex)
                except (FmrdError, OSError) as error:
                    if str(error) != told:
                        told = str(error)
                        log.warning("volume %s: plex %s has no session: %s", self._running.volume.name, plex.name, told)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                    with trio.move_on_after(pause):
                        await self._running.life.stopping.wait()
        finally:
            self._at.discard(plex.uuid)
