"""Volumes, plexes and detached maps become the JSON of docs/JSON.md here."""

from collections.abc import Sequence

from fmrd.core.decisions.snapback import how_much_differs
from fmrd.core.json_object import Json
from fmrd.core.reasons import Reason
from fmrd.core.record import PlexRecord, VolumeRecord
from fmrd.core.records.parts import Failure
from fmrd.core.states import KSTATE, OPEN_GATE, KState, PlexState, VolumeState, mode
from fmrd.core.volume.plex import Plex
from fmrd.engine.running import Running
from fmrd.errors import EXPLANATIONS


def plex_json(running: Running, plex: Plex) -> Json:
    """Return a plex of a started volume, as it is now."""
    geometry = running.volume.geometry
    dirty = plex.map.count()
    return {
        "name": plex.name,
        "uuid": plex.uuid,
        "path": plex.path,
        "kstate": KSTATE[plex.state].value,
        "state": plex.state.value,
        "mode": mode(plex.state),
        "dirty_regions": dirty,
        "dirty_bytes": geometry.bytes_in(dirty, plex.map.has_last),
        "reads": plex.reads,
        "read_bytes": plex.read_bytes,
        "writes": plex.writes,
        "write_bytes": plex.write_bytes,
        "errors": plex.errors,
        "slow": running.home.lanes_of(plex.uuid, plex.name).slow,
        "far": _far(running, plex),
        "reason": _reason(plex.failure, plex.reason, plex.state),
        "lag_bytes": geometry.bytes_in(dirty, plex.map.has_last) if plex.lags else None,
        "lag_seconds": _lag_seconds(running, plex) if plex.lags else None,
    }


def _lag_seconds(running: Running, plex: Plex) -> float:
    """How long ago the oldest of what it lacks was written, at most."""
    if plex.lags_since is None or not plex.map.any():
        return 0.0
    return round(max(0.0, running.context.now() - plex.lags_since), 3)


def _far(running: Running, plex: Plex) -> Json | None:
    """How an open plex is reached that does not lie here; None of one that does, or is not open."""
    opened = running.mirror.opened.get(plex.uuid)
    if opened is None or not opened.backing.far:
        return None
    backing, standing = opened.backing, opened.backing.standing
    session = {
        "session": "none" if standing is None else "lost" if standing.lost else "open",
        "lost": standing.lost or None if standing is not None else None,
        "round_trip_seconds": standing.median_seconds if standing is not None else None,
        "round_trip_p99_seconds": standing.p99_seconds if standing is not None else None,
    }
    return {"transport": backing.far, "fence": backing.fence or None, **session}


def _reason(why: Failure | None, reason: Reason, state: PlexState) -> Json | None:
    """Why it is not as it should be: what failed, and when; else what its map does not tell by itself."""
    if why is not None:
        code = why.code if why.code in EXPLANATIONS else reason or "io_error"
        return {"code": code, "message": why.message, "errno": why.errno, "since": why.since}
    if reason:
        code, message = reason.value, EXPLANATIONS[reason]
    elif state is PlexState.IOFAIL:
        code, message = "io_error", "it failed, and was not attached since"
    else:
        return None
    return {"code": code, "message": message, "errno": None, "since": None}


def volume_json(running: Running, path: str) -> Json:
    """Return a started volume; ``path`` is where its file is seen."""
    volume = running.volume
    return {
        **_settings(volume.settings, volume.plexes, path),
        "kstate": KState.ENABLED.value,
        "state": volume.state.value,
        "open_count": running.open_count,
        "drl": _drl(volume.settings, volume.drl.count),
        "plexes": [plex_json(running, plex) for plex in volume.plexes],
        "snapshots": snapshots_json(running),
        "lost": _lost(running),
        "suspect": volume.suspicion() is not None,
        "error": None,
    }


def _lost(running: Running) -> list[Json]:
    """What no plex could give when it was read last; of an instant snapshot also what it could not keep."""
    original = running.mirror.store.family.original_of(running.volume)
    unkept = None if original is None else original.unkept.get(running.volume.settings.uuid)
    spans = [] if unkept is None else [running.volume.geometry.bytes_of(run) for run in unkept.map.runs()]
    spans += [(start, stop - start) for start, stop in running.mirror.unreadable.spans]
    return [{"offset_bytes": at, "length_bytes": size} for at, size in spans]


def snapshots_json(running: Running) -> list[Json]:
    """Return the association with each snapshot of a volume: how much differs between the two, on either side."""
    volume = running.volume
    found = []
    for snap in running.mirror.store.family.snapshots_of(volume):
        regions, last = how_much_differs(volume, snap)
        found.append(
            {
                "name": snap.name,
                "volume": volume.name,
                "length_bytes": snap.geometry.length_bytes,
                "dirty_regions": regions,
                "dirty_bytes": volume.geometry.bytes_in(regions, last),
                "percent_dirty": round(100.0 * regions / volume.geometry.regions, 2),
                **_taken(snap.settings),
            }
        )
    return found


def _taken(record: VolumeRecord | None) -> Json:
    """When a snapshot was taken, and how."""
    taken = record.taken if record is not None else None
    return {"taken": None, "taken_as": None} if taken is None else {"taken": taken.at, "taken_as": taken.kind.value}


def detached_json(running: Running) -> list[Json]:
    """Return the plexes that take no I/O, and what they have missed."""
    volume = running.volume
    return [
        {
            "name": plex.name,
            "volume": volume.name,
            "length_bytes": volume.geometry.length_bytes,
            "dirty_regions": plex.map.count(),
            "dirty_bytes": volume.geometry.bytes_in(plex.map.count(), plex.map.has_last),
            "percent_dirty": round(plex.map.percent(), 2),
            **_taken(None),
        }
        for plex in volume.plexes
        if not plex.is_open
    ]


def stopped_json(record: VolumeRecord, path: str, *, error: Json | None) -> Json:
    """Return a volume that is not open, as its home copy tells it; maps are not read for this."""
    return {
        **_settings(record, record.plexes, path),
        "kstate": KState.DISABLED.value,
        "state": (VolumeState.CLEAN if record.settled else VolumeState.NEEDSYNC).value,
        "open_count": 0,
        "drl": _drl(record, 0),
        "plexes": [_stopped_plex(plex, settled=record.settled) for plex in record.plexes],
        "error": error,
    }


def unreadable_json(name: str, path: str, error: Json | None) -> Json:
    """Return a volume whose home copy cannot be read, or is being made just now (no error)."""
    return {"name": name, "path": path, "kstate": KState.DISABLED.value, "state": "NEEDSYNC", "open_count": 0,
            "uuid": None, "length_bytes": 0, "region_size_bytes": 0, "fmr": True, "rdpol": "select", "io_timeout": 0,
            "rate": 0, "auto_attach": True, "comment": "", "write_behind": None,
            "drl": {"extent_bytes": 0, "dirty_extents": 0, "most_extents": 0}, "plexes": [],
            "snapshots": [], "lost": [], "suspect": False, "snapshot_of": None, "instant": False,
            "taken": None, "taken_as": None, "receiving": False, "error": error}  # fmt: skip


def _drl(record: VolumeRecord, dirty: int) -> Json:
    return {"extent_bytes": record.extent_bytes, "dirty_extents": dirty, "most_extents": record.hot_extents}


def _settings(record: VolumeRecord, plexes: Sequence[Plex | PlexRecord], path: str) -> Json:
    return {
        "name": record.name,
        "uuid": record.uuid,
        "length_bytes": record.length_bytes,
        "region_size_bytes": record.region_bytes,
        "fmr": record.fmr,
        "rdpol": record.rdpol,
        "io_timeout": record.io_timeout_seconds,
        "rate": record.rate,
        "auto_attach": record.auto_attach,
        "comment": record.comment,
        "write_behind": next(({"plex": p.name, "bytes": p.behind} for p in plexes if p.behind), None),
        "path": path,
        "snapshots": [],
        "lost": [],
        "suspect": any(plex.suspect for plex in record.plexes),
        "snapshot_of": record.snapshot_of,
        "instant": record.is_instant,
        **_taken(record if record.snapshot_of is not None else None),
        "receiving": record.receiving is not None,
    }


def _stopped_plex(plex: PlexRecord, *, settled: bool) -> Json:
    opened = plex.state in OPEN_GATE
    return {
        "name": plex.name,
        "uuid": plex.uuid,
        "path": plex.path,
        "kstate": KState.DISABLED.value,
        "state": "CLEAN" if opened and settled and plex.state == "ACTIVE" else plex.state.value,
        "mode": "-",
        "dirty_regions": 0,
        "dirty_bytes": 0,
        "reads": 0,
        "read_bytes": 0,
        "writes": 0,
        "write_bytes": 0,
        "errors": 0,
        "slow": None,
        "far": None,
        "reason": _reason(plex.failure, plex.reason, plex.state),
        "lag_bytes": None,
        "lag_seconds": None,
    }
