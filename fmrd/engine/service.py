"""A service is what is done to one started volume: copies in the background, and the verbs that change its plexes.

Verbs are one at a time per volume (``Running.verb``). What lets go of a plex runs by itself after its gate has closed:
record, wait for its last system call, fdatasync, stamp, record again, close.
"""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import trio

from fmrd.core.decisions import snapshot
from fmrd.core.states import PlexState
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.engine.cleaner import Cleaner
from fmrd.engine.context import Context
from fmrd.engine.events import telling
from fmrd.engine.far.redialing import Redialer
from fmrd.engine.far.setting import write_behind
from fmrd.engine.far.trailing import Trailer
from fmrd.engine.maps.carrier import let_go
from fmrd.engine.measured.slow_plexes import SlowPlexes
from fmrd.engine.opening.start import Opening
from fmrd.engine.plexes.attach import Attacher
from fmrd.engine.plexes.reattach import Reattacher
from fmrd.engine.plexes.release import Releaser
from fmrd.engine.resync.copy_tasks import CopyTasks
from fmrd.engine.running import Running
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.verify.checksums import Checksums
from fmrd.errors import Failed, FmrdError

log = logging.getLogger(__name__)

LAST_TRIES = 3
"""How often a stop asks the home copy for its last commit."""


class Service:
    """A service is made for each start. ``running`` is the volume; all else is administration, made of its parts."""

    def __init__(self, context: Context, opening: Opening) -> None:
        self.context = context
        self.running = Running(context, opening.home, opening.mirror)
        self.copying = CopyTasks(self.running, partial(let_go, self.running, self.dissociate))
        self.releaser = Releaser(self.running)
        self.attacher = Attacher(self.running, self.copying, self.releaser)
        self.reattacher = Reattacher(self.running, self.attacher)
        self.redialer = Redialer(self.running)
        self.trailer = Trailer(self.running)
        self.copying.alone = self.trailer.halted
        self.checksums = Checksums(context, self.mirror)
        self.slow_plexes = SlowPlexes(self.running)
        if context.checksums:
            self.mirror.leaving = self.checksums.void
        self.volume.gate_closed = self._gate_closed
        self.mirror.noted = context.events.note

    @property
    def mirror(self) -> Mirror:
        return self.running.mirror

    @property
    def volume(self) -> Volume:
        return self.running.volume

    def start(self) -> None:
        """Go on where a stop or a crash left off, in the context's nursery: drains, returning plexes, cleaning."""
        self.context.nursery.start_soon(Cleaner(self.running, self._each_period).run)
        self.copying.go_on()
        if self.volume.settings.carriers:
            self.context.nursery.start_soon(self.copying.afterwards)
        self.trailer.begin()
        if self.volume.settings.auto_attach:
            self.context.nursery.start_soon(self.reattacher.attach_those_that_answer)

    def _each_period(self) -> None:
        self.copying.relieve()
        self.slow_plexes.look()
        self.redialer.look()

    # Plexes leave

    async def detach(self, plex: Plex, state: PlexState = PlexState.STALE) -> str | None:
        """Detach a plex; ``state`` is what it becomes. Return a notice when there was nothing to change.
        Refused('last_plex') by rule 9.
        """
        async with self.running.verb():
            self.running.must_have(plex)
            self.reattacher.forget(plex)
            if plex.state is state:
                return f"nothing to change: {plex.name} is already {state}"
            halted = plex.is_open and await self.copying.halt(plex)
            try:
                if plex.is_open:
                    async with self.running.at_rest():
                        # Taken before the gate closes, so that one commit holds both: nothing writes to the file now.
                        stamp = await self.releaser.stamp(plex)
                        failed = not plex.is_open  # meanwhile, by itself
                        self.volume.close_gate(plex, state)
                        plex.stamp = None if failed else stamp
                else:
                    failed = True
                    self.volume.close_gate(plex, state)
                if failed:
                    await self.mirror.store.commit()
                await self.mirror.until_recorded()
            except FmrdError:
                if halted and plex.is_open:
                    self.copying.start(plex, self.copying.unfinished(plex))
                raise
        with trio.move_on_after(self.running.timeout_seconds):  # a plex that hangs is let go of when it answers
            await self.releaser.wait(plex)
        return None

    def _gate_closed(self, plex: Plex) -> None:
        opened = self.mirror.opened.get(plex.uuid)
        if opened is not None and opened.hangs:
            # The record that says so is not for its copy: whoever waits for the verdict would wait for that disk again.
            # So the copy does not know that the plex left, and an attach does not count on it.
            opened.dco_copy.broken = True
            opened.hang_up()
        for task in self.context.tasks.running(self.volume.name, plex.name):
            task.abort()
        self.releaser.begin(plex)
        if plex.failure is not None:
            plex.failure = replace(plex.failure, since=self.context.now())
        telling.gate_closed(self.context.events, self.volume, plex)
        if plex.state is PlexState.IOFAIL:
            self.reattacher.expect(plex)

    async def dissociate(self, plex: Plex) -> None:
        """Take a plex out for good: its association and map are gone, its file stays. Refused as ``detach`` is."""
        if plex.is_open:
            await self.detach(plex)
        async with self.running.verb():
            self._must_be_closed(plex)
            await self.running.lanes_of(plex)
            await self.releaser.complete(plex)
            self.volume.remove_plex(plex)
            await self.mirror.store.commit()

    async def convert(self, plex: Plex) -> None:
        """Make a regular plex a snapshot plex (``snapshot.convert``)."""
        async with self.running.verb():
            self.running.must_have(plex)
            snapshot.convert(self.volume, plex)
            await self.mirror.store.commit()

    def _must_be_closed(self, plex: Plex) -> None:
        self.running.must_have(plex)
        if plex.is_open:
            raise Failed("plex_state", f"plex {plex.name} was attached meanwhile")

    async def back_on(self, plex: Plex) -> None:
        """OFFLINE -> STALE."""
        async with self.running.verb():
            self._must_be_closed(plex)
            if plex.state is not PlexState.OFFLINE:
                return  # another one was faster
            self.volume.close_gate(plex, PlexState.STALE)
            plex.excluded = False
            await self.mirror.store.commit()

    # Settings, end

    async def configure(self, **changes: object) -> None:
        """Change settings of the record; 'fmr' also frees the maps. The caller has checked them."""
        async with self.running.verb():
            fmr = changes.pop("fmr", None)
            if (behind := changes.pop("write_behind", None)) is not None:
                await write_behind(self.running, self.trailer, self.copying, str(behind))
            self.volume.configure(replace(self.volume.settings, **changes))  # type: ignore[arg-type]  # checked by the caller
            if fmr is not None:
                self.volume.set_fmr(bool(fmr))
            self.mirror.store.timeout_seconds = self.running.timeout_seconds
            await self.mirror.store.commit()
            if self.volume.drl.is_filling:
                self.mirror.filling.set()
            self.context.tasks.wake(self.volume.name)

    def _is_settled(self) -> bool:
        """Tell, at a stop, whether nothing is to be recovered, and each plex that can have a stamp gave one."""
        opened = self.mirror.opened
        plexes = self.volume.open_plexes()
        stamped = all(p.stamp is not None or opened[p.uuid].backing.is_block for p in plexes)
        return stamped and not self.volume.drl.count and self.volume.suspicion() is None

    async def close(self, leave: Callable[[], None], *, stopped: bool) -> None:
        """Orderly stop: requests answered, copies halted, maps exact, stamps taken, files closed. ``leave`` withdraws
        it when the verb before has ended, or refuses. ``stopped``: by the administrator, so that the daemon does not
        start it again by itself.
        """
        async with self.running.verb():
            leave()
            self.running.life.stop()
            await self.copying.halt_all()
            await self.mirror.quiesce()
            async with self.running.at_rest():
                for plex in list(self.volume.plexes):
                    if plex.is_open:
                        plex.stamp = await self.releaser.stamp(plex)
                    elif plex.uuid in self.mirror.opened and not self.mirror.opened[plex.uuid].lanes.outstanding:
                        await self.releaser.complete(plex)
                await self._renew_copies()
                for plex in self.volume.plexes:
                    self.running.note_session(plex)
                settings = replace(self.volume.settings, stopped=stopped, settled=self._is_settled())
                self.volume.configure(settings)
                try:
                    await self._commit_at_last()
                finally:
                    await self.checksums.close()
                    self.end()
            await self.releaser.closed()

    async def _renew_copies(self) -> None:
        try:
            await self.running.renew_copies()
        except FmrdError as error:
            log.warning("volume %s stops with a copy of the DCO that is behind: %s", self.volume.name, error)

    async def _commit_at_last(self) -> None:
        """Commit for the last time: nobody asks again later, and a suspicion that is not written down is forgotten. So
        a passing error of the home copy does not decide.
        """
        for _ in range(LAST_TRIES - 1):
            with contextlib.suppress(Failed):
                await self.mirror.store.commit()
                return
        await self.mirror.store.commit()

    def resume(self) -> None:
        """Go on: what it was brought to rest for did not come to be."""
        self.mirror.resume()
        self.copying.resume()

    def end(self) -> None:
        """End it, in one step: nothing is done on it any more; the home copy is closed with the last of its family."""
        home, uuid = self.running.home, self.volume.settings.uuid
        self.running.life.end()
        self.trailer.wake()
        self.releaser.close_all()
        self.mirror.store.ledger.stores.pop(uuid, None)
        home.mirrors.pop(uuid, None)
        home.let_go_if_idle()
