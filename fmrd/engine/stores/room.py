"""The room of one store, shared out to the instant snapshots that lie in it (PROTOCOLS, "Stores").

How much is taken is measured, and kept as a bound in between: what was measured last, and whatever was granted since or
was under way then. So nobody asks the file system before the bound comes near the size. Before anything is given up,
what is under way is waited for and all is measured anew.

Whoever waits here may hold bytes of an original. So nothing here waits for bytes, or for a volume at rest.
"""

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import trio

from fmrd.backing.calls.system_calls import Lane, SystemCalls, ask
from fmrd.core.stores.declared import Declared
from fmrd.core.stores.room import to_free
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.stores import giving_up
from fmrd.errors import Failed

FULL = (errno.ENOSPC, errno.EDQUOT)
Measure = Callable[[str], dict[str, int]]
"""Directory -> the bytes allocated to each file in it, by path."""


class SharedRoom:
    """This is the room of one store. ``grown`` is told, in that step, of a size that it has from now on; ``tell`` of a
    kind of event, a sentence and what to do. ``begin`` runs something beside everything else.
    """

    def __init__(
        self, declared: Declared, system: SystemCalls, measure: Measure, *, timeout_seconds: float,
        grown: Callable[[], None], tell: Callable[..., None], begin: giving_up.Begin,
    ) -> None:  # fmt: skip
        self.declared = declared
        self._system = system
        self._measure_files = measure
        self._timeout_seconds = timeout_seconds
        self._grown = grown
        self._tell = tell
        self._lane = Lane(f"store {declared.name}")
        self._members: dict[str, Mirror] = {}
        self._files: dict[str, int] = {}
        self._measured: int | None = None
        self._granted = 0
        """Since that was begun, and what was under way then."""
        self._under_way = 0
        self._writers = 0
        """Of those that hold room, were it none: what lands where it was given back takes some again."""
        self._nobody_writes = trio.Event()
        self._lock = trio.Lock()
        """Of who measures, and gives up."""
        self._told_high = False
        self._going = giving_up.Going(begin)

    @property
    def name(self) -> str:
        return self.declared.name

    @property
    def hangs(self) -> bool:
        """Tell whether its directory does not answer: then nobody waits for it again before it has."""
        return bool(self._lane.hung)

    def enter(self, mirror: Mirror) -> None:
        """A volume has its plex here from now on, until it is stopped or goes."""
        self._members[mirror.volume.settings.uuid] = mirror
        mirror.room = self

    def members(self) -> list[Mirror]:
        """Those that are started. One that is about to be stays; one that was stopped goes."""
        self._members = {uuid: mirror for uuid, mirror in self._members.items() if not mirror.life.ended}
        return [mirror for uuid, mirror in self._members.items() if mirror.kin.get(uuid) is mirror]

    async def used(self) -> dict[str, int]:
        """Return the bytes allocated to each file in it, by path. OSError or FmrdError where that cannot be told."""
        if self.hangs:
            raise OSError(errno.ETIMEDOUT, f"the directory of store {self.name} has not answered yet")
        return await ask(
            self._system, self._lane, lambda: self._measure_files(self.declared.directory), self._timeout_seconds
        )

    def resized(self, declared: Declared) -> None:
        self.declared = declared
        self._told_high = False

    # Room is asked for

    async def put(self, uuid: str, size: int, put: Callable[[], Awaitable[None]], *, precious: bool) -> None:
        """As asked.Room.put. A file system that is full counts as a store that is."""
        tried: set[str] = set()
        while True:
            async with self._held(uuid, size, tried, precious=precious):
                try:
                    await put()
                    return
                except OSError as error:
                    if error.errno not in FULL or not precious:
                        raise
                    why = f"the file system of store {self.name} was full"
            async with self._lock:
                self._must_want(uuid)
                await self._measure()
                await self._free(uuid, tried, why)

    @asynccontextmanager
    async def taken(self, uuid: str, size: int) -> AsyncIterator[None]:
        """As asked.Room.taken."""
        async with self._held(uuid, size, set(), precious=False):
            yield

    async def reserve(self, size: int, *, dry_run: bool) -> None:
        """Return where so many bytes more fit, for a file that is made now. Failed('store_full'): nobody is given up
        for it.
        """
        if dry_run:
            most = self.declared.most_bytes if self.declared.can_grow else self.declared.size_bytes
            if sum((await self.used()).values()) + size > most:
                raise self._too_much(size)
            return
        async with self._lock:
            await self._make_room("", size, set(), precious=False)
            self._granted += size

    @asynccontextmanager
    async def _held(self, uuid: str, size: int, tried: set[str], *, precious: bool) -> AsyncIterator[None]:
        if self._lock.locked() or not self._is_sure(size):
            async with self._lock:
                await self._make_room(uuid, size, tried, precious=precious)
                self._grant(size)
        else:
            self._grant(size)
        try:
            yield
        finally:
            self._under_way -= size
            self._writers -= 1
            if not self._writers:
                self._nobody_writes.set()

    def _grant(self, size: int) -> None:
        self._granted += size
        self._under_way += size
        self._writers += 1

    def _bound(self, size: int) -> int:
        """As many bytes are in it at most, with so many more."""
        return (self._measured or 0) + self._granted + size

    def _is_sure(self, size: int) -> bool:
        """Tell whether so much more may be taken without a look: then there is nothing to grow or to tell, either."""
        limit = self.declared.size_bytes
        if self.declared.can_grow or not self._told_high:
            limit = self.declared.threshold_bytes
        return not size or (self._measured is not None and self._bound(size) <= limit)

    def _fits(self, size: int) -> bool:
        return self._bound(size) <= self.declared.size_bytes

    async def _make_room(self, uuid: str, size: int, tried: set[str], *, precious: bool) -> None:
        """Return when so many bytes fit. Failed('store_full') where they cannot, or nobody is to be given up."""
        self._must_want(uuid)
        if self._is_sure(size):
            return
        await self._measure()
        self._grow(size)
        if self._fits(size):
            return
        await self._until_quiet()
        await self._measure()
        while not self._fits(size):
            if not precious:
                raise self._too_much(size)
            await self._free(uuid, tried, f"store {self.name} was full")

    def _must_want(self, uuid: str) -> None:
        """Failed('store_full') of whoever was given up while it waited here: nobody else is, for nothing."""
        mirror = self._members.get(uuid)
        if mirror is not None and giving_up.may_go(mirror) and giving_up.what_is_lost(mirror)[1]:
            raise self._full(f"store {self.name} was full, and {mirror.volume.name} was given up meanwhile")

    async def _until_quiet(self) -> None:
        """Wait for what is under way: it is in what is measured then, and nothing is given up for what was not used."""
        with trio.move_on_after(self._timeout_seconds):
            while self._writers:
                self._nobody_writes = trio.Event()
                await self._nobody_writes.wait()

    async def _measure(self) -> None:
        self._granted, self._measured = self._under_way, None
        self._files = await self.used()
        self._measured = sum(self._files.values())
        if self._bound(0) < self.declared.threshold_bytes:
            self._told_high = False

    def _grow(self, size: int) -> None:
        was = self.declared
        need = self._bound(size)
        if (bigger := was.grown_for(need)) > was.size_bytes:
            self.declared = replace(was, size_bytes=bigger)
            self._grown()
            message = f"store {was.name} has grown from {was.size_bytes} to {bigger} bytes: {need} are taken"
            self._tell("store_grown", message)
        now = self.declared
        if need > now.threshold_bytes and not now.can_grow and not self._told_high:
            self._told_high = True
            message = f"store {now.name} is filling: {need} of {now.size_bytes} bytes are taken, and it cannot grow"
            action = f"fmrctl store resize {now.name} SIZE, or remove snapshots; the oldest is given up when it is full"
            self._tell("store_filling", message, action=action)

    # Room is given back

    async def _free(self, uuid: str, tried: set[str], why: str) -> None:
        """Give back the room of one snapshot; ``tried`` are those of which all is given back. Failed('store_full')
        where there is none, or where it was that of whoever asks.
        """
        mirrors = {m.volume.settings.uuid: m for m in self.members() if giving_up.may_go(m)}
        held = {key: self._files.get(mirror.volume.plexes[0].path, 0) for key, mirror in mirrors.items()}
        busy = tried | self._going.uuids
        members = [giving_up.member(mirror, held[key]) for key, mirror in mirrors.items() if key not in busy]
        chosen = to_free(members)
        if chosen is None:
            raise self._full(f"{why}, and no snapshot is left in it that could be given up")
        tried.add(chosen.uuid)
        mirror = mirrors[chosen.uuid]
        message, action = giving_up.told(chosen, mirror, self.name, why)
        tell = partial(self._tell, "snapshot_given_up", message, action=action, volume=chosen.name)
        if not await self._going.give_up(mirror, tell, self._timeout_seconds):
            raise self._full(f"store {self.name} is full, and snapshot {chosen.name} takes long to be given up")
        if chosen.uuid == uuid:
            raise self._full(f"{why}, and it was the oldest there")
        await self._measure()

    def _too_much(self, size: int) -> Failed:
        return self._full(f"store {self.name} is full: {size} bytes more do not fit, and nothing is given up for them")

    def _full(self, why: str) -> Failed:
        hint = f"fmrctl store resize {self.name} SIZE, or remove snapshots in it"
        return Failed("store_full", why, hint, errno=errno.ENOSPC)
