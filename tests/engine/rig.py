"""A daemon without a door: the engine over real files, with trouble on order (faulty.py)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from fmrd.backing.calls.threaded_calls import ThreadedCalls
from fmrd.core.json_object import Json
from fmrd.core.volume.plex import Plex
from fmrd.engine.context import Context
from fmrd.engine.registry import Registry
from fmrd.engine.service import Service
from fmrd.engine.verbs.verbs import Verbs
from tests.door import Door
from tests.engine.faulty import FaultyHost

REGION = 64 << 10
SIZE = 64 * REGION
"""One extent of the DRL, 64 regions."""
NEVER = 1e6


class Rig:
    """``directory`` holds the state and the plex files a, b, c... of the volume 'data'."""

    def __init__(self, directory: Path, registry: Registry, host: FaultyHost, nursery: trio.Nursery) -> None:
        self.directory = directory
        self.registry = registry
        self.host = host
        self.verbs = Verbs(registry)
        self.killed = False
        self._nursery = nursery

    def path(self, letter: str) -> Path:
        return self.directory / letter

    async def make(self, letters: str = "ab", size_bytes: int = SIZE, **options: Any) -> Json:
        plexes = [{"path": str(self.path(letter))} for letter in letters]
        return await self.verbs.make(volume="data", size_bytes=size_bytes, plexes=plexes, **options)

    @property
    def data(self) -> Door:
        return self.door("data")

    def door(self, volume: str) -> Door:
        found = self.registry.find(volume)
        assert found is not None, f"volume {volume} is not started"
        return Door(found)

    @property
    def service(self) -> Service:
        return self.registry.service("data")

    def plex(self, letter: str) -> Plex:
        return self.service.volume.plex(str(self.path(letter)))

    async def write_regions(self, *regions: int, byte: bytes = b"w", volume: str = "data") -> None:
        """A little in each of them."""
        for region in regions:
            await self.door(volume).write(region * REGION + 512, byte * 512)

    async def det(self, letter: str) -> Json:
        return await self.verbs.plex_det(volume="data", plex=str(self.path(letter)))

    async def att(self, letter: str, **options: Any) -> Json:
        """Attach, and the task as it stands then."""
        return (await self.verbs.plex_att(volume="data", plex=str(self.path(letter)), **options))["task"]

    async def would(self, letter: str, **options: Any) -> Json:
        """What an attach would do."""
        return (await self.verbs.plex_att(volume="data", plex=str(self.path(letter)), dry_run=True, **options))[
            "decision"
        ]

    async def end(self, task: Json) -> Json:
        """The task as it ended."""
        return (await self.verbs.task_wait(id=task["id"]))["task"]

    async def end_all(self) -> None:
        for task in (await self.verbs.task_list())["tasks"]:
            await self.end(task)

    async def shown(self, letter: str) -> Json:
        """The plex as print shows it."""
        [volume] = (await self.verbs.print(volume="data"))["volumes"]
        return next(p for p in volume["plexes"] if p["path"] == str(self.path(letter)))

    async def states(self) -> str:
        [volume] = (await self.verbs.print(volume="data"))["volumes"]
        return " ".join(p["state"] for p in volume["plexes"])

    async def stop(self) -> None:
        await self.verbs.stop(volume="data")

    def bytes_of(self, letter: str) -> bytes:
        return self.path(letter).read_bytes()

    def same(self, *letters: str) -> bool:
        return len({self.bytes_of(letter) for letter in letters}) == 1

    def kill(self) -> None:
        """The end of the process, at this moment: no await, no flush."""
        self.killed = True
        self._nursery.cancel_scope.cancel()


@asynccontextmanager
async def daemon(
    directory: Path, *, io_timeout_seconds: float = 20.0, clean_seconds: float = NEVER, return_seconds: float = 0.0
) -> AsyncIterator[Rig]:
    """Runs in the block and is stopped in order at its end, unless it was killed. ``clean_seconds``: the DRL is not
    cleaned, and ``return_seconds``: no plex is attached, behind a test's back.
    """
    host = FaultyHost(directory / "state")
    context = Context(
        host, ThreadedCalls(), io_timeout_seconds=io_timeout_seconds, clean_seconds=clean_seconds,
        return_seconds=return_seconds,
    )  # fmt: skip
    registry = Registry(context, "/mnt")
    async with trio.open_nursery() as nursery:
        rig = Rig(directory, registry, host, nursery)
        await nursery.start(registry.run)
        yield rig
        if not rig.killed:
            await registry.close()
    host.power_off()
