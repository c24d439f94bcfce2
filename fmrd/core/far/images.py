"""An image in a pool of a Ceph cluster, as RBD's own tools name it.

::

    rbd:pool/image                      rbd:pool/namespace/image
    ...?conf=PATH                       the cluster's configuration, where that is not /etc/ceph/ceph.conf
    ...?id=NAME                         who asks there (client.NAME), where that is not admin

Which monitors there are, and where the key lies, that file says.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from fmrd.core.far.quoting import MOST_EXPORT_BYTES, bad, query, quoted, unquoted

RBD = "rbd:"
_KEYS = ("conf", "id")
_ID = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._")


@dataclass(frozen=True)
class ImageUri:
    """An image, and by which configuration it is reached. ``str`` gives the canonical text."""

    pool: str
    image: str
    namespace: str = ""
    conf: str = ""
    """A path; "": the machine's own."""
    id: str = ""

    transport = "rbd"
    fence = "lock"
    """It is taken with the image's exclusive lock; whose lock is broken is kept out by the cluster."""

    @property
    def server(self) -> str:
        """Return the cluster in words."""
        return f"the cluster of {self.conf}" if self.conf else "the Ceph cluster"

    @property
    def disk(self) -> str:
        """Return what copies take turns on."""
        return f"rbd:{self.conf}"

    @property
    def export(self) -> str:
        """Return the image's name in its cluster."""
        return "/".join(each for each in (self.pool, self.namespace, self.image) if each)

    @property
    def identity(self) -> str:
        """Return the same text for all ways to name this image in this cluster."""
        return f"{RBD}{self.conf}:{quoted(self.export)}"

    def with_paths(self, absolute: Callable[[str], str]) -> "ImageUri":
        """Return the same with the path in it made absolute."""
        return replace(self, conf=self.conf and absolute(self.conf))

    def __str__(self) -> str:
        values = zip(_KEYS, (self.conf, self.id), strict=True)
        asked = "&".join(f"{key}={quoted(value)}" for key, value in values if value)
        return f"{RBD}{quoted(self.export)}" + (f"?{asked}" if asked else "")


def read_image(text: str) -> ImageUri:
    """Return what rbd:... names; BadRequest('bad_uri')."""
    names, _, words = text.removeprefix(RBD).partition("?")
    if any("#" in each for each in (names, words)):
        raise bad(text, "it has a fragment (#), which names nothing here")
    parts = [unquoted(text, part) for part in names.split("/")]
    if len(parts) not in (2, 3) or any(not each.isprintable() or not each or set(each) & set("/@") for each in parts):
        raise bad(text, "it is rbd:POOL/IMAGE, or rbd:POOL/NAMESPACE/IMAGE, and no snapshot (@) of one")
    if len(names.encode()) > MOST_EXPORT_BYTES:
        raise bad(text, f"its names have more than {MOST_EXPORT_BYTES} bytes")
    values = query(text, words, _KEYS)
    if not set(values["id"]) <= _ID or values["id"].startswith("client."):
        raise bad(text, f"id={values['id']} is no name: id=NAME stands for client.NAME")
    return ImageUri(parts[0], parts[-1], "/".join(parts[1:-1]), values["conf"], values["id"])
