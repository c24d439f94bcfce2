"""What a snapback, a refresh, a restore or an undo would copy, to which plex, and whether it could.

A dry run and the verb itself go through the same functions, and before anything is given up: a snapshot that went is
not to be had again where the copy fails halfway.
"""

from collections.abc import Sequence
from functools import partial

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.backing.protocol import Room
from fmrd.core.decisions import snapback
from fmrd.core.decisions.snapback import Target
from fmrd.core.volume.plex import Plex
from fmrd.dco.rows.widening import must_hold
from fmrd.engine.snapshots import undos
from fmrd.engine.snapshots.pairs import Pair, must_be_closed
from fmrd.errors import Failed, FmrdError, Refused


async def check_back(pair: Pair, plexes: Sequence[Plex]) -> list[Target]:
    """Of a snapback or refresh."""
    snapback.check_back(pair.origin.volume, pair.volume, plexes)
    must_be_closed(pair)
    _must_hold(pair, plexes)
    targets = snapback.back_targets(pair.origin.volume, pair.volume, plexes)
    await _must_fit(pair, targets)
    return targets


async def check_restore(pair: Pair, plexes: Sequence[Plex], *, force: bool, keep_undo: bool) -> list[Target]:
    """Of a snapback --from-replica or an undo."""
    running = pair.origin.running
    snapback.check_length(running.volume, pair.volume, replica=True)
    if running.open_count and not force:
        raise Refused(
            "volume_open",
            f"volume {running.volume.name} is open ({running.open_count} time(s)), and its data would change under "
            "that",
            "unmount it first, or --force",
        )
    must_be_closed(pair)
    if pair.service is None:
        raise Failed("volume_stopped", f"snapshot {pair.unit.name} is stopped", f"fmrctl start {pair.unit.name}")
    if keep_undo:
        await undos.must_be_possible(pair.registry, running)
    snapback.check_restore(running.volume, pair.volume, plexes)
    _must_hold(pair, plexes)
    targets = snapback.restore_targets(running.volume, pair.volume, plexes)
    await _must_fit(pair, targets)
    return targets


def _must_hold(pair: Pair, plexes: Sequence[Plex]) -> None:
    """Failed('dco_full') where a plex cannot carry the DCO of the original."""
    opened = pair.service.mirror.opened if pair.service is not None else {}
    for plex in plexes:
        file = opened[plex.uuid].dco_copy.file if plex.uuid in opened else None
        must_hold(pair.origin.mirror.store.family, pair.origin.volume, plex, file)


async def _must_fit(pair: Pair, targets: Sequence[Target]) -> None:
    """Refused('no_room') where the most that may be written to files beyond what they take already is more than their
    file system has: no more than is copied, than a file can still grow by, and than the source takes itself.
    """
    geometry = pair.origin.volume.geometry
    sources = [await _room(pair, plex) for plex in (*pair.origin.volume.open_plexes(), *pair.volume.plexes)]
    source = max([geometry.length_bytes if room is None else room.allocated_bytes for room in sources])
    needed: dict[int, int] = {}
    for target in targets:
        room = await _room(pair, target.plex) if target.regions else None
        if room is None:
            continue
        copied = geometry.bytes_in(target.regions, target.last)
        most = min(copied, max(0, geometry.length_bytes - room.allocated_bytes), source)
        needed[room.device] = needed.get(room.device, 0) + most
        if needed[room.device] > room.free_bytes:
            raise Refused(
                "no_room",
                f"plex {target.plex.name} may need {most} more bytes, and its file system has {room.free_bytes}",
                "make room there first",
            )


async def _room(pair: Pair, plex: Plex) -> Room | None:
    """None where nobody can tell: of a device, or a disk that does not answer, which the copy finds out."""
    context = pair.registry.context
    try:
        return await ask(
            context.system, Lane("room"), partial(context.host.room, plex.path), pair.origin.running.timeout_seconds
        )
    except (FmrdError, OSError):
        return None
