"""The channel door reads the mount's requests from /dev/fuse itself, by one task (README, "Doors").

That task reads the descriptor until nothing is left. What needs no waiting is answered in place, without a task or a
lock; what has to wait is answered by a callback. After so many requests in a row the others have their turn.
"""

import contextlib
import errno
import logging
import mmap
import os
from pathlib import Path
from time import perf_counter

import trio

from fmrd.backing.calls.idle_time import IdleTime
from fmrd.engine.registry import Registry
from fmrd.engine.served import Served
from fmrd.front.daemon.supervisor import Supervisor
from fmrd.front.doors.channel import protocol, replies, takeover
from fmrd.front.doors.channel.answers import READ, WRITE, Answer, Answers
from fmrd.front.doors.channel.data import Begun, Files
from fmrd.front.doors.channel.device import Device
from fmrd.front.doors.channel.handles import Handles
from fmrd.front.doors.channel.names import Names
from fmrd.front.doors.channel.protocol import IN_HEADER, READ_OR_WRITE, WRITE_FIXED_BYTES, Malformed, Op
from fmrd.front.doors.early_requests import Early, NotYet
from fmrd.front.doors.kernel_notify import News
from fmrd.front.doors.mounts import mounted_on, unmount
from fmrd.front.doors.tree import ROOT, Tree

log = logging.getLogger(__name__)

IN_A_ROW = 128
"""So many requests are answered before other tasks have their turn: fewer than one in a hundred wait for these."""
LOOK_SECONDS = 0.0001
"""So long a request is looked for in vain before the task goes to sleep, where one followed the last one so soon."""
WAIT_SECONDS = 0.0002
"""So long the end of what a disk was asked for, or a request, is waited for in place."""
NO_ANSWER = frozenset({Op.FORGET, Op.BATCH_FORGET})


class ChannelDoor:
    """A door mounts, serves until ``stop``, and unmounts; or it takes over what was kept, and leaves it to the next."""

    def __init__(self, registry: Registry, mount: Path, supervisor: Supervisor, idle: IdleTime) -> None:
        self._registry = registry
        self._idle = idle
        self._mount = mount
        self._supervisor = supervisor
        self._tree = Tree(registry)
        self._names = Names(self._tree)
        self._mounted = self._kept = self._leaving = False
        self._early = Early()
        self._patience = self._gave_up = 0.0
        """Seconds to look for the next request; when it was last given up."""
        self._news = News(registry, self._tell_kernel)
        self.caught_up = self._news.caught_up
        self._stopping = trio.CancelScope()
        self._ended = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Mount and serve; report started when mounted, or raise Failed('mount_failed'). Return after ``stop``, or when
        somebody else unmounts.
        """
        device, handles = await takeover.take_or_mount(self._supervisor, self._mount)
        self._begin(device, handles)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._news.run)
                nursery.start_soon(self._await_arrivals)
                task_status.started()
                with self._stopping:
                    await self._serve(device)
                await self._answers.all_sent()
                nursery.cancel_scope.cancel()
        finally:
            if not self._leaving and (self._mounted or self._is_dead_there()):
                unmount(self._mount)
            if not self._leaving:
                takeover.forget(self._supervisor)
            device.close()
            self._handles.close()
            self._ended.set()

    def _begin(self, device: Device, handles: Handles) -> None:
        self._device = device
        self._answers = Answers(device)
        self._answer_object = Answer(self._answers, 0, 0)
        """For the next request."""
        self._handles = handles
        self._files = Files(self._tree, handles)
        for served in self._registry.served():
            self._files.appeared(served)
        self._mounted = True
        self._registry.watch(self._hear)
        self._kept = handles.session is not None

    def leave(self) -> bool:
        """Tell whether somebody keeps the mount, with files open: then ``stop`` leaves it to the next fmrd."""
        self._leaving = self._kept and self._mounted and len(self._handles) > 0
        return self._leaving

    async def stop(self) -> None:
        """Return when ``run`` has answered what is under way, and unmounted, or left the mount."""
        await self.caught_up()
        self._stopping.cancel()
        await self._ended.wait()

    # Requests

    async def _serve(self, device: Device) -> None:
        """Until the mount is gone."""
        try:
            while True:
                await trio.lowlevel.wait_readable(device.descriptor)
                self._woken()
                while self.answer_all(device):
                    await trio.lowlevel.checkpoint()
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.ECONNABORTED):
                raise
            self._mounted = False

    def _is_dead_there(self) -> bool:
        """The kernel ended the connection (somebody wrote to its ``abort``), and the mount itself was left behind."""
        return bool(self._handles.mounted_on) and mounted_on(self._mount) == self._handles.mounted_on

    def _woken(self) -> None:
        """Would it have paid to look on? Then it is done."""
        self._patience = LOOK_SECONDS if perf_counter() - self._gave_up < LOOK_SECONDS else 0.0

    def answer_all(self, device: Device) -> bool:
        """Answer what is there, in one step; return whether there may be more, and others have their turn first."""
        self._idle.begin_step()
        try:
            return self._answer_some(device)
        finally:
            self._idle.end_step()

    def _answer_some(self, device: Device) -> bool:
        """To be woken costs more than to answer, so where one request soon follows another the next is looked for."""
        answered = 0
        until = 0.0
        while answered < IN_A_ROW:
            count = device.receive()
            if count:
                self._answer(device, count)
                answered += 1
                until = 0.0
            elif not self._idle.use() and not self._idle.waits_with(device.descriptor, WAIT_SECONDS):
                self._gave_up = perf_counter()
                until = until or self._gave_up + self._patience
                if self._answers.under_way or self._gave_up >= until:
                    return False
        return True

    def _answer(self, device: Device, count: int) -> None:
        """One request: its answer is sent, or will be."""
        length, opcode, unique, inode, handle, offset, size = READ_OR_WRITE.unpack_from(device.head)
        answer = self._answer_object  # the same one as long as each is over in its step
        answer.opcode, answer.unique, answer.over = opcode, unique, False
        try:
            if length != count:
                raise Malformed(f"a request of {length} bytes came with {count}")
            if opcode == WRITE and count == WRITE_FIXED_BYTES + size:
                if self._files.write(handle, offset, device.received(size), answer):
                    device.swap()
            elif opcode == READ and count == WRITE_FIXED_BYTES:
                self._files.read(handle, offset, size, answer)
            else:
                self._other(device, answer, inode, count)
                return
        except NotYet:
            self._early.put(unique, device.request(count))
            return
        except Exception as error:
            self._answers.refuse(opcode, unique, error)
            return
        if not answer.over:
            self._answers.expect(answer)
            self._answer_object = Answer(self._answers, 0, 0)

    def _other(self, device: Device, answer: Answer, inode: int, count: int) -> None:
        """A request that is neither read nor write."""
        opcode, unique = answer.opcode, answer.unique
        body = bytes(device.head[IN_HEADER.size : min(count, WRITE_FIXED_BYTES)])
        body += device.data[: max(0, count - WRITE_FIXED_BYTES)]
        work = self._files.answers.get(opcode)
        if work is not None:
            result = work(unique, inode, body)
            if isinstance(result, Begun):
                later = Answer(self._answers, opcode, unique, result.pack)
                result.begin(later)
                if not later.over:
                    self._answers.expect(later)
            else:
                answer(result)
        elif opcode == Op.INTERRUPT:
            self._interrupt(protocol.fixed_of(Op.INTERRUPT, body)[0])
        elif opcode == Op.INIT:
            answer(self._init(device, body))
        elif opcode not in NO_ANSWER:
            answer(self._names.answer(opcode, inode, body))

    def _interrupt(self, unique: int) -> None:
        if self._early.take(unique) is None:
            self._answers.interrupt(unique)
        else:  # nothing of it was done
            self._answers.refuse(Op.INTERRUPT, unique, OSError(errno.EINTR, "interrupted"))

    def _init(self, device: Device, body: bytes) -> bytes:
        offer = protocol.offer_of(body)
        session = protocol.negotiate(offer)
        if session is None:
            raise OSError(errno.EPROTO, f"FUSE {offer.major}.{offer.minor} is too old")
        self._handles.session = session
        self._kept = takeover.keep(self._supervisor, device, self._handles)
        return protocol.pack_init(session, offer, mmap.PAGESIZE)

    # Volumes that come

    async def _await_arrivals(self) -> None:
        """Ask again whatever came too early, each time another volume is there, or is known to stay away."""
        arriving = self._registry.arriving
        while True:
            arrived = arriving.arrived
            for request in self._early.take_all():
                self._answer(self._device, self._device.put_back(request))
            if not arriving.may_come():
                return
            await arrived.wait()

    # What the kernel must be told

    def _hear(self, served: Served) -> None:
        if not served.withdrawn:
            self._files.appeared(served)

    def _tell_kernel(self, served: Served) -> None:
        """On a thread. What the kernel cached of a volume may be other data since a restore. The stat makes it take
        over the length now: loop devices of old kernels read it there without asking.
        """
        with contextlib.suppress(OSError):  # the kernel never heard of it
            if served.withdrawn:
                self._device.send(replies.forget_name(ROOT, os.fsencode(served.name)))
            else:
                self._device.send(replies.forget_pages(served.number))
                os.stat(self._mount / served.name)
