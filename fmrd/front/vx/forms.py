"""The table of all forms: which tool and word, what does it, and what it takes. A form that is not here is none that
fmrd-vx knows; those that VxVM has and fmrd cannot have stand in ``ABSENT``, with what comes nearest.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fmrd.errors import BadRequest
from fmrd.front.vx import assist, plexes, printing, snaps, stat, tasks, vxsnap
from fmrd.front.vx.asking import Vx
from fmrd.front.vx.typed import NotSupported, Typed, usage

MANY = 64
PATHS = frozenset({"fmrd_paths"})
LOGS = frozenset({"logtype", "drl", "dcoversion", "ndcomirror", "ndcomirs", "init"})
"""Attributes of make that say what each volume has here anyway: a log, a DCO with each plex, zeros at first."""


@dataclass(frozen=True)
class Form:
    """``least`` to ``most`` words; the attributes (KEY=VALUE) and options (-o) that it knows."""

    run: Callable[[Vx, Typed], None]
    least: int
    most: int
    attributes: frozenset[str] = frozenset()
    options: frozenset[str] = frozenset()

    @property
    def shown(self) -> str:
        """How it is typed: the docstring of what does it."""
        return " ".join((self.run.__doc__ or "").split())

    def check(self, typed: Typed) -> None:
        """NotSupported for an attribute or option, BadRequest('bad_request') for too few or too many words."""
        for key in [key for key, _ in typed.attributes if key not in self.attributes]:
            raise NotSupported(f"{typed.name} with {key}=", self.shown)
        for key in [key for key in typed.options if key not in self.options]:
            raise NotSupported(f"{typed.name} with -o {key}", self.shown)
        if not self.least <= len(typed.words) <= self.most:
            raise BadRequest("bad_request", f"{typed.name}: {len(typed.words)} word(s) do not fit", self.shown)


_MIRRORS = frozenset({"nmirror", "alloc"})
_START = Form(plexes.start, 1, MANY)
_STOP = Form(plexes.stop, 1, MANY)
_SYNC = Form(vxsnap.sync, 1, 1)
_STEER = Form(tasks.steer, 1, MANY)
_CACHE = Form(vxsnap.size_cache, 2, 2)
_SNAPSTART = Form(snaps.start, 1, MANY, _MIRRORS, PATHS)

FORMS: Mapping[str, Mapping[str, Form]] = {
    "vxassist": {
        "make": Form(assist.make, 2, MANY, LOGS | {"layout", "nmirror", "regionsize", "fastresync"}, PATHS),
        "mirror": Form(assist.mirror, 1, MANY, frozenset({"nmirror"}), PATHS),
        "growto": Form(assist.grow_to, 2, 2), "growby": Form(assist.grow_by, 2, 2),
        "remove": Form(assist.remove, 2, 3),
        "snapstart": _SNAPSTART, "snapwait": Form(snaps.wait, 1, 1),
        "snapabort": Form(snaps.abort, 1, 1, frozenset({"nmirror"})),
        "snapshot": Form(snaps.snapshot, 0, MANY, frozenset({"nmirror"}), frozenset({"name", "allvols"})),
        "snapback": Form(snaps.back, 1, 1, frozenset({"nmirror"}), frozenset({"resyncfromreplica", "allplexes"})),
        "snapclear": Form(snaps.clear, 1, 2), "snapprint": Form(snaps.show_all, 0, 1),
    },
    "vxplex": {
        "det": Form(plexes.detach, 1, MANY), "att": Form(plexes.attach, 2, MANY),
        "dis": Form(plexes.dissociate, 1, MANY, frozenset(), frozenset({"rm"})),
        "convert": Form(plexes.convert, 1, MANY, frozenset({"state"})),
    },
    "vxmend": {
        "off": Form(plexes.mend_off, 1, MANY), "on": Form(plexes.mend_on, 1, MANY), "fix": Form(plexes.mend_fix, 2, 2),
    },
    "vxvol": {
        "set": Form(plexes.set_volume, 1, MANY, frozenset({"fastresync"})), "rdpol": Form(plexes.read_policy, 2, 3),
        "start": _START, "stop": _STOP, "startall": Form(plexes.start, 0, 0), "stopall": Form(plexes.stop, 0, 0),
    },
    "vxrecover": {"": Form(plexes.recover, 0, MANY, frozenset(), frozenset({"slow", "iosize"}))},
    "vxsnap": {
        "prepare": Form(vxsnap.prepare, 1, MANY, frozenset({"regionsize", "ndcomirs", "ndcomirror", "drl"})),
        "unprepare": Form(vxsnap.unprepare, 1, MANY), "addmir": _SNAPSTART,
        "rmmir": Form(snaps.abort, 1, 1, frozenset({"nmirror"})), "snapwait": Form(snaps.wait, 1, 1),
        "make": Form(vxsnap.make, 0, 0, frozenset({"source"}), PATHS),
        "refresh": Form(vxsnap.refresh, 1, 1, frozenset({"source"})),
        "restore": Form(vxsnap.restore, 1, MANY, frozenset({"source", "destroy"})),
        "reattach": Form(vxsnap.reattach, 1, 1, frozenset({"source", "nmirror"})),
        "dis": Form(vxsnap.dissociate, 1, 1), "print": Form(vxsnap.show_all, 0, 1),
        "list": Form(vxsnap.show_list, 0, 1), "syncstart": _SYNC, "syncwait": _SYNC, "syncpause": _SYNC,
        "syncresume": _SYNC, "syncstop": _SYNC,
    },
    "vxcache": {
        "list": Form(vxsnap.list_caches, 0, MANY), "growcacheto": _CACHE, "growcacheby": _CACHE,
        "shrinkcacheto": _CACHE, "shrinkcacheby": _CACHE,
    },
    "vxtask": {
        "list": Form(tasks.list_all, 0, MANY), "monitor": Form(tasks.monitor, 0, MANY), "pause": _STEER,
        "resume": _STEER, "abort": _STEER, "set": Form(tasks.set_slow, 1, 1, frozenset({"slow"})),
    },
    "vxprint": {"": Form(printing.show_records, 0, MANY)},
    "vxstat": {"": Form(stat.show_counts, 0, MANY)},
}  # fmt: skip
"""Tool -> its first word -> the form. '' where the tool does one thing."""

_LENGTH = "make --dry-run tells whether a length fits: fmrctl make VOL SIZE PATH --dry-run"
ABSENT: Mapping[str, Mapping[str, str]] = {
    "vxassist": {
        "maxsize": _LENGTH, "maxgrow": _LENGTH, "shrinkto": "volumes become longer, never shorter: fmrctl grow",
        "shrinkby": "volumes become longer, never shorter: fmrctl grow",
        "move": "fmrctl plex add, then fmrctl plex dis",
        "relayout": "each plex is one whole copy", "convert": "each plex is one whole copy",
        "addlog": "each volume has its log from the start", "settag": "volumes have no tags",
    },
    "vxplex": {
        "mv": "fmrctl plex add, then fmrctl plex dis", "cp": "fmrctl plex add",
        "snapstart": "fmrctl snapstart VOL PATH",
        "snapshot": "fmrctl snapshot VOL",
    },
    "vxmend": {"clear": "fmrctl start VOL --accept PLEX"},
    "vxvol": {
        "resync": "fmrctl verify VOL --repair", "init": "fmrctl start VOL --accept PLEX", "maint": "fmrctl stop VOL",
        "recover": "fmrctl recover VOL",
    },
    "vxsnap": {
        "split": "fmrctl snapclear SNAPSHOT: there are no hierarchies", "addmap": "each snapshot has its maps",
        "addsnapof": "there are no hierarchies", "print-cache": "vxcache list",
    },
    "vxcache": {"start": "a store is always there: fmrctl store list", "stop": "fmrctl store remove NAME"},
    "vxtask": {},
}  # fmt: skip


def form_of(typed: Typed) -> Form:
    """Return the form of a command line, checked. NotSupported where there is none."""
    form = FORMS[typed.tool].get(typed.keyword)
    if form is None:
        hint = ABSENT.get(typed.tool, {}).get(typed.keyword, usage(typed.tool))
        raise NotSupported(typed.name, hint)
    form.check(typed)
    return form
