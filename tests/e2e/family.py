"""A volume of labelled blocks with its snapshots, and an independent record of what each of them must hold."""

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.e2e.harness import MIB, Daemon, Json, until
from tests.e2e.labels import BLOCK, Labelled, Moment, generations, must_hold

VOLUME = "raw"
SNAP = f"SNAP-{VOLUME}"
INSTANT = f"INSTANT-{VOLUME}"
UNDO = f"UNDO-{VOLUME}"
SNAP_STATES = ("SNAPATT", "SNAPDONE")
LONGEST = 48 * MIB
GROWTH = MIB
RATE = ("--rate", "8M")
REFUSALS = ("last_plex", "snap_missing", "undo_impossible")
Event = Callable[[], None]


class Family:
    """``room``: where plexes can share blocks. Everyone who has a file here writes to it all the time, until a verb
    wants it closed.
    """

    def __init__(self, daemon: Daemon, room: Path, counts: Counter[str], random: Random) -> None:
        self.daemon = daemon
        self.counts = counts
        self._room = room
        self._random = random
        self._generation = itertools.count(1)
        self._files = itertools.count(1)
        self._writers: dict[str, Labelled] = {}
        self._undo: list[int] = []
        """What the volume held before the restore that can be undone."""

    @property
    def original(self) -> Labelled:
        return self._writers[VOLUME]

    def make(self, size: int, *paths: object) -> None:
        self.daemon.make(VOLUME, size, *paths, options=("--force", "--wait"))
        self._writes(VOLUME, [0] * (size // BLOCK))

    def events(self) -> dict[str, tuple[int, Event]]:
        """Those that are possible now: name -> (weight, what to do)."""
        states = self.daemon.states(VOLUME)
        kept, snap, instant = UNDO in self._volumes(), SNAP in self._writers, INSTANT in self._writers
        found: dict[str, tuple[int, Event]] = {}
        if not snap and not any(state in SNAP_STATES for state in states):
            found["snapstart"] = (10, self._snapstart)
        if "SNAPDONE" in states and not snap:
            found |= {"snapshot": (12, self._snapshot), "snapabort": (1, self._snapabort)}
        if snap:
            found |= {"snapback": (4, self._snapback), "refresh": (4, self._refresh), "restore": (4, self._restore)}
        found |= {"drop instant": (2, self._drop_instant)} if instant else {"instant": (3, self._instant)}
        if kept:
            found |= {"undo": (4, self._put_back), "drop undo": (1, self._drop_undo)}
        elif not snap and not instant and self._length() < LONGEST:
            found["grow"] = (3, self._grow)
        return found

    # Those who write

    def go(self) -> None:
        for writer in self._writers.values():
            writer.go()

    def rest(self) -> None:
        for writer in self._writers.values():
            writer.rest()

    def works(self) -> None:
        for writer in self._writers.values():
            writer.works()

    def clean_up(self) -> None:
        for writer in self._writers.values():
            writer.stop()

    def check(self) -> None:
        """While nobody writes: what each file shows, and what lies on each plex that claims to have all of it."""
        for name, writer in self._writers.items():
            must_hold(writer.held, generations(writer.path, len(writer.held), direct=True), f"volume {name}")
            self.counts["blocks checked"] += len(writer.held)
            for plex in self.daemon.volume(name)["plexes"] if name != INSTANT else []:
                if plex["state"] in ("ACTIVE", "SNAPDONE") and not plex["dirty_regions"]:
                    held = generations(Path(plex["path"]), len(writer.held))
                    must_hold(writer.held, held, f"plex {plex['name']} of {name}")
                    self.counts["plexes checked"] += 1
        if UNDO in self._volumes():
            held = generations(self.daemon.path(UNDO), len(self._undo), direct=True)
            must_hold(self._undo, held, f"volume {UNDO}")

    def _writes(self, name: str, held: list[int]) -> None:
        seed = self._random.randrange(1 << 32)
        punches = self.daemon.door == "channel"  # the other has no fallocate
        self._writers[name] = Labelled(self.daemon.path(name), held, self._generation, seed, punches=punches)

    def _appears(self, name: str, moment: Moment) -> None:
        """A snapshot is there: it is one moment of its original, and is written to from now on."""
        self.original.unwatch()
        found = generations(self.daemon.path(name), len(moment.held), direct=True)
        self._writes(name, moment.settle(found, f"snapshot {name}"))
        self._writers[name].go()

    def _closed(self, name: str) -> Labelled:
        writer = self._writers[name]
        writer.rest()
        until(lambda: not self.daemon.volume(name)["open_count"], f"{name} is let go of")
        return writer

    def _gone(self, name: str) -> Labelled:
        writer = self._closed(name)
        del self._writers[name]
        return writer

    # Events

    def _snapstart(self) -> None:
        self.daemon.json("snapstart", VOLUME, self._file(), *self._rate())

    def _snapabort(self) -> None:
        if answer := self._accepted("snapabort", VOLUME):
            Path(answer["plex"]["path"]).unlink()

    def _snapshot(self) -> None:
        moment = self.original.watch()
        if self._accepted("snapshot", VOLUME):
            self._appears(SNAP, moment)
        else:
            self.original.unwatch()

    def _snapback(self) -> None:
        self._gone(SNAP)
        self.daemon.json("snapback", SNAP, *self._rate())

    def _refresh(self) -> None:
        self._gone(SNAP)
        moment = self.original.watch()
        self.daemon.json("refresh", SNAP, "--wait")
        self._appears(SNAP, moment)

    def _restore(self) -> None:
        keep = () if UNDO in self._volumes() or self._random.randrange(2) else ("--keep-undo",)
        was = self._closed(VOLUME).held
        snap = self._gone(SNAP)
        if not self._accepted("snapback", SNAP, "--from-replica", *keep, *self._rate()):
            keep = ()
            self.daemon.json("snapback", SNAP, "--from-replica")
        if keep:
            self._undo = list(was)
            self.counts["restores that keep an undo"] += 1
        self.original.held = snap.held
        self.original.go()

    def _put_back(self) -> None:
        self._closed(VOLUME)
        self.daemon.json("undo", VOLUME, *self._rate())
        self.original.held = list(self._undo)
        self.original.go()

    def _drop_undo(self) -> None:
        self.daemon.json("stop", UNDO)
        self.daemon.json("remove", UNDO, "--erase")

    def _instant(self) -> None:
        moment = self.original.watch()
        self.daemon.json("snapshot", VOLUME, "--instant", self._file(), "--name", INSTANT)
        self.daemon.json("set", INSTANT, "io_timeout=60")  # a busy machine is no broken disk
        self._appears(INSTANT, moment)

    def _drop_instant(self) -> None:
        writer = self._closed(INSTANT)
        must_hold(writer.held, generations(writer.path, len(writer.held), direct=True), f"volume {INSTANT}")
        self._gone(INSTANT)
        self.daemon.json("stop", INSTANT)
        self.daemon.json("remove", INSTANT, "--erase")

    def _grow(self) -> None:
        self.daemon.json("grow", VOLUME, self._length() + GROWTH)
        self.original.grow(GROWTH // BLOCK)

    def _accepted(self, *words: object) -> Json:
        """Its answer; none where it was refused, as it may be: a plex is copied from or to just now."""
        answer = self.daemon.ctl(*words)
        if answer.status:
            assert answer.code in REFUSALS, f"{words}: {answer.err}"
            self.counts[f"refused: {answer.code}"] += 1
            return {}
        return answer.json

    def _length(self) -> int:
        return int(self.daemon.volume(VOLUME)["length_bytes"])

    def _volumes(self) -> list[str]:
        return [volume["name"] for volume in self.daemon.json("print")["volumes"]]

    def _file(self) -> Path:
        return self._room / f"{next(self._files)}.img"

    def _rate(self) -> tuple[str, ...]:
        return RATE if self._random.randrange(2) else ()
