"""The channel door: the mount's requests, read from /dev/fuse itself by one task (README, "Doors").

One task drains the descriptor until nothing is left, and answers what needs no waiting in place, without a task or a
lock. A request that has to wait gets a task. After so many requests in a row the others have their turn.
"""

import contextlib
import errno
import logging
import mmap
import os
from pathlib import Path

import trio

from fmrd.engine.registry import Registry, Served
from fmrd.front.channel import protocol
from fmrd.front.channel.data import Files, Work
from fmrd.front.channel.device import Device, open_and_mount
from fmrd.front.channel.handles import Handles
from fmrd.front.channel.names import Names
from fmrd.front.channel.protocol import IN_HEADER, WRITE_FIXED_BYTES, Malformed, Op
from fmrd.front.mounts import clear_stale_mount, unmount
from fmrd.front.news import News
from fmrd.front.tree import ROOT, Tree, errno_of

log = logging.getLogger(__name__)

IN_A_ROW = 64
"""Requests answered before other tasks have their turn."""
INTERRUPTED = frozenset({Op.READ, Op.FSYNC})
"""Whoever waits for one of these and is told to go need not wait for its end. A write is waited for: what the program
does next may rely on that it is over.
"""
NO_ANSWER = frozenset({Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT})


class ChannelDoor:
    """Mounts, serves until ``stop``, unmounts."""

    def __init__(self, registry: Registry, mount: Path) -> None:
        self._registry = registry
        self._mount = mount
        self._tree = Tree(registry)
        self._names = Names(self._tree)
        self._handles = Handles()
        self._files = Files(self._tree, self._handles)
        self._device: Device | None = None
        self._mounted = False
        self._under_way: dict[int, int] = {}
        """The opcodes of requests that have a task, by their unique."""
        self._idle = trio.Event()
        self._news = News(registry, self._tell_kernel)
        self.caught_up = self._news.caught_up
        self._stopping = trio.CancelScope()
        self._ended = trio.Event()
        registry.watch(self._hear)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Started when mounted, or Failed('mount_failed'); returns after ``stop``, or when somebody else unmounts."""
        await clear_stale_mount(self._mount)
        self._device = device = Device(open_and_mount(self._mount))
        self._mounted = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._news.run)
                task_status.started()
                with self._stopping:
                    await self._serve(device, nursery)
                await self._answered()
                nursery.cancel_scope.cancel()
        finally:
            if self._mounted:
                unmount(self._mount)
            device.close()
            self._handles.close()
            self._ended.set()

    async def stop(self) -> None:
        """Return when ``run`` has answered what is under way, and unmounted."""
        await self.caught_up()
        self._stopping.cancel()
        await self._ended.wait()

    async def _answered(self) -> None:
        while self._under_way:
            self._idle = trio.Event()
            await self._idle.wait()

    # Requests

    async def _serve(self, device: Device, nursery: trio.Nursery) -> None:
        """Until the mount is gone."""
        head, data = device.head, device.data
        while True:
            try:
                await trio.lowlevel.wait_readable(device.descriptor)
                for _ in range(IN_A_ROW):
                    count = device.receive()
                    if not count:
                        break
                    self._answer(device, nursery, head, data, count)
                else:
                    await trio.lowlevel.checkpoint()
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
                self._mounted = False
                return

    def _answer(self, device: Device, nursery: trio.Nursery, head: bytearray, data: memoryview, count: int) -> None:
        """One request: its answer is sent, or a task will send it."""
        length, opcode, unique, inode, *_ = IN_HEADER.unpack_from(head)
        fixed = memoryview(head)[IN_HEADER.size : min(count, WRITE_FIXED_BYTES)]
        rest = data[: max(0, count - WRITE_FIXED_BYTES)]
        try:
            if length != count:
                raise Malformed(f"a request of {length} bytes came with {count}")
            work = self._files.answers.get(opcode)
            if work is not None:
                answer = work(unique, inode, fixed, rest)
                if callable(answer):
                    self._under_way[unique] = opcode
                    nursery.start_soon(self._answer_later, device, opcode, unique, answer)
                    return
            elif opcode in NO_ANSWER:
                if opcode == Op.INTERRUPT:
                    self._interrupt(device, protocol.fixed_of(Op.INTERRUPT, fixed)[0])
                return
            elif opcode == Op.INIT:
                answer = self._init(bytes(fixed) + bytes(rest))
            elif opcode == Op.DESTROY:
                answer = b""
            else:
                answer = self._names.answer(opcode, inode, bytes(fixed) + bytes(rest))
        except Exception as error:
            self._refuse(device, opcode, unique, error)
            return
        device.send(protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size + len(answer), 0, unique), answer)

    async def _answer_later(self, device: Device, opcode: int, unique: int, work: Work) -> None:
        try:
            answer = await work()
        except Exception as error:
            self._later(device, opcode, unique, error)
        else:
            self._later(device, opcode, unique, answer)

    def _later(self, device: Device, opcode: int, unique: int, result: bytes | memoryview | Exception) -> None:
        """Unless it was interrupted meanwhile."""
        if self._under_way.pop(unique, None) is not None:
            if isinstance(result, Exception):
                self._refuse(device, opcode, unique, result)
            else:
                device.send(protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size + len(result), 0, unique), result)
        if not self._under_way:
            self._idle.set()

    def _refuse(self, device: Device, opcode: int, unique: int, error: Exception) -> None:
        what = Op(opcode).name.lower() if opcode in Op._value2member_map_ else f"opcode {opcode}"
        if isinstance(error, Malformed):
            log.warning("%s: %s", what, error)
            error = OSError(errno.EINVAL, str(error))
        device.send(protocol.refusal(unique, errno_of(error, what)))

    def _interrupt(self, device: Device, unique: int) -> None:
        opcode = self._under_way.get(unique)
        if opcode in INTERRUPTED:
            self._later(device, opcode, unique, OSError(errno.EINTR, "interrupted"))

    def _init(self, body: bytes) -> bytes:
        offer = protocol.offer_of(body)
        session = protocol.negotiate(offer)
        if session is None:
            raise OSError(errno.EPROTO, f"FUSE {offer.major}.{offer.minor} is too old")
        self._handles.session = session
        return protocol.pack_init(session, offer, mmap.PAGESIZE)

    # What the kernel must be told

    def _hear(self, served: Served) -> None:
        if not served.closed:
            self._files.appeared(served)

    def _tell_kernel(self, served: Served) -> None:
        """On a thread. What the kernel cached of a volume may be other data since a restore. The stat makes it take
        over the length now: loop devices of old kernels read it there without asking.
        """
        device = self._device
        with contextlib.suppress(OSError):  # the kernel never heard of it
            if device is None:
                return
            if served.closed:
                device.send(protocol.forget_name(ROOT, os.fsencode(served.name)))
            else:
                device.send(protocol.forget_pages(served.number))
                os.stat(self._mount / served.name)
