"""A channel door over a descriptor that is none, and a volume that is none, for the tests of the door."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import trio
import trio.testing

from fmrd.backing.calls.idle_time import IdleTime
from fmrd.backing.calls.second_thread import SecondThread, Share
from fmrd.engine.opening.still_opening import Arriving
from fmrd.engine.registry import Registry
from fmrd.engine.serving.quick import LARGE_BYTES
from fmrd.front.daemon.supervisor import Supervisor
from fmrd.front.doors.channel.device import Device
from fmrd.front.doors.channel.door import ChannelDoor
from fmrd.front.doors.channel.handles import Handles
from fmrd.front.doors.channel.protocol import FIXED, IN_HEADER, MAX_WRITE_BYTES, OUT_HEADER, WRITE_FIXED_BYTES, Op

INODE = 5
LENGTH = 1 << 20


class Volume:
    """A Served in memory; ``slow`` requests must wait, others end at once. Large writes are under way until the door's
    idle time ends them, and are done by nobody before.
    """

    def __init__(self, nursery: trio.Nursery, second: SecondThread) -> None:
        self.name, self.number, self.length_bytes, self.withdrawn = "v", INODE, LENGTH, False
        self.changed_ns = 1
        self.content = bytearray(LENGTH)
        self.failure: Exception | None = None
        self.slow = False
        self.go = trio.Event()
        self.count = 0
        self.began = 0
        """Large writes."""
        self._nursery, self._second = nursery, second

    def opened(self) -> None:
        self._fail()
        self.count += 1

    def released(self) -> None:
        self.count -= 1

    def read_now(self, offset: int, buffer: memoryview, done: Callable[[Any], None]) -> None:
        def read() -> bytes:
            return bytes(self.content[offset : offset + len(buffer)])

        if self.slow:
            self._later(read, done)
            return
        self._second.finish()
        self._fail()
        found = read()
        buffer[: len(found)] = found
        done(buffer[: len(found)])

    def write_now(self, offset: int, data: memoryview, done: Callable[[Any], None]) -> bool:
        def write() -> int:
            self.content[offset : offset + len(data)] = data
            return len(data)

        if self.slow:
            data = memoryview(bytes(data))
            self._later(write, done)
            return False
        if len(data) >= LARGE_BYTES:
            self.began += 1
            return self._second.begin([], lambda _: done(self.failure or write()))
        self._fail()
        done(write())
        return False

    def make_zero_now(self, offset: int, length: int, done: Callable[[Any], None], *, punch: bool) -> None:
        self.content[offset : offset + length] = bytes(length)
        self._later(lambda: None, done)

    def seek_now(self, offset: int, done: Callable[[Any], None], *, data: bool) -> None:
        self._later(lambda: offset, done)

    def flush_now(self, done: Callable[[Any], None]) -> None:
        self._later(lambda: None, done)

    def _later(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        async def run() -> None:
            await self.go.wait()
            done(self.failure or work())

        self._nursery.start_soon(run)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class Unaided(SecondThread):
    """Nothing is done before it is finished."""

    def _start(self, calls: Sequence[Callable[[], object]]) -> Share:
        return Share([*calls, lambda: None])


class Wire:
    """Requests put in, answers taken out: (errno, body) by unique."""

    def __init__(self) -> None:
        self.descriptor = -1
        self.head = bytearray(WRITE_FIXED_BYTES)
        self.data = memoryview(bytearray(MAX_WRITE_BYTES + 4096))
        self.others: list[Any] = [bytearray(WRITE_FIXED_BYTES), memoryview(bytearray(MAX_WRITE_BYTES + 4096))]
        self.requests: list[bytes] = []
        self.now = 0.0
        self.answers: dict[int, tuple[int, bytes]] = {}

    def receive(self) -> int:
        """It takes a microsecond."""
        self.now += 1e-6
        if not self.requests:
            return 0
        return self.put_back(self.requests.pop(0))

    def received(self, size: int) -> memoryview:
        return self.data[:size]

    def swap(self) -> None:
        self.head, self.data, *self.others = *self.others, self.head, self.data

    def put_back(self, request: bytes) -> int:
        self.head[: len(request[:80])] = request[:80]
        self.data[: len(request[80:])] = request[80:]
        return len(request)

    def request(self, count: int) -> bytes:
        return bytes(self.head[:count]) + bytes(self.data[: max(0, count - 80)])

    def send(self, *parts: bytes | memoryview) -> None:
        answer = b"".join(parts)
        length, error, unique = OUT_HEADER.unpack_from(answer)
        assert length == len(answer)
        assert unique not in self.answers, "one answer each"
        self.answers[unique] = (-error, answer[OUT_HEADER.size :])


class Rig:
    def __init__(self, nursery: trio.Nursery) -> None:
        second = Unaided()
        self.volume, self.wire, self.nursery, self.unique = Volume(nursery, second), Wire(), nursery, 0
        self.arriving = Arriving()
        self.now = 0.0
        self.idle = IdleTime(second, lambda: self.now)
        self.arriving.found([])
        find = {"v": self.volume}.get
        self.registered = {INODE: self.volume}
        registry = SimpleNamespace(
            served=lambda: [], find=lambda name: find(name) if self.registered else None,
            numbered=self.registered.get, watch=lambda _: None, arriving=self.arriving,
        )  # fmt: skip
        self.handles = Handles()
        self.door = ChannelDoor(cast(Registry, registry), Path("/nowhere"), Supervisor(), self.idle)
        self.door._begin(cast(Device, self.wire), self.handles)

    def put(self, opcode: int, body: bytes = b"", *, inode: int = INODE, length: int | None = None) -> int:
        """A request, whose unique is returned; what can be answered at once is."""
        self.unique += 2
        total = IN_HEADER.size + len(body)
        head = IN_HEADER.pack(total if length is None else length, opcode, self.unique, inode, 0, 0, 0, 0, 0)
        self.wire.requests.append(head + body)
        while self.door.answer_all(cast(Device, self.wire)):
            pass
        return self.unique

    async def ask(self, opcode: int, body: bytes = b"", **options: int) -> tuple[int, bytes]:
        unique = self.put(opcode, body, **options)
        await trio.testing.wait_all_tasks_blocked()
        return self.wire.answers[unique]

    def answered(self, unique: int) -> tuple[int, bytes]:
        return self.wire.answers[unique]

    async def open(self) -> int:
        error, body = await self.ask(Op.OPEN, FIXED[Op.OPEN].pack(os.O_RDWR, 0))
        assert error == 0
        return int.from_bytes(body[:8], "little")


def a_read(handle: int, offset: int, size: int) -> bytes:
    return FIXED[Op.READ].pack(handle, offset, size, 0, 0, 0, 0)


def a_write(handle: int, offset: int, data: bytes) -> bytes:
    return FIXED[Op.WRITE].pack(handle, offset, len(data), 0, 0, 0, 0) + data
