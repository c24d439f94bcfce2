"""How requests are answered: once each, at once or by a task, with what they asked for or an errno."""

import errno
import logging
from collections.abc import Awaitable, Callable

import trio

from fmrd.front.doors.channel import protocol
from fmrd.front.doors.channel.device import Device
from fmrd.front.doors.channel.protocol import OUT_HEADER, WRITTEN, Malformed, Op
from fmrd.front.doors.tree import errno_of

log = logging.getLogger(__name__)

Work = Callable[[], Awaitable[bytes | memoryview]]
"""What is left to be waited for; it gives the body of the answer."""
INTERRUPTED = frozenset({Op.READ, Op.FSYNC})
"""Whoever waits for one of these and is told to go need not wait for its end. A write is waited for: what the program
does next may rely on that it is over.
"""


class Answers:
    """To the requests of one mount."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.under_way: dict[int, int] = {}
        """The opcodes of requests that have a task, by their unique."""
        self._none_left = trio.Event()

    def send(self, unique: int, body: bytes | memoryview) -> None:
        self._device.send(OUT_HEADER.pack(OUT_HEADER.size + len(body), 0, unique), body)

    def written(self, unique: int, size: int) -> None:
        self._device.send(WRITTEN.pack(WRITTEN.size, 0, unique, size, 0))

    def refuse(self, opcode: int, unique: int, error: Exception) -> None:
        what = Op(opcode).name.lower() if opcode in Op._value2member_map_ else f"opcode {opcode}"
        if isinstance(error, Malformed):
            log.warning("%s: %s", what, error)
            error = OSError(errno.EINVAL, str(error))
        self._device.send(protocol.refusal(unique, errno_of(error, what)))

    def later(self, nursery: trio.Nursery, opcode: int, unique: int, work: Work) -> None:
        """By a task."""
        self.under_way[unique] = opcode
        nursery.start_soon(self._work, opcode, unique, work)

    async def _work(self, opcode: int, unique: int, work: Work) -> None:
        try:
            answer = await work()
        except Exception as error:
            self._end(opcode, unique, error)
        else:
            self._end(opcode, unique, answer)

    def _end(self, opcode: int, unique: int, result: bytes | memoryview | Exception) -> None:
        """Unless it was interrupted meanwhile."""
        if self.under_way.pop(unique, None) is not None:
            if isinstance(result, Exception):
                self.refuse(opcode, unique, result)
            else:
                self.send(unique, result)
        if not self.under_way:
            self._none_left.set()

    def interrupt(self, unique: int) -> None:
        """Whoever waits for that one is told to go."""
        opcode = self.under_way.get(unique)
        if opcode in INTERRUPTED:
            self._end(opcode, unique, OSError(errno.EINTR, "interrupted"))

    async def all_sent(self) -> None:
        while self.under_way:
            self._none_left = trio.Event()
            await self._none_left.wait()
