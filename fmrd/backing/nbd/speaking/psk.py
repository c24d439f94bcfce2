"""TLS by a key that both sides have, from a file as nbdkit and GnuTLS's psktool have it: a line USER:KEY each, the key
in hexadecimal digits. Python can from 3.13 on.

A server is believed by that key alone. So no way to agree is offered in which it need not have it: TLS 1.2, with keys
of the session that the pre-shared one authenticates (in 1.3 a server may pass over it and show any certificate).
"""

import os
import ssl
import stat
import sys

from fmrd.core.far.uris import NbdUri
from fmrd.errors import Failed

MOST_BYTES = 1 << 20
LEAST_KEY_BYTES, MOST_KEY_BYTES = 16, 256
CIPHERS = "kDHEPSK:kECDHEPSK:!aNULL:!eNULL:!SHA1"


def psk_context(uri: NbdUri) -> ssl.SSLContext:
    """Failed('tls_refused') where the key cannot be had, or this Python knows no such keys."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    take_key = getattr(context, "set_psk_client_callback", None)
    if take_key is None:
        mine = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise Failed(
            "tls_refused", f"TLS by a pre-shared key needs Python 3.13, and fmrd runs on {mine}",
            "tls-certificates= instead of tls-psk-file=",
        )  # fmt: skip
    key = read_key(uri.keys, uri.user)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    take_key(lambda hint: (uri.user, key))
    return context


def read_key(path: str, user: str) -> bytes:
    """Return the key of that user. Failed('tls_refused')."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise _refused(f"{path} cannot be read: {error.strerror or error}") from error
    if not stat.S_ISREG(mode) or len(text) > MOST_BYTES:
        raise _refused(f"{path} is no file of keys")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _refused(f"others may read the keys in {path}: chmod 600")
    for line in text.splitlines():
        name, colon, digits = line.partition(b":")
        if colon and name == user.encode():
            try:
                key = bytes.fromhex(digits.decode("ascii"))
            except ValueError:
                raise _refused(f"the key of {user} in {path} is not in hexadecimal digits") from None
            if not LEAST_KEY_BYTES <= len(key) <= MOST_KEY_BYTES:
                raise _refused(f"the key of {user} in {path} has {len(key)} bytes, not {LEAST_KEY_BYTES} or more")
            return key
    raise _refused(f"{path} has no key of {user}")


def _refused(why: str) -> Failed:
    return Failed("tls_refused", why, "psktool -u USER -p FILE makes a key; the server has the same one")
