"""The kinds of schedules that a hunt draws from."""

from dataclasses import dataclass

from tests.sim.sessions import FENCES

BREAKS = ("read", "write", "writes", "sync", "dead", "dco", "home")
"""Kinds of faults."""


@dataclass(frozen=True)
class Profile:
    """What a kind of schedule may contain; weights of operations are in operations.WEIGHTS."""

    plexes: int = 3
    regions: int = 6
    steps: int = 24
    crashes: int = 2
    faults: tuple[str, ...] = ()
    """Of BREAKS."""
    hangs: bool = False
    pauses: bool = False
    """The daemon itself stands still (pauses.py)."""
    absences: bool = False
    strangers: bool = False
    """Other disks lie where plexes were, for a life."""
    homes: bool = False
    """The home copy is lost or rolled back between lives."""
    photos: bool = False
    """... or rolled back to some moment of the life before, for which no record need tell."""
    rot: bool = False
    """Pages of the DCO rot between lives."""
    snaps: bool = False
    """Snapshots are taken, written to, given back."""
    maps: bool = False
    """Marks are set, and what is told of changes is held against what changed."""
    columns: int = 40
    """Of a row of the DCO: where they are few, there are soon several banks."""
    mirrors: bool = False
    """They may have several plexes."""
    parted: bool = False
    """Some plexes travel, and both sides go on (parted.py)."""
    devices: bool = False
    """Plexes lie on devices, which tell no time of change."""
    elsewhere: bool = False
    """What fmrd let go of is written elsewhere."""
    far: bool = False
    """Plexes lie behind a network: what failed there may be carried out later."""
    sessions: tuple[str, ...] = ()
    """Plexes lie behind servers with these fences (sessions.FENCES), and sessions are lost."""
    behind: bool = False
    """A plex may lag, or may not, now and then."""
    crowded: bool = False
    """The volume has more extents than its DRL holds, which fills now and then, and marks ahead."""
    store: bool = False
    """Instant snapshots lie in a store, which runs full (shared.py)."""
    verify: bool = False
    """Copies are compared, and disks lie (lies.py)."""
    quick: bool = False
    """The disks do not block: requests may end in the step in which they begin."""
    begins: bool = False
    """The disks block, and requests that begin in a step end by a callback."""
    now: bool = False
    """... and may take a small write in that step, or a part of it."""
    eager: float = 0.0
    """How often a crash follows soon upon an operation that changes states, where the windows are narrow."""
    power: float = 0.5
    """How many of the crashes are power losses."""
    weights: tuple[tuple[str, int], ...] = ()
    """Changes to operations.WEIGHTS."""


PROFILES = {
    "plain": Profile(),
    "eager": Profile(crashes=3, steps=16, eager=0.12),
    "faults": Profile(faults=BREAKS, eager=0.05),
    "hangs": Profile(faults=BREAKS, hangs=True),
    "away": Profile(plexes=2, absences=True, eager=0.05),
    "homes": Profile(homes=True, eager=0.05),
    "rot": Profile(plexes=2, rot=True, steps=16),
    "all": Profile(faults=BREAKS, hangs=True, absences=True, homes=True, rot=True, eager=0.05),
}
"""Name -> what may happen in such a schedule."""
_INSTANTS = (("instant", 20), ("snapsync", 4), ("snapstart", 2), ("snap_write", 30), ("snap_read", 20))
_MANY = (*_INSTANTS, ("write", 160))
"""Several regions are kept together."""
_MIRRORS = (("snapstart", 20), ("snapclear", 1), ("instant", 1), ("restore", 8), ("undo", 6))
_ZEROS = (("zero", 20), ("snap_zero", 10))
SNAPS = {
    "snaps": Profile(plexes=2, snaps=True, steps=40),
    "snaps, eager": Profile(plexes=2, snaps=True, steps=30, crashes=3, eager=0.15),
    "snaps, faults": Profile(plexes=2, snaps=True, steps=40, faults=BREAKS, eager=0.05),
    "snaps, hangs": Profile(plexes=2, snaps=True, steps=40, faults=BREAKS, hangs=True),
    "snaps, away": Profile(plexes=2, snaps=True, steps=30, absences=True, eager=0.05),
    "snaps, grow": Profile(plexes=2, snaps=True, steps=30, eager=0.1, weights=(("grow", 6), ("instant", 1))),
    "snaps, homes": Profile(plexes=2, snaps=True, steps=30, homes=True, eager=0.05, weights=(("instant", 1),)),
    "snaps, mirrors": Profile(plexes=2, snaps=True, mirrors=True, steps=40, eager=0.1, weights=_MIRRORS),
    "snaps, mirrors, faults": Profile(plexes=2, snaps=True, mirrors=True, steps=40, faults=BREAKS, weights=_MIRRORS),
    "instants": Profile(plexes=2, snaps=True, steps=30, crashes=3, eager=0.1, weights=_INSTANTS),
    "instants, faults": Profile(plexes=2, snaps=True, steps=40, faults=BREAKS, hangs=True, weights=_INSTANTS),
    "instants, many": Profile(plexes=2, regions=16, snaps=True, steps=50, crashes=3, eager=0.1, weights=_MANY),
    "instants, quick": Profile(plexes=2, snaps=True, quick=True, steps=40, faults=BREAKS, eager=0.1, weights=_MANY),
    "instants, begun": Profile(
        plexes=2, regions=16, snaps=True, begins=True, steps=50, faults=BREAKS, hangs=True, eager=0.1, weights=_MANY
    ),
    "snaps, quick": Profile(plexes=2, snaps=True, quick=True, steps=40, faults=BREAKS, eager=0.1),
    "snaps, begun": Profile(plexes=2, snaps=True, begins=True, steps=40, faults=BREAKS, hangs=True, eager=0.1),
    "snaps, zeros": Profile(plexes=2, snaps=True, steps=40, faults=BREAKS, eager=0.1, weights=_ZEROS),
    "snaps, power": Profile(plexes=1, snaps=True, steps=30, crashes=3, power=1.0, eager=0.1),
}
"""The same with snapshots."""

_ERRORS = (("break", 16), ("heal", 8), ("recover", 10))
_PHOTOS = (
    ("write", 60), ("clean", 30), ("detach", 6), ("attach", 2), ("abort", 0), ("off", 0), ("stop", 0), ("add", 0),
)  # fmt: skip
_QUICK = (("write", 80), ("read", 40), ("clean", 20))
TARGETS = {
    "quick": Profile(quick=True, crashes=3, steps=40, faults=BREAKS, hangs=True, eager=0.05, weights=_QUICK),
    "quick, power": Profile(plexes=2, quick=True, crashes=3, steps=30, power=1.0, weights=_QUICK),
    "begun": Profile(begins=True, crashes=3, steps=40, faults=BREAKS, hangs=True, eager=0.05, weights=_QUICK),
    "begun, power": Profile(plexes=2, begins=True, crashes=3, steps=30, power=1.0, weights=_QUICK),
    "begun, all": Profile(begins=True, faults=BREAKS, hangs=True, absences=True, homes=True, eager=0.1, weights=_QUICK),
    "now": Profile(begins=True, now=True, crashes=3, steps=40, faults=BREAKS, hangs=True, eager=0.05, weights=_QUICK),
    "now, power": Profile(plexes=2, begins=True, now=True, crashes=3, steps=30, power=1.0, weights=_QUICK),
    "now, crowded": Profile(plexes=2, begins=True, now=True, crowded=True, crashes=3, eager=0.1, weights=_QUICK),
    "now, snaps": Profile(plexes=2, snaps=True, begins=True, now=True, steps=40, faults=BREAKS, eager=0.1),
    "zeros": Profile(faults=BREAKS, crashes=3, hangs=True, eager=0.05, weights=_ZEROS),
    "write errors": Profile(faults=("write",), eager=0.3, crashes=3, steps=16, power=0.2, weights=_ERRORS),
    "sync errors": Profile(
        faults=("sync", "dead"), steps=24, power=0.9, weights=(*_ERRORS, ("clean", 1), ("flush", 2))
    ),
    "homes, photos": Profile(regions=16, homes=True, photos=True, crashes=4, steps=40, weights=_PHOTOS),
    "homes, photos, two": Profile(plexes=2, regions=16, homes=True, photos=True, crashes=4, steps=30, weights=_PHOTOS),
    "resync": Profile(
        plexes=2, eager=0.3, crashes=3, steps=24, power=1.0, weights=(("detach", 20), ("attach", 30), ("clean", 20))
    ),
    "marks": Profile(regions=16, crashes=3, steps=24, eager=0.2, weights=(("write", 90), ("clean", 20), ("stop", 0))),
    "two copies": Profile(plexes=1, crashes=3, steps=20, power=1.0, weights=(("write", 60), ("clean", 20), ("add", 8))),
    "late": Profile(plexes=2, hangs=True, steps=24, weights=(("hang", 16), ("recover", 10), ("attach", 20))),
}
"""Schedules aimed at windows that the others rarely hit."""

PARTED = {
    "parted": Profile(parted=True, crashes=0),
    "parted, devices": Profile(parted=True, devices=True, crashes=0, eager=0.05),
    "parted, faults": Profile(parted=True, devices=True, crashes=0, faults=BREAKS),
}
"""Split brains."""

VERIFIES = {
    "verify": Profile(plexes=2, verify=True, crashes=3, steps=40, weights=(("clean", 16),)),
    "verify, three": Profile(plexes=3, verify=True, steps=40, eager=0.05, weights=(("clean", 16),)),
    "verify, snaps": Profile(plexes=2, verify=True, snaps=True, steps=40, weights=(("clean", 12), ("restore", 8))),
    "verify, grow": Profile(plexes=2, verify=True, steps=40, weights=(("clean", 16), ("grow", 4))),
}
"""What verify remembers."""

STRANGERS = {
    "strangers": Profile(strangers=True, crashes=3, eager=0.05),
    "strangers, faults": Profile(strangers=True, absences=True, crashes=3, faults=BREAKS, eager=0.05),
    "strangers, homes": Profile(plexes=2, strangers=True, homes=True, crashes=3),
    "strangers, snaps": Profile(plexes=2, strangers=True, snaps=True, steps=30, crashes=3, eager=0.05),
}
"""Another disk lies where a plex was."""

FAR = {
    "far": Profile(far=True, faults=BREAKS, weights=(("heal", 6), ("break", 8))),
    "far, two": Profile(plexes=2, far=True, faults=("write", "writes", "read"), weights=(("heal", 6), ("break", 8))),
    "far, snaps": Profile(plexes=2, far=True, snaps=True, faults=("write", "writes"), weights=(("heal", 4),)),
}
"""An error there does not end a write."""


_LOST = (("attach", 16), ("recover", 6))
_LAST = (*_LOST, ("lose", 20), ("off", 12), ("detach", 12), ("on", 0), ("attach", 40), ("write", 60), ("flush", 12))
SESSIONS = {
    "sessions": Profile(sessions=FENCES, crashes=3, eager=0.05, weights=_LOST),
    "sessions, fenced": Profile(plexes=2, sessions=("single",), crashes=3, eager=0.05, weights=_LOST),
    "sessions, open": Profile(plexes=2, sessions=("",), crashes=3, eager=0.05, weights=_LOST),
    "sessions, faults": Profile(sessions=FENCES, faults=BREAKS, hangs=True, crashes=3, weights=_LOST),
    "sessions, begun": Profile(plexes=2, sessions=FENCES, begins=True, hangs=True, crashes=3, weights=_LOST),
    "sessions, quick": Profile(sessions=FENCES, quick=True, hangs=True, crashes=3, steps=40, weights=_LOST),
    "sessions, last": Profile(plexes=2, sessions=FENCES, crashes=3, eager=0.05, weights=_LAST),
    "sessions, snaps": Profile(plexes=2, sessions=FENCES, snaps=True, steps=40, crashes=3, weights=_LOST),
}
"""What was sent in a session that was lost may be carried out later; fmrd may die in between."""


_LAGS = (("write", 90), ("behind", 10), ("clean", 10), ("flush", 12), ("attach", 14))
BEHIND = {
    "behind": Profile(plexes=2, behind=True, crashes=3, eager=0.05, weights=_LAGS),
    "behind, power": Profile(plexes=2, behind=True, crashes=3, power=1.0, eager=0.05, weights=_LAGS),
    "behind, three": Profile(behind=True, crashes=3, weights=_LAGS),
    "behind, faults": Profile(behind=True, faults=BREAKS, hangs=True, weights=_LAGS),
    "behind, away": Profile(plexes=2, behind=True, absences=True, crashes=3, eager=0.05, weights=_LAGS),
    "behind, sessions": Profile(plexes=2, behind=True, sessions=FENCES, crashes=3, weights=(*_LAGS, *_LOST)),
    "behind, begun": Profile(plexes=2, behind=True, begins=True, crashes=3, hangs=True, weights=_LAGS),
    "behind, quick": Profile(behind=True, quick=True, crashes=3, steps=40, weights=_LAGS),
    "behind, snaps": Profile(behind=True, snaps=True, crashes=3, steps=40, weights=(*_LAGS, ("restore", 8))),
    "behind, grow": Profile(plexes=2, behind=True, crashes=3, weights=(*_LAGS, ("grow", 6))),
}
"""Writers do not wait for one of the plexes."""


_ELSEWHERE = (("elsewhere", 12), ("detach", 10), ("attach", 14), ("stop", 4))
ELSEWHERE = {
    "elsewhere": Profile(elsewhere=True, devices=True, crashes=3, eager=0.05, weights=_ELSEWHERE),
    "elsewhere, files": Profile(elsewhere=True, crashes=3, eager=0.05, weights=_ELSEWHERE),
    "elsewhere, faults": Profile(
        elsewhere=True, devices=True, faults=("write", "sync", "dead", "dco", "home"), weights=_ELSEWHERE
    ),  # all but what leaves part of a plex without a checksum
}
"""Plexes that are away are mounted, or written, by others."""

_CUT = (("break", 14), ("detach", 0), ("off", 0), ("add", 0), ("flush", 20), ("read", 20))
CUT = {
    "cut": Profile(faults=("cut",), crashes=3, weights=_CUT),
    "cut, two": Profile(plexes=2, faults=("cut",), crashes=3, eager=0.05, weights=_CUT),
}
"""Somebody cuts the file of a plex while it is used."""

_CROWD = (("write", 90), ("clean", 2), ("wait", 6), ("set", 3))
CROWDED = {
    "crowded": Profile(plexes=2, regions=24, crowded=True, crashes=3, steps=40, eager=0.05, weights=_CROWD),
    "crowded, power": Profile(plexes=2, regions=24, crowded=True, crashes=3, steps=30, power=1.0, weights=_CROWD),
    "crowded, faults": Profile(regions=24, crowded=True, faults=BREAKS, hangs=True, steps=40, weights=_CROWD),
    "crowded, begun": Profile(
        plexes=2, regions=24, crowded=True, begins=True, faults=BREAKS, crashes=3, steps=40, weights=_CROWD
    ),
    "crowded, quick": Profile(plexes=2, regions=24, crowded=True, quick=True, crashes=3, steps=40, weights=_CROWD),
    "crowded, snaps": Profile(plexes=2, regions=24, crowded=True, snaps=True, steps=40, eager=0.05, weights=_CROWD),
}
"""The log fills, and is cleaned ahead of need."""

_PAUSE = (("pause", 12),)
PAUSES = {
    "pauses": Profile(pauses=True, crashes=3, weights=_PAUSE),
    "pauses, faults": Profile(pauses=True, faults=BREAKS, hangs=True, eager=0.05, weights=_PAUSE),
    "pauses, snaps": Profile(plexes=2, pauses=True, snaps=True, steps=40, eager=0.05, weights=_PAUSE),
    "pauses, instants": Profile(plexes=2, pauses=True, snaps=True, steps=40, weights=(*_INSTANTS, *_PAUSE)),
}
"""The daemon stands still."""

_MAPS = (("write", 60), ("clean", 12), ("restore", 8), ("snapstart", 12), ("snapshot", 16), ("snapback", 3))
_RECEIVE = (("receive", 40), ("write", 30), ("snap_write", 40), ("snapback", 1), ("refresh", 0), ("instant", 2))
MAPS = {
    "maps": Profile(plexes=2, maps=True, steps=40, crashes=3, eager=0.1),
    "maps, snaps": Profile(plexes=2, maps=True, snaps=True, steps=50, crashes=3, eager=0.1, weights=_MAPS),
    "maps, instants": Profile(plexes=2, maps=True, snaps=True, steps=40, eager=0.1, weights=_INSTANTS),
    "maps, faults": Profile(plexes=2, maps=True, snaps=True, steps=40, faults=BREAKS, hangs=True, weights=_MAPS),
    "maps, grow": Profile(plexes=2, maps=True, snaps=True, steps=40, eager=0.1, weights=(("grow", 6), ("instant", 1))),
    "maps, quick": Profile(plexes=2, maps=True, snaps=True, quick=True, steps=40, crashes=3, weights=_MAPS),
    "receive": Profile(plexes=2, maps=True, snaps=True, steps=40, crashes=3, eager=0.15, weights=_RECEIVE),
    "receive, faults": Profile(plexes=2, maps=True, snaps=True, steps=40, faults=BREAKS, weights=_RECEIVE),
    "receive, power": Profile(plexes=1, maps=True, snaps=True, crashes=3, power=1.0, eager=0.1, weights=_RECEIVE),
    "maps, power": Profile(plexes=1, maps=True, snaps=True, steps=40, crashes=3, power=1.0, eager=0.1),
}
"""What changed is told to others."""

_NARROW = (("snapstart", 20), ("snapshot", 30), ("snapback", 10), ("snapclear", 6), ("grow", 4), ("instant", 4))
WIDE = {
    "wide": Profile(plexes=2, columns=4, snaps=True, maps=True, steps=50, crashes=3, eager=0.15, weights=_NARROW),
    "wide, faults": Profile(plexes=2, columns=4, snaps=True, steps=50, faults=BREAKS, hangs=True, weights=_NARROW),
    "wide, away": Profile(plexes=2, columns=4, snaps=True, steps=40, absences=True, eager=0.1, weights=_NARROW),
    "wide, homes": Profile(plexes=2, columns=4, snaps=True, steps=40, homes=True, eager=0.1, weights=_NARROW),
    "wide, power": Profile(plexes=1, columns=3, snaps=True, crashes=3, power=1.0, eager=0.2, weights=_NARROW),
}
"""More columns are needed than a row of the DCO has."""

_STORE = (("instant", 30), ("snap_write", 12), ("snap_read", 20), ("write", 120), ("snapback", 0), ("refresh", 0),
          ("restore", 0), ("snapsync", 0), ("snapstart", 0), ("snapshot", 0), ("snap_stop", 2))  # fmt: skip
STORES = {
    "stores": Profile(plexes=2, regions=8, snaps=True, store=True, steps=30, weights=_STORE),
    "stores, eager": Profile(
        plexes=2, regions=8, snaps=True, store=True, steps=30, crashes=3, eager=0.1, weights=_STORE
    ),
    "stores, faults": Profile(plexes=2, regions=8, snaps=True, store=True, steps=30, faults=BREAKS, weights=_STORE),
    "stores, hangs": Profile(
        plexes=2, regions=8, snaps=True, store=True, steps=30, faults=BREAKS, hangs=True, weights=_STORE
    ),
    "stores, power": Profile(
        plexes=1, regions=8, snaps=True, store=True, crashes=3, steps=30, power=1.0, weights=_STORE
    ),
    "stores, quick": Profile(
        plexes=2, regions=8, snaps=True, store=True, quick=True, steps=30, crashes=3, weights=_STORE
    ),
    "stores, begun": Profile(
        plexes=2, regions=16, snaps=True, store=True, begins=True, steps=30, faults=BREAKS, weights=_STORE
    ),
}
"""A store that snapshots share runs full."""

KINDS = {
    "split brains": PARTED, "verifies": VERIFIES, "strangers": STRANGERS, "far": FAR, "sessions": SESSIONS,
    "elsewhere": ELSEWHERE, "cut": CUT, "pauses": PAUSES, "crowded": CROWDED, "maps": MAPS,
    "behind": BEHIND, "wide": WIDE, "stores": STORES,
}  # fmt: skip
"""Kinds that are about one thing each."""
ALL = PROFILES | TARGETS | SNAPS | {name: profile for kind in KINDS.values() for name, profile in kind.items()}
