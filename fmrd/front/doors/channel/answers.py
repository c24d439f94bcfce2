"""Requests are answered once each, in the step in which they came or later, by what they asked for or an errno."""

import errno
import logging
from collections.abc import Callable
from typing import Any

import trio

from fmrd.front.doors.channel import replies
from fmrd.front.doors.channel.device import Device
from fmrd.front.doors.channel.protocol import OUT_HEADER, WRITTEN, Malformed, Op
from fmrd.front.doors.tree import errno_of

log = logging.getLogger(__name__)

READ, WRITE = int(Op.READ), int(Op.WRITE)
INTERRUPTED = frozenset({Op.READ, Op.FSYNC})
"""Whoever waits for one of these and is told to go need not wait for its end. A write is waited for: what the program
does next may rely on that it is over.
"""
Body = bytes | memoryview
Pack = Callable[[Any], Body]


def nothing(_: object) -> bytes:
    """Return the body of an answer that says no more than that it is done."""
    return b""


class Answer:
    """An answer is to one request: it is called with what came of it, or an exception, on trio's thread. Only the first
    call counts; one that was interrupted is over.
    """

    __slots__ = ("_answers", "_pack", "_send", "later", "opcode", "over", "unique")

    def __init__(self, answers: "Answers", opcode: int, unique: int, pack: Pack | None = None) -> None:
        self.opcode = opcode
        self.unique = unique
        self.over = False
        self.later = False
        self._answers = answers
        self._send = answers.device.send
        self._pack = pack
        """None: what came of it is the body."""

    def __call__(self, result: Any) -> None:
        """Send it. Most are of writes and reads, and sent in the step in which these came: they are asked for first."""
        if self.over:
            return
        self.over = True
        unique = self.unique
        if result.__class__ is memoryview:
            self._send(OUT_HEADER.pack(OUT_HEADER.size + len(result), 0, unique), result)
        elif result.__class__ is int and self.opcode == WRITE:
            self._send(WRITTEN.pack(WRITTEN.size, 0, unique, result, 0))
        elif isinstance(result, Exception):
            self._answers.refuse(self.opcode, unique, result)
        else:
            self._answers.send(unique, result if self._pack is None else self._pack(result))
        if self.later:
            self._answers.ended(unique)


class Answers:
    """These are the answers to the requests of one mount."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.under_way: dict[int, Answer] = {}
        """Those that are not over when the step ended in which they came, by their unique."""
        self._none_left = trio.Event()

    def send(self, unique: int, body: Body) -> None:
        """Send an answer with this body."""
        self.device.send(OUT_HEADER.pack(OUT_HEADER.size + len(body), 0, unique), body)

    def refuse(self, opcode: int, unique: int, error: Exception) -> None:
        """Send the errno of what went wrong."""
        what = Op(opcode).name.lower() if opcode in Op._value2member_map_ else f"opcode {opcode}"
        if isinstance(error, Malformed):
            log.warning("%s: %s", what, error)
            error = OSError(errno.EINVAL, str(error))
        self.device.send(replies.refusal(unique, errno_of(error, what)))

    def expect(self, answer: Answer) -> None:
        """Count an answer that will be given later, in another step."""
        answer.later = True
        self.under_way[answer.unique] = answer

    def ended(self, unique: int) -> None:
        """An answer that was expected was given."""
        self.under_way.pop(unique, None)
        if not self.under_way:
            self._none_left.set()

    def interrupt(self, unique: int) -> None:
        """Answer EINTR to whoever waits for that one and is told to go, where it need not be waited for."""
        answer = self.under_way.get(unique)
        if answer is not None and answer.opcode in INTERRUPTED:
            answer(OSError(errno.EINTR, "interrupted"))

    async def all_sent(self) -> None:
        """Return when none is under way."""
        while self.under_way:
            self._none_left = trio.Event()
            await self._none_left.wait()
