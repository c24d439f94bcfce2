"""All stores of the daemon: remembered in the state directory, and entered by snapshots whose plex lies in one."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from fmrd.backing.calls.system_calls import Lane, SystemCalls, ask
from fmrd.backing.protocol import Host
from fmrd.core.stores.declared import MOST_STORES, Declared
from fmrd.engine.events.ring import Events
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.stores.remembered import decode, encode
from fmrd.engine.stores.room import SharedRoom
from fmrd.errors import BadRequest, Failed, FmrdError, failed_by

log = logging.getLogger(__name__)
PATIENCE_SECONDS = 5.0
"""How long what is asked of a store's directory may take: an original may wait for it."""


class Stores:
    """Stores are used on trio's thread. ``begin`` runs something beside everything else."""

    def __init__(
        self, host: Host, system: SystemCalls, events: Events, begin: Callable[[Callable[[], Awaitable[Any]]], None]
    ) -> None:  # fmt: skip
        self._host = host
        self._system = system
        self._events = events
        self._begin = begin
        self._lane = Lane("stores")
        self._saving = trio.Lock()
        self._rooms: dict[str, SharedRoom] | None = None
        self._damaged: str | None = None

    @property
    def rooms(self) -> dict[str, SharedRoom]:
        """Return them by name; they are read when somebody asks first, as volumes are opened."""
        if self._rooms is None:
            self._rooms = {declared.name: self._room(declared) for declared in self._read()}
        return self._rooms

    def _read(self) -> tuple[Declared, ...]:
        """A file that cannot be read keeps no volume down: its snapshots go on, without a quota."""
        try:
            data = self._host.read_stores()
            return decode(data) if data is not None else ()
        except (OSError, ValueError) as error:
            self._damaged = f"the file 'stores' in the state directory cannot be used: {error}"
            log.error("%s: snapshots in stores go on without a quota", self._damaged)
            return ()

    def _room(self, declared: Declared) -> SharedRoom:
        return SharedRoom(
            declared, self._system, self._host.store_files, timeout_seconds=PATIENCE_SECONDS,
            grown=lambda: self._begin(self._save_or_tell), tell=self._events.warn,
            begin=self._begin,
        )  # fmt: skip

    def room(self, name: str) -> SharedRoom:
        """Return the room of a store; Failed('store_missing'), Failed('stores_damaged')."""
        found = self.rooms.get(name)  # reads them
        if found is None:
            self._must_be_whole()
            raise Failed("store_missing", f"there is no store {name}", "fmrctl store list")
        return found

    def _must_be_whole(self) -> None:
        if self._damaged is not None:
            raise Failed("stores_damaged", self._damaged, "put a good one back, or move it away, and start fmrd anew")

    def of_path(self, path: str) -> SharedRoom | None:
        """Return the room in which a file lies."""
        return next((room for room in self.rooms.values() if room.declared.holds(path)), None)

    def enter(self, mirror: Mirror) -> None:
        """An instant snapshot begins, or is opened: it takes its room from the store in which its plex lies, if any."""
        if mirror.volume.settings.is_instant:
            room = self.of_path(mirror.volume.plexes[0].path)
            if room is not None:
                room.enter(mirror)

    # Declared by the administrator

    async def add(self, declared: Declared, *, dry_run: bool = False) -> SharedRoom:
        """Declare a store. Failed('store_exists'); BadRequest, Refused and Failed as its directory is."""
        self._must_be_free(declared)
        try:
            prepare = partial(self._host.prepare_store, declared.directory, make=not dry_run)
            await ask(self._system, self._lane, prepare, PATIENCE_SECONDS)
        except OSError as error:
            why = error.strerror or error
            raise Failed(
                "store_unusable", f"store {declared.name} cannot lie in {declared.directory}: {why}"
            ) from error
        if dry_run:
            return self._room(declared)
        async with self._saving:
            self._must_be_free(declared)
            await self._write({**self._declared(), declared.name: declared})
            room = self.rooms[declared.name] = self._room(declared)
        return room

    def _must_be_free(self, declared: Declared) -> None:
        rooms = list(self.rooms.values())
        self._must_be_whole()
        for room in rooms:
            if room.name == declared.name:
                raise Failed("store_exists", f"store {room.name} exists already, in {room.declared.directory}")
            if room.declared.directory == declared.directory:
                raise Failed("store_exists", f"{declared.directory} is the directory of store {room.name} already")
        if len(self.rooms) >= MOST_STORES:
            raise BadRequest("bad_request", f"there are {MOST_STORES} stores already, which is the most")

    async def change(self, room: SharedRoom, declared: Declared) -> None:
        """Give a store other measures."""
        async with self._saving:
            self._must_be_there(room)
            await self._write({**self._declared(), room.name: declared})
            room.resized(declared)

    async def forget(self, room: SharedRoom, check: Callable[[], None]) -> None:
        """Forget a store; its directory stays. ``check`` may refuse it in the step after which nobody enters it."""
        async with self._saving:
            self._must_be_there(room)
            check()
            del self.rooms[room.name]  # no snapshot enters it from now on
            try:
                await self._write(self._declared())
            except BaseException:
                self.rooms[room.name] = room
                raise

    def _must_be_there(self, room: SharedRoom) -> None:
        if self.rooms.get(room.name) is not room:
            raise Failed("store_missing", f"store {room.name} was removed meanwhile")

    def _declared(self) -> dict[str, Declared]:
        return {name: room.declared for name, room in self.rooms.items()}

    async def _write(self, stores: dict[str, Declared]) -> None:
        data = encode(stores[name] for name in sorted(stores))
        try:
            write = partial(self._host.write_stores, data)
            await ask(self._system, self._lane, write, PATIENCE_SECONDS)
        except OSError as error:
            raise failed_by(error) from error

    async def _save_or_tell(self) -> None:
        """A store has grown by itself; where that is not remembered it grows again after the next start."""
        try:
            async with self._saving:
                await self._write(self._declared())
        except FmrdError as error:
            log.warning("it is not remembered that a store has grown: %s", error)
