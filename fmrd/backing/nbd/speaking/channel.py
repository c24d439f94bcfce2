"""The bytes of one connection, as they are or by TLS. Nothing here blocks: the socket does not, and what it does not
take yet waits here. Where nothing more comes or goes for now it is BlockingIOError, as the socket says it.
"""

import contextlib
import socket
import ssl
import struct
from collections import deque
from typing import cast

MOST_PARTS = 64
"""In one system call."""
RECORD_BYTES = 256 << 10
_RESET = struct.pack("ii", 1, 0)
_NO_RESET = struct.pack("ii", 0, 0)

Bytes = bytes | bytearray | memoryview


class Channel:
    """A connection without TLS. ``taken`` and ``sent`` count the bytes that were given to it, and those of them that
    it refers to no more.
    """

    drains = True
    """Less than there is room for says that there is no more now."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.taken = 0
        self.sent = 0
        self._waiting: deque[memoryview] = deque()

    @property
    def waits(self) -> bool:
        """Tell whether something waits to be sent."""
        return bool(self._waiting)

    def push(self, *parts: Bytes) -> None:
        """Have these sent, in this order; they stay as they are until they are."""
        for part in parts:
            view = memoryview(part).cast("B")
            self.taken += len(view)
            self._waiting.append(view)

    def flush(self) -> bool:
        """Send what the socket takes; return whether nothing is left. OSError where the connection is lost."""
        waiting = self._waiting
        while waiting:
            parts = [waiting[at] for at in range(min(len(waiting), MOST_PARTS))]
            try:
                count = self.socket.sendmsg(parts)
            except BlockingIOError:
                return False
            self._went(count)
            while count:
                part = waiting.popleft()
                if len(part) > count:
                    waiting.appendleft(part[count:])
                    break
                count -= len(part)
        return True

    def _went(self, count: int) -> None:
        self.sent += count

    def receive(self, room: memoryview) -> int:
        """Receive into it; return how many bytes came, 0 at the end. BlockingIOError where there is none now."""
        return self.socket.recv_into(room)

    def reset_on_close(self, *, reset: bool) -> None:
        """What the kernel still holds when it is closed, by a kill too, is dropped, or it is sent yet."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET if reset else _NO_RESET)

    def drop(self) -> None:
        """Forget what was not sent."""
        self._waiting.clear()

    def close(self) -> None:
        """Give up the socket."""
        self.socket.close()


class TlsChannel(Channel):
    """The same by TLS. What it is given is encrypted at once, so it refers to nothing for long."""

    drains = False

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, hostname: str | None) -> None:
        super().__init__(connection)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)

    def shake_hands(self) -> bool:
        """Go on with the handshake; return whether it is over. ssl.SSLError, OSError where it comes to nothing."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._encrypted()
                if not self.flush():
                    return False
                try:
                    if not self._more():
                        raise ConnectionResetError("the server ended the connection") from None
                except BlockingIOError:
                    return False
            else:
                self._encrypted()
                return True

    def push(self, *parts: Bytes) -> None:
        for part in parts:
            view = memoryview(part).cast("B")
            while view:
                view = view[self._tls.write(view) :]
        self._encrypted()

    def _encrypted(self) -> None:
        if self._outgoing.pending:
            super().push(self._outgoing.read())

    def receive(self, room: memoryview) -> int:
        while True:
            try:
                return cast(int, self._tls.read(len(room), cast(bytearray, room)))  # any buffer will do
            except ssl.SSLWantReadError:
                self._encrypted()  # keys are renewed now and then
                self.flush()
                if not self._more():
                    return 0
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return 0

    def _more(self) -> int:
        data = self.socket.recv(RECORD_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return len(data)
