"""fmrd --keeper holds the mount, and runs the serving fmrd as its only child, again and again if need be.

It speaks systemd's protocols (supervisor.py has the other end): what the child gives it to keep is handed to the next
one. While a descriptor of the mount is open somewhere the kernel keeps the mount alive, and requests wait. Nothing else
is done here, so that nothing can go wrong: the standard library only, one thread, and little memory.

SIGTERM and SIGINT end it: the child is told by SIGINT to unmount and stop in order. A SIGTERM to the child alone is a
restart, a SIGHUP nothing. A child that cannot even start the first time takes the keeper with it; later it is tried
again, with pauses.
"""

import array
import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence

from fmrd.backing.owning.under_way import has_ended
from fmrd.front.daemon.memory import stay_out_of_memory_pressure
from fmrd.front.daemon.stand_in import FIRST_DESCRIPTOR, LEFT_LOOKS, LOOK_SECONDS, say

STORE_MOST = 16
MESSAGE_BYTES = 4096
SOUND_SECONDS = 0.5
"""A child that was ready and lived that long is started again at once."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 10.0
_CREDENTIALS = struct.Struct("3i")
_ENDS = (signal.SIGTERM, signal.SIGINT)


class MountHolder:
    """A mount holder runs ``command`` as its child; it keeps descriptors by name in ``store``. It has one thread."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self.store: dict[str, int] = {}
        self.child = 0
        self.ready = False
        self._ever_ready = False
        self._told = False
        self._began = 0.0
        self._pause = 0.0
        self._ended_looks = 0
        self._left: list[int] = []
        """Children whose last calls hang; they end some day."""
        self._upstream = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"@fmrd-keeper-{os.getpid()}-{os.urandom(8).hex()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("\0" + self._address[1:])
        self._signals, self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        """Run the child until told to end, and return an exit status."""
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number in (*_ENDS, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with self._socket:
            while True:
                self._start()
                status = self._watch()
                if status is not None:
                    return status

    def _start(self) -> None:
        """A pause may come first; being told to end ends it."""
        self.ready = False
        self._began = time.monotonic() + self._pause
        while (left := self._began - time.monotonic()) > 0 and not self._told:
            self._wait(left)
        if not self._told:
            try:
                self.child = os.fork()
            except OSError as error:
                say(f"no child can be started: {error.strerror}")
                return
            if self.child == 0:
                self._become_child()

    def _become_child(self) -> None:
        try:
            os.setpgid(0, 0)  # a terminal's Ctrl-C is for the keeper, which passes it on: twice means at once
            signal.set_wakeup_fd(-1)
            for number in (*_ENDS, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            beyond = FIRST_DESCRIPTOR + len(self.store)
            copies = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, beyond) for each in self.store.values()]
            for index, each in enumerate(copies):
                os.dup2(each, FIRST_DESCRIPTOR + index)
            told = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(copies)), "FDSTORE": str(STORE_MOST)}
            told |= {"NOTIFY_SOCKET": self._address, "LISTEN_FDNAMES": ":".join(self.store)}
            os.execve(self.command[0], self.command, os.environ | told)
        except BaseException as error:  # whatever it is, this process must not go on as a second keeper
            say(f"{self.command[0]} cannot be run: {error}")
        finally:
            os._exit(127)

    def _watch(self) -> int | None:
        """Until the child has ended. None: it is to be started again."""
        while self.child:
            self._wait(LOOK_SECONDS)
            if (status := self._reaped()) is not None:
                return self._after(status)
        if self._told:
            return 0
        self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        return None

    def _after(self, status: int) -> int | None:
        """Negative: the number of the signal that killed it."""
        if self._told or (not self.store and (status == 0 or not self._ever_ready)):
            return status if status >= 0 else 128 - status
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        if self.ready and time.monotonic() - self._began >= SOUND_SECONDS:
            self._pause = 0.0
        else:
            self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        say(f"fmrd {how}; it is started again" + (f" in {self._pause:g} s" if self._pause else ""))
        return None

    def _wait(self, seconds: float | None) -> None:
        """For signals and messages, and heed them."""
        select.select([self._socket.fileno(), self._signals], [], [], seconds)
        self._hear()
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._signals, MESSAGE_BYTES):
                if number in _ENDS:
                    self._told = True
                    if self.child:
                        os.kill(self.child, signal.SIGINT)

    def _reaped(self) -> int | None:
        """None while the child lives. What it said last is heard before it is forgotten whose words these were."""
        self._left = [each for each in self._left if os.waitpid(each, os.WNOHANG)[0] == 0]
        pid, status = os.waitpid(self.child, os.WNOHANG)
        if pid == 0 and not self._is_left_behind():
            return None
        self._hear()
        if pid == 0:
            say(f"process {self.child} has ended but for calls that hang on a disk: it is left behind")
            self._left.append(self.child)
            self.child = 0
            return 0 if self._told else -signal.SIGKILL
        self.child = 0
        return os.waitstatus_to_exitcode(status)

    def _is_left_behind(self) -> bool:
        """For a while: one that is only ending is soon reaped."""
        self._ended_looks = self._ended_looks + 1 if has_ended(self.child) else 0
        return self._ended_looks > LEFT_LOOKS

    def _hear(self) -> None:
        """All messages that are there, of the child alone."""
        room = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(STORE_MOST * 4)
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            sender, descriptors = 0, array.array("i")
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    sender = _CREDENTIALS.unpack_from(content)[0]
                elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    descriptors.frombytes(content[: len(content) // 4 * 4])
            if sender == self.child and sender:
                self._heed(data.decode(errors="replace"), list(descriptors))
            else:
                for each in descriptors:
                    os.close(each)

    def _heed(self, message: str, descriptors: list[int]) -> None:
        words = dict(line.split("=", 1) for line in message.splitlines() if "=" in line)
        name = words.get("FDNAME", "")
        if "FDSTORE" in words and len(descriptors) == 1 and name and ":" not in name and len(self.store) < STORE_MOST:
            self._forget(name)
            self.store[name] = descriptors.pop()
        elif "FDSTOREREMOVE" in words:
            self._forget(name)
        for each in descriptors:
            os.close(each)
        if words.get("READY") == "1":
            self.ready = self._ever_ready = True
            self._tell("READY=1")
        elif words.get("STOPPING") == "1" and self._told:
            self._tell("STOPPING=1")

    def _forget(self, name: str) -> None:
        descriptor = self.store.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def _tell(self, message: str) -> None:
        """Whoever started the keeper itself."""
        if self._upstream:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                address = self._upstream
                sender.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)


if __name__ == "__main__":
    stay_out_of_memory_pressure()
    sys.exit(MountHolder(sys.argv[1:]).run())
