"""Look before taking: what lies at a path before it becomes a plex, or a copy of the DCO.

What is blank is taken. What is recognised is refused, unless ``force``; what somebody has, always. The same look serves
a dry run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from fmrd.backing.calls.system_calls import ask
from fmrd.backing.protocol import LOCATOR_BYTES, Finding, Host, Kind, Place, Seen
from fmrd.core.far.uris import is_uri
from fmrd.core.geometry import Geometry
from fmrd.core.printable import printable
from fmrd.core.records.rows import Rows
from fmrd.engine.context import Context
from fmrd.engine.opening.files import dco_bytes
from fmrd.engine.serving.open_plex import Lanes
from fmrd.errors import BadRequest, Failed, Refused

SIDECAR_SUFFIX = ".dco"


@dataclass(frozen=True)
class PlexWish:
    """A plex to be: where its data and, if not beside it, its copy of the DCO shall lie."""

    path: str
    dco_path: str | None = None

    @property
    def paths(self) -> tuple[str, str]:
        """A device without ``dco_path`` keeps its DCO itself; nobody uses that name then."""
        return self.path, self.dco_path or self.path + SIDECAR_SUFFIX


@dataclass(frozen=True)
class Manners:
    """``mount``: fmrd's own. ``taken``: path -> whose it is, of every plex and copy of the DCO that a record here
    names. ``closed``: those of them that nobody has open, so that no lock tells. ``families``: the known ones.
    """

    mount: str | None = None
    taken: Mapping[str, str] = field(default_factory=dict)
    closed: Sequence[str] = ()
    families: frozenset[str] = frozenset()
    force: bool = False
    keep: str | None = None
    """The path of a plex whose content is kept (make --from)."""


@dataclass(frozen=True)
class Looked:
    """A path that may be taken, as it was seen. ``tail_bytes``: what a device keeps for its DCO. ``may_replace``: by
    force, something that lies where its DCO would be.
    """

    wish: PlexWish
    seen: Seen
    tail_bytes: int
    may_replace: bool


async def look_at(
    context: Context, wishes: Sequence[PlexWish], geometry: Geometry, manners: Manners, timeout_seconds: float,
    rows: Rows | None = None,
) -> list[Looked]:  # fmt: skip
    """May all of them be taken? Nothing changes. BadRequest, Failed or Refused says why not. ``rows``: of a family that
    is there already.
    """
    paths = [path for wish in wishes for path in wish.paths]
    if len({wish.path for wish in wishes}) != len(wishes):
        raise BadRequest("bad_request", "a path is named twice")
    if len(set(paths)) != len(paths):
        raise BadRequest("bad_request", "one file is named twice: each plex has a copy of the DCO of its own")
    lanes = Lanes("look")
    found = []
    for wish in wishes:
        look = partial(_look, context.host, wish, geometry, manners, dco_bytes(geometry, rows))
        found.append(await ask(context.system, lanes.data, look, timeout_seconds))
    real = [looked.seen.real for looked in found]
    if len(set(real)) != len(real):
        raise BadRequest("bad_request", f"one file or device is named twice: {', '.join(w.path for w in wishes)}")
    return found


def _look(host: Host, wish: PlexWish, geometry: Geometry, manners: Manners, size: int) -> Looked:
    """On a worker thread."""
    seen = host.look(wish.path, manners.mount, sidecar=wish.dco_path is None)
    kept = wish.path == manners.keep
    _judge(host, seen, manners, kept=kept)
    if kept and not seen.exists:
        raise Failed("plex_missing", f"--from {wish.path}: there is no such file")
    host.try_out(wish.path, geometry.length_bytes)
    tail = 0 if wish.dco_path else size + LOCATOR_BYTES
    if seen.place is Place.DEVICE and seen.size - tail < geometry.length_bytes:
        usable = max(0, seen.size - tail)
        raise Failed(
            "plex_too_short", f"{wish.path} holds {usable} usable bytes, the volume has {geometry.length_bytes}"
        )
    if wish.dco_path is not None:
        beside = host.look(wish.dco_path, manners.mount, sidecar=False)
        if beside.place is Place.DEVICE and not is_uri(wish.dco_path):
            raise BadRequest("not_a_plex", f"{wish.dco_path} is a device; a copy of the DCO elsewhere is a file")
        _judge(host, beside, manners, kept=False)
        host.try_out(wish.dco_path, size, allocated=True)
        lies = beside.exists
    else:
        if seen.place is not Place.DEVICE:
            host.try_out(wish.path + SIDECAR_SUFFIX, size, allocated=True)
        lies = any(f.kind is Kind.SIDECAR or f.kind is Kind.FMRD_MEMBER for f in (*seen.has_data, *seen.in_use))
    return Looked(wish, seen, tail, manners.force and lies)


def _judge(host: Host, seen: Seen, manners: Manners, *, kept: bool) -> None:
    if seen.impossible:
        if seen.impossible[0].kind is Kind.NO_DIRECTORY:
            raise Failed("plex_missing", _told(seen, seen.impossible))
        raise BadRequest("not_a_plex", _told(seen, seen.impossible))
    unknown = [f for f in seen.in_use if f.kind is Kind.FMRD_MEMBER and f.uuid not in manners.families]
    in_use = [f for f in seen.in_use if f not in unknown]
    if in_use:
        raise Refused("refused_in_use", _told(seen, in_use), _mend(in_use))
    if owner := _owner(host, seen, manners):
        raise Refused("refused_in_use", f"{printable(seen.path)}: {owner}")
    unsafe = [f for f in seen.unsafe if f.kind is Kind.UNSAFE_DIRECTORY and f.type == "others" and f.mend]
    if unsafe:
        raise Refused("refused_unsafe", _told(seen, unsafe), _mend(unsafe))
    lost = [*seen.has_data, *unknown]
    if kept:
        lost = [f for f in lost if f.kind in (Kind.SIDECAR, Kind.UNREADABLE, Kind.FMRD_MEMBER)]
    if lost and not manners.force:
        ours = f"; fmrctl import {printable(seen.path)} takes up the volume" if unknown else ""
        raise Refused("refused_has_data", _told(seen, lost), f"--force takes it, and what is there is lost{ours}")


def _owner(host: Host, seen: Seen, manners: Manners) -> str | None:
    """Who has it by the records here; of a stopped volume on a device with its DCO elsewhere nothing else tells."""
    for path in (seen.path, seen.real):
        if path in manners.taken:
            return manners.taken[path]
    if not seen.exists:
        return None
    return next((manners.taken[path] for path in manners.closed if host.is_at(path, seen)), None)


def _told(seen: Seen, findings: Sequence[Finding]) -> str:
    return f"{printable(seen.path)}: " + "; ".join(finding.sentence for finding in findings)


def _mend(findings: Sequence[Finding]) -> str:
    return next((finding.mend for finding in findings if finding.mend), "")
