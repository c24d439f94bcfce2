"""A connection to an export is made here, on a worker thread, and no longer than OPEN_SECONDS: the socket, the
negotiation, TLS; then what the server offers is looked at, and whether it takes one client at a time.
"""

import contextlib
import errno
import select
import socket
import ssl
import time
from dataclasses import dataclass

from fmrd.backing.nbd.speaking import abi
from fmrd.backing.nbd.speaking.channel import Channel, TlsChannel
from fmrd.backing.nbd.speaking.dialing import dial, tls_context
from fmrd.backing.nbd.speaking.negotiation import Export, Malformed, StartTls, negotiate
from fmrd.backing.nbd.speaking.ssh import SshChannel
from fmrd.core.far.uris import NbdUri, Uri
from fmrd.errors import Failed, FmrdError, Refused, is_exhaustion

OPEN_SECONDS = 10.0
BUSY_SECONDS = 3.0
"""A server that takes one client at a time is asked so long: it may not have noticed yet that the one before left."""
PAUSE_SECONDS = 0.05
HELD_SECONDS = 1.0
"""A second client that has heard nothing for so long, and ten round trips, is held."""


@dataclass(frozen=True)
class Opened:
    """A connection on which an export was agreed on. ``seconds``: what that took."""

    channel: Channel
    export: Export
    seconds: float


class Ended(ConnectionError):
    """The server ended a connection before it said anything."""


class Silent(ConnectionError):
    """A server that was reached did not answer."""


def connect(uri: NbdUri, patience_seconds: float, open_seconds: float | None = None) -> Opened:
    """Connect, and agree on the export. FmrdError says why not: ``plex_missing`` where nobody is there, ``plex_busy``
    where the server has its one client, ``tls_refused``, ``server_refused``, ``plex_malformed``. It blocks.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return _connect(uri, patience_seconds, open_seconds or OPEN_SECONDS)
        except (Ended, Silent) as error:
            why = error.strerror or str(error)
            if not uri.fence or (uri.path and isinstance(error, Silent)):
                raise Failed("plex_missing", f"{uri}: {uri.server}: {why}", "is it an NBD server?") from error
            if time.monotonic() >= until or isinstance(error, Silent):
                has = "the file is locked there" if uri.path else "it takes one client at a time, and has one"
                raise Failed(
                    "plex_busy", f"{uri}: {uri.server} lets nobody in ({why}): {has}",
                    "it may be the last session of fmrd, of which the server has not let go yet",
                ) from error  # fmt: skip
            time.sleep(PAUSE_SECONDS)
        except Malformed as error:
            raise Failed("server_malformed", f"{uri}: {error.strerror}", "is it an NBD server?") from error
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", "") or error.reason or str(error)
            raise Failed("tls_refused", f"{uri}: no TLS with {uri.server}: {why}", "see tls-certificates=") from error
        except OSError as error:
            why = error.strerror or str(error)
            raise Failed("plex_missing", f"{uri}: {uri.server} cannot be reached: {why}", _hint(error)) from error
        except FmrdError as error:
            raise type(error)(error.code, f"{uri}: {error.message}", error.hint) from None


def _hint(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno in (errno.EAFNOSUPPORT, errno.EPERM):
        return (
            "its name, and, under systemd, whether fmrd's unit may use the network (README, Plexes on other machines)"
        )
    return "is it running?"


def must_serve(uri: Uri, export: Export, *, least: int) -> None:
    """Refused or Failed where what lies there cannot be trusted with a plex, or with a copy of the DCO (which writes
    whole blocks of ``least`` bytes).
    """
    if export.offers(abi.READ_ONLY):
        raise Failed("read_only", f"{uri} is read-only", "export it without -r, readonly, or whatever says so there")
    if not export.offers(abi.SEND_FLUSH):
        raise Refused(
            "not_durable", f"{uri}: {uri.server} offers no FLUSH, so nothing there is ever known to be on a disk",
            "nbd-server: flush = true and fua = true in the export's section; nbdkit: another plugin",
        )  # fmt: skip
    if export.least > least:
        raise Refused(
            "min_block",
            f"{uri}: {uri.server} takes no requests of less than {export.least} bytes, and {least} are needed",
            "nbdkit: --filter=blocksize; qemu-nbd: without --cache=none",
        )


def must_be_single(uri: NbdUri, opening_seconds: float) -> None:
    """While one is connected, which took so long, a second client must be kept out, or wait. Refused('not_fenced')."""
    patience = HELD_SECONDS + 10 * opening_seconds
    try:
        second = _connect(uri, patience, patience)
    except (FmrdError, OSError) as error:
        if is_exhaustion(error):
            raise
        return
    close(second.channel)
    raise Refused(
        "not_fenced",
        f"{uri} says x-fence=single, and {uri.server} lets a second client in",
        "nbdkit: --filter=limit; nbd-server: maxconnections = 1; or name it without x-fence",
    )


def close(channel: Channel) -> None:
    """Part in order; what was sent before is sent yet."""
    channel.reset_on_close(reset=False)
    with contextlib.suppress(OSError):
        channel.push(abi.REQUEST.pack(abi.REQUEST_MAGIC, 0, abi.DISCONNECT, 0, 0, 0))
        channel.flush()
    channel.close()


def _connect(uri: NbdUri, patience_seconds: float, open_seconds: float) -> Opened:
    began = time.monotonic()
    deadline = began + open_seconds
    context = tls_context(uri) if uri.tls else None  # before anybody is asked
    channel: Channel = SshChannel(uri, patience_seconds) if uri.path else dial(uri, open_seconds, patience_seconds)
    try:
        channel.socket.setblocking(False)
        channel.reset_on_close(reset=True)
        channel, export = _negotiate(uri, channel, context, deadline)
    except BaseException as error:
        try:
            if isinstance(error, Ended) and isinstance(channel, SshChannel):
                channel.explain(error)
        finally:
            channel.drop()
            channel.close()
        raise
    return Opened(channel, export, time.monotonic() - began)


def _negotiate(
    uri: NbdUri, channel: Channel, context: ssl.SSLContext | None, deadline: float
) -> tuple[Channel, Export]:  # fmt: skip
    steps = negotiate(uri.export, tls=uri.tls)
    step = next(steps)
    heard = False
    try:
        while True:
            if isinstance(step, bytes):
                _send(channel, step, deadline)
                step = next(steps)
            elif isinstance(step, StartTls):
                assert context is not None
                channel = _shake_hands(uri, channel, context, deadline)
                step = next(steps)
            else:
                found = _receive(channel, step, deadline, heard=heard)
                heard = True
                step = steps.send(found)
    except StopIteration as agreed:
        export: Export = agreed.value
        return channel, export


def _shake_hands(uri: NbdUri, plain: Channel, context: ssl.SSLContext, deadline: float) -> Channel:
    hostname = uri.hostname or uri.host or None
    if hostname is None and not uri.keys:
        raise Failed("tls_refused", "by a socket nobody knows what the certificate must say", "tls-hostname=NAME")
    channel = TlsChannel(plain.socket, context, hostname)
    while not channel.shake_hands():
        _wait(channel, deadline)
    while not channel.flush():
        _wait(channel, deadline)
    return channel


def _send(channel: Channel, data: bytes, deadline: float) -> None:
    channel.push(data)
    while not channel.flush():
        _wait(channel, deadline)


def _receive(channel: Channel, count: int, deadline: float, *, heard: bool) -> bytes:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        try:
            got = channel.receive(view)
        except BlockingIOError:
            _wait(channel, deadline)
            continue
        except ConnectionError as error:
            if heard:
                raise
            raise Ended(*error.args) from error
        if not got:
            if heard or len(view) < count:
                raise ConnectionResetError(errno.ECONNRESET, "the server ended the connection in the negotiation")
            raise Ended("the server ended the connection at once")
        view = view[got:]
    return bytes(data)


def _wait(channel: Channel, deadline: float) -> None:
    left = deadline - time.monotonic()
    poll = select.poll()
    poll.register(channel.socket, select.POLLIN | (select.POLLOUT if channel.waits else 0))
    if left <= 0 or not poll.poll(1 + 1000 * left):
        raise Silent(errno.ETIMEDOUT, "no answer")
