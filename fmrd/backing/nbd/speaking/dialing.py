"""A server is reached: by TCP, which is told to notice that it is gone, or by a socket of this machine. And what TLS
needs.
"""

import os
import socket
import ssl

from fmrd.backing.nbd.speaking.channel import Channel
from fmrd.backing.nbd.speaking.psk import psk_context
from fmrd.core.far.uris import NbdUri
from fmrd.errors import Failed


def dial(uri: NbdUri, seconds: float, patience_seconds: float) -> Channel:
    """Connect within so many seconds. OSError."""
    connection = _socket(uri, seconds)
    if not uri.socket:
        keep_alive(connection, patience_seconds)
    return Channel(connection)


def _socket(uri: NbdUri, seconds: float) -> socket.socket:
    if not uri.socket:
        return socket.create_connection((uri.host, uri.port), seconds)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.connect(uri.socket)
    except BaseException:
        connection.close()
        raise
    return connection


def keep_alive(connection: socket.socket, patience_seconds: float) -> None:
    """A peer that is gone is noticed within half of the time that a call may take."""
    half = max(1.0, patience_seconds / 2)
    pause = max(1, int(half / 3))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, pause)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, pause)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(half * 1000))


def tls_context(uri: NbdUri) -> ssl.SSLContext:
    """Failed('tls_refused') where the certificates, or the key, cannot be read."""
    if uri.keys:
        return psk_context(uri)
    where = uri.certificates
    try:
        authority = os.path.join(where, "ca-cert.pem") if where else None
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if where and os.path.exists(mine := os.path.join(where, "client-cert.pem")):
            context.load_cert_chain(mine, os.path.join(where, "client-key.pem"))
    except OSError as error:  # ssl.SSLError is one, too
        why = error.strerror or str(error)
        raise Failed(
            "tls_refused", f"the certificates in {where or 'the system'} cannot be used: {why}",
            "ca-cert.pem, client-cert.pem and client-key.pem (not encrypted), as nbdkit has them",
        ) from error  # fmt: skip
    return context
