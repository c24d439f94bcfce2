"""A URI names an export of an NBD server, wherever a path is taken; this is the NBD URI standard, as far as fmrd goes.
Or it names a file on another host that is reached by ssh: a server is started for it there. Or an image in a Ceph
cluster (images.py).

::

    nbd://host[:port]/export                    nbd+unix:///export?socket=PATH
    nbds://host[:port]/export                   nbds+unix:///export?socket=PATH
    ...?tls-certificates=DIRECTORY              ca-cert.pem, client-cert.pem, client-key.pem
    ...?tls-hostname=NAME                       what the server's certificate must say
    nbds://USER@host/export?tls-psk-file=PATH   a pre-shared key instead, that of USER in the file
    ...?x-fence=single                          the server takes one client at a time
    ssh://[user@]host[:port]/path               the file /path there; the fence is a lock on it

It is text that somebody typed, or that a record holds: every part is checked, what is not known is refused (a misspelt
fence would be none), and the same export is always written in the same way, since paths are compared. No secret can be
in it: it is shown, logged and recorded.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from fmrd.core.far.images import RBD, ImageUri, read_image
from fmrd.core.far.quoting import DECIMAL, HEX, MOST_EXPORT_BYTES, bad, query, quoted, unquoted

DEFAULT_PORT = 10809
MOST_HOST_CHARACTERS = 253
FENCES = ("single",)
SSH, LOCK = "ssh", "lock"
SCHEMES = {"nbd": (False, False), "nbds": (True, False), "nbd+unix": (False, True), "nbds+unix": (True, True)}
"""Scheme -> (TLS, by a socket of this machine)."""

_HOST = DECIMAL | frozenset("abcdefghijklmnopqrstuvwxyz-._")
_USER = _HOST | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_KEYS = ("socket", "tls-certificates", "tls-hostname", "tls-psk-file", "x-fence")


@dataclass(frozen=True)
class NbdUri:
    """An export, and how it is reached. ``str`` gives the canonical text."""

    export: str
    host: str = ""
    port: int = DEFAULT_PORT
    socket: str = ""
    """The path of a socket of this machine, instead of host and port."""
    tls: bool = False
    certificates: str = ""
    """A directory; "": the machine's own authorities, and no certificate of ours."""
    hostname: str = ""
    """What the certificate must say, where that is not ``host``."""
    fence: str = ""
    user: str = ""
    """By ssh, who is asked there; "": as its configuration says. With a pre-shared key, whose that is."""
    path: str = ""
    """By ssh, the file there; ``port`` 0: as its configuration says."""
    keys: str = ""
    """The path of a file of pre-shared keys, instead of certificates."""

    @property
    def transport(self) -> str:
        """Return what is spoken with it."""
        return "ssh" if self.path else "NBD"

    @property
    def disk(self) -> str:
        """Return what copies take turns on."""
        return f"nbd:{self.server}"

    @property
    def server(self) -> str:
        """Return the server in words: host and port, or the socket."""
        if self.socket:
            return self.socket
        if self.path:
            return self._authority(0)
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def identity(self) -> str:
        """Return the same text for all ways to name this export: which TLS and which fence is not part of it."""
        if self.path:
            return f"ssh:{self.host}:{self.port}{quoted(self.path)}"
        return f"nbd:{self.server}/{quoted(self.export)}"

    def with_paths(self, absolute: Callable[[str], str]) -> "NbdUri":
        """Return the same with each path in it made absolute."""
        return replace(
            self,
            socket=self.socket and absolute(self.socket),
            certificates=self.certificates and absolute(self.certificates),
            keys=self.keys and absolute(self.keys),
        )

    def _authority(self, default_port: int) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return user + host + (f":{self.port}" if self.port != default_port else "")

    def __str__(self) -> str:
        if self.path:
            return f"{SSH}://{self._authority(0)}{quoted(self.path)}"
        scheme = ("nbds" if self.tls else "nbd") + ("+unix" if self.socket else "")
        authority = self._authority(DEFAULT_PORT)
        values = (self.socket, self.certificates, self.hostname, self.keys, self.fence)
        asked = "&".join(f"{key}={quoted(value)}" for key, value in zip(_KEYS, values, strict=True) if value)
        return f"{scheme}://{authority}/{quoted(self.export)}" + (f"?{asked}" if asked else "")


Uri = NbdUri | ImageUri


def is_uri(text: str) -> bool:
    """Tell whether it is meant as a URI, and not as a path: SCHEME:// begins no path that anybody types, and a file
    named rbd:... is ./rbd:...
    """
    if text.startswith(RBD):
        return True
    scheme, mark, _ = text.partition("://")
    return bool(mark) and "/" not in scheme and bool(scheme)


def is_fenced(path: str) -> bool:
    """Tell whether the name of a plex says what proves that a session with it is over: then it comes back by itself."""
    if not is_uri(path):
        return False
    return bool(read_uri(path).fence)


def read_uri(text: str) -> Uri:
    """Return what it names; BadRequest('bad_uri') says what is wrong with it."""
    if text.startswith(RBD):
        return read_image(text)
    scheme, _, rest = text.partition("://")
    if scheme.lower() == SSH:
        return _ssh(text, rest)
    if scheme.lower() not in SCHEMES:
        known = ", ".join([f"{each}://" for each in (*SCHEMES, SSH)] + [RBD])
        raise bad(text, f"{scheme}:// is not known; {known} are")
    tls, unix = SCHEMES[scheme.lower()]
    rest, _, words = rest.partition("?")
    if "#" in rest or "#" in words:
        raise bad(text, "it has a fragment (#), which names nothing here")
    authority, slash, path = rest.partition("/")
    if not slash:
        raise bad(text, "the export is missing: nbd://host/EXPORT, or nbd://host/ for the server's default one")
    export = unquoted(text, path)
    if len(export.encode()) > MOST_EXPORT_BYTES:
        raise bad(text, f"the export's name has more than {MOST_EXPORT_BYTES} bytes")
    values = query(text, words, _KEYS)
    if values["x-fence"] not in ("", *FENCES):
        raise bad(text, f"x-fence={values['x-fence']} is not known; {', '.join(FENCES)} is")
    user, at, authority = authority.rpartition("@")
    if bool(at) != bool(values["tls-psk-file"]) or (at and (not user or not set(user) <= _USER)):
        raise bad(text, "a user stands before the @ where a pre-shared key is taken, and only there: "
                  "nbds://USER@host/EXPORT?tls-psk-file=PATH")  # fmt: skip
    if values["tls-psk-file"] and (values["tls-certificates"] or values["tls-hostname"]):
        raise bad(text, "it has a pre-shared key and certificates, and one of both is taken")
    if not tls and (values["tls-certificates"] or values["tls-hostname"] or values["tls-psk-file"]):
        raise bad(text, f"it speaks of TLS, and {scheme}:// has none: nbds:// does")
    if unix != bool(values["socket"]):
        raise bad(text, "nbd+unix:///EXPORT?socket=PATH and only that has a socket")
    if unix and authority:
        raise bad(text, f"nbd+unix:// has no host, and here is {authority}: nbd+unix:///EXPORT?socket=PATH")
    host, port = ("", DEFAULT_PORT) if unix else _authority(text, authority, DEFAULT_PORT)
    return NbdUri(
        export, host, port, values["socket"], tls, values["tls-certificates"], values["tls-hostname"],
        values["x-fence"], user, keys=values["tls-psk-file"],
    )  # fmt: skip


def _ssh(text: str, rest: str) -> NbdUri:
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if at and (not user or not set(user) <= _USER or user.startswith("-")):
        raise bad(text, "before the @ stands the name of a user and nothing else: ssh finds its keys by itself")
    host, port = _authority(text, host, 0)
    path = unquoted(text, "/" + path)
    if not slash or path.endswith("/") or not path.isprintable() or any(each in rest for each in "?#"):
        raise bad(text, "behind the host stands the path of a file: ssh://[user@]host/path")
    if len(path.encode()) > MOST_EXPORT_BYTES:
        raise bad(text, f"the path has more than {MOST_EXPORT_BYTES} bytes")
    return NbdUri("", host, port, fence=LOCK, user=user, path=path)


def canonical(text: str) -> str:
    """Return it as it is written in records; BadRequest('bad_uri')."""
    return str(read_uri(text))


def _authority(text: str, authority: str, default_port: int) -> tuple[str, int]:
    if "@" in authority:
        raise bad(text, "there is more than one @ in it")
    if authority.startswith("["):
        host, bracket, behind = authority[1:].partition("]")
        if not bracket or not host or not set(host) <= HEX | {":", "."}:
            raise bad(text, "an IPv6 address stands in brackets: nbd://[fd00::1]/export")
        if behind and not behind.startswith(":"):
            raise bad(text, "behind an IPv6 address comes a colon and a port, or nothing")
        port = behind[1:]
    else:
        host, _, port = authority.partition(":")
    host = host.lower()
    if (
        not host
        or host.startswith("-")
        or len(host) > MOST_HOST_CHARACTERS
        or (":" not in host and not set(host) <= _HOST)
    ):
        raise bad(text, f"{host!r} is no name of a host")
    if not port:
        return host, default_port
    if not set(port) <= DECIMAL or len(port) > 5 or not 0 < int(port) < 65536:
        raise bad(text, f"{port!r} is no port")
    return host, int(port)
