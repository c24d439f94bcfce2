"""These are the verbs over stores: declare one, look at it, give it other measures, forget it."""

from collections.abc import Iterator
from dataclasses import replace

from fmrd.core.json_object import Json
from fmrd.core.record import VolumeRecord
from fmrd.core.stores.declared import HIGH_WATER, Declared, is_directory, what_is_wrong
from fmrd.engine.stores.room import SharedRoom
from fmrd.engine.units import Unit
from fmrd.engine.verbs.verb_base import VerbBase
from fmrd.errors import BadRequest, Refused


class StoreVerbs(VerbBase):
    """This part of Verbs concerns stores."""

    async def store_add(
        self, *, name: str, directory: str, size_bytes: int, step_bytes: int = 0, most_bytes: int = 0,
        high_water: int = HIGH_WATER, dry_run: bool = False,
    ) -> Json:  # fmt: skip
        """Declare a directory, which is made if it is missing, as a store. Failed('store_exists'), ('store_unusable'),
        Refused('refused_unsafe').
        """
        declared = Declared(name, directory, size_bytes, step_bytes, most_bytes, high_water)
        _must_make_sense(declared)
        mount = self.registry.mount_path
        if mount and (directory == mount or directory.startswith(f"{mount}/")):
            raise Refused("refused_in_use", f"{directory} is fmrd's own mount: no snapshot lies on itself")

        async def work() -> Json:
            room = await self.context.stores.add(declared, dry_run=dry_run)
            if dry_run:
                return {"notice": f"would make {directory} the store {name} of {size_bytes} bytes"}
            for unit in self.registry.units.values():
                if unit.service is not None:  # what lies there already belongs to it
                    self.context.stores.enter(unit.service.mirror)
            return {"store": await self._store(room)}

        return await self._apart(work)

    async def store_print(self, *, name: str | None = None) -> Json:
        """Tell of one store, or of all, by name."""
        stores = self.context.stores
        chosen = [stores.room(name)] if name is not None else [stores.rooms[key] for key in sorted(stores.rooms)]
        return {"stores": [await self._store(room) for room in chosen]}

    async def store_resize(
        self, *, name: str, size_bytes: int | None = None, step_bytes: int | None = None,
        most_bytes: int | None = None, high_water: int | None = None, dry_run: bool = False,
    ) -> Json:  # fmt: skip
        """Give a store other measures; what is None stays. Refused('store_in_use') where more is taken than that: then
        something would be given up at once.
        """
        room = self.context.stores.room(name)
        given = {"size_bytes": size_bytes, "step_bytes": step_bytes, "most_bytes": most_bytes, "high_water": high_water}
        now = room.declared
        measures = [getattr(now, key) if value is None else value for key, value in given.items()]
        declared = Declared(name, now.directory, *measures)
        if size_bytes is not None and most_bytes is None and declared.step_bytes:
            declared = replace(declared, most_bytes=max(declared.most_bytes, size_bytes))
        if declared.step_bytes == 0:
            declared = replace(declared, most_bytes=0)
        _must_make_sense(declared)

        async def work() -> Json:
            if declared == room.declared:
                notice = f"nothing to change: store {name} is like that"
                return {"notice": notice} | ({} if dry_run else {"store": await self._store(room)})
            taken = sum((await room.used()).values())
            if taken > declared.size_bytes:
                what = (
                    f"{taken} bytes are taken in store {name}: with {declared.size_bytes} snapshots would be given up"
                )
                raise Refused("store_in_use", what, f"remove snapshots first: fmrctl store print {name}")
            if dry_run:
                return {"notice": f"would make store {name} {declared.size_bytes} bytes large; {taken} are taken"}
            await self.context.stores.change(room, declared)
            return {"store": await self._store(room)}

        return await self._apart(work)

    async def store_remove(self, *, name: str, dry_run: bool = False) -> Json:
        """Forget a store in which no snapshot lies; its directory stays. Refused('store_in_use')."""
        room = self.context.stores.room(name)

        def check() -> None:
            names = [unit.name for unit, _ in self._in(room)]
            if names:
                what = f"in store {name} lie snapshot(s) {', '.join(names)}"
                raise Refused("store_in_use", what, "remove them first: fmrctl stop NAME, fmrctl remove NAME --erase")

        async def work() -> Json:
            check()
            shown = await self._store(room)
            if dry_run:
                return {"notice": f"would forget store {name}; {room.declared.directory} stays"}
            await self.context.stores.forget(room, check)
            return {"store": shown, "notice": f"{room.declared.directory} stays as it is"}

        return await self._apart(work)

    def _in(self, room: SharedRoom) -> Iterator[tuple[Unit, VolumeRecord]]:
        """The instant snapshots in a store, started or not, oldest first."""
        units = [(unit, unit.settings) for unit in self.registry.units.values()]
        found = [(u, s) for u, s in units if s is not None and s.is_instant and room.declared.holds(s.plexes[0].path)]
        return iter(sorted(found, key=lambda each: (_taken_at(each[1]), each[0].name)))

    async def _store(self, room: SharedRoom) -> Json:
        """Return the store of docs/JSON.md. What cannot be measured is null."""
        try:
            files: dict[str, int] | None = await room.used()
        except (OSError, TimeoutError):
            files = None
        snapshots = []
        for unit, settings in self._in(room):
            held = None if files is None else files.get(settings.plexes[0].path, 0)
            snapshots.append(
                {
                    "name": unit.name,
                    "volume": settings.snapshot_of,
                    "held_bytes": held,
                    "valid": self._is_valid(unit),
                }
            )
        declared = room.declared.json()
        return {**declared, "used_bytes": None if files is None else sum(files.values()), "snapshots": snapshots}

    def _is_valid(self, unit: Unit) -> bool | None:
        """Nobody knows of one that is stopped."""
        if unit.service is None:
            return None
        return not self._shown(unit)["volume"]["lost"]


def _taken_at(settings: VolumeRecord) -> float:
    return settings.taken.at if settings.taken is not None else 0.0


def _must_make_sense(declared: Declared) -> None:
    if not is_directory(declared.directory):
        raise BadRequest("bad_request", f"{declared.directory!r} is not the absolute path of a directory")
    if (why := what_is_wrong(declared)) is not None:
        raise BadRequest("bad_size", f"store {declared.name}: {why}")
