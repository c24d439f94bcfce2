"""A stream is received into an instant snapshot of the volume, and becomes the volume's by a restore: one commit.

Until then the volume is as it was, whatever ends; what has come so far lies in the snapshot, and how far that is in the
record, so that a cut stream goes on. From that commit on the volume is what the stream told, whatever ends: what its
plexes lack is read from the one that the stream came on (the *carrier*), which goes when they hold everything.
"""

from dataclasses import replace

from fmrd.core.decisions import instant
from fmrd.core.json_object import Json
from fmrd.core.marks import RECEIVED
from fmrd.core.names import derived
from fmrd.core.records.parts import Mark, Receiving
from fmrd.engine.maps.marking import must_have_room, put
from fmrd.engine.opening.giving_up import give_up
from fmrd.engine.registry import Registry
from fmrd.engine.running import Running
from fmrd.engine.service import Service
from fmrd.engine.snapshots.pairs import Pair, pair_of
from fmrd.engine.snapshots.restores import restore
from fmrd.engine.tasks import Task
from fmrd.engine.units import Unit
from fmrd.errors import Failed, Refused


def name_of(volume: str) -> str:
    """Return the name of the snapshot into which a volume's stream is received."""
    return derived("RECV", volume)


def under_way(registry: Registry, volume: str) -> Pair | None:
    """Return the snapshot into which a stream is received, and its original; None where none is. Failed
    ('volume_exists') where a volume of that name is something else.
    """
    for unit in registry.units.values():  # either was perhaps renamed since
        settings = unit.settings
        if settings is not None and settings.snapshot_of == volume and settings.receiving is not None:
            return pair_of(registry, unit.name)
    name = name_of(volume)
    if name in registry.units:
        raise Failed("volume_exists", f"volume {name} exists, and is not what a stream is received into")
    return None


def must_be_of(pair: Pair, volume: str) -> None:
    """Failed('snap_unknown') where the snapshot is another volume's, Refused('volume_open') while that is open,
    ('receive_present') while a stream is received into it, which could go on; what was put back and broke off cannot.
    """
    origin, found = pair.origin, under_way(pair.registry, volume)
    if origin.volume.name != volume:
        raise Failed("snap_unknown", f"{pair.unit.name} is a snapshot of {origin.volume.name}, not of {volume}")
    if origin.running.open_count:
        raise Refused(
            "volume_open", f"volume {volume} is open ({origin.running.open_count} time(s))", "unmount it first"
        )
    if found is not None and found.volume.settings.receiving is not None and found.volume.settings.receiving.source:
        raise Refused(
            "receive_present", f"a stream is being received into volume {volume}",
            f"fmrctl receive {volume} goes on with it, or with --abort gives it up",
        )  # fmt: skip


def receiving_of(registry: Registry, volume: str, stream: str | None = None) -> tuple[Pair, Receiving]:
    """Failed('receive_missing') where none is under way, or another stream."""
    pair = under_way(registry, volume)
    receiving = pair.volume.settings.receiving if pair is not None else None
    if pair is None or receiving is None or stream not in (None, receiving.stream):
        raise Failed("receive_missing", f"volume {volume} does not receive {'that' if stream else 'a'} stream")
    return pair, receiving


def token_json(volume: str, receiving: Receiving) -> Json:
    """Return where a stream goes on."""
    return {
        "volume": volume,
        "stream": receiving.stream,
        "source": receiving.source,
        "chunks": receiving.chunks,
        "offset_bytes": receiving.offset_bytes,
        "chain": receiving.chain,
        "length_bytes": receiving.content.length_bytes,
        "snapshot": receiving.content.name,
    }


def turn_of(pair: Pair) -> str:
    """Return what is another one once something of what has come may be gone: after a start, or an fdatasync that
    failed. Who writes there tells it with what counts on all of that.
    """
    running = _started(pair).running
    running.turn = running.turn or pair.registry.context.new_uuid()
    return _turn_of(running)


def _turn_of(running: Running) -> str:
    plexes = running.volume.plexes  # none where it was taken over just now
    return f"{running.turn}.{plexes[0].dropped if plexes else 'taken'}"


def must_be_whole(running: Running, turn: str) -> None:
    """Failed('receive_lost') where it is not that turn any more. ``running``: what the stream is received into."""
    if turn != _turn_of(running):
        volume = running.volume.settings.snapshot_of
        raise Failed(
            "receive_lost", f"what came for volume {volume} since that was last noted may be gone: fmrd was started "
            "anew meanwhile, or the disk failed a flush",
            f"fmrctl receive {volume} --token tells where the stream goes on",
        )  # fmt: skip


async def note(pair: Pair, receiving: Receiving, turn: str) -> None:
    """Make durable, and record, how far it has come. Failed('receive_lost')."""
    service = _started(pair)
    async with service.running.verb():
        if pair.volume.settings.is_instant:  # else the rest of the stream would come for nothing
            instant.check_lost(pair.origin.volume, pair.volume)
        await _make_durable(service)
        must_be_whole(service.running, turn)
        pair.volume.settings = replace(pair.volume.settings, receiving=receiving)
        await service.mirror.store.commit()


async def _make_durable(service: Service) -> None:
    """The snapshot's plex first, then what says that it is the snapshot's: until then a region is the original's."""
    error = (await service.mirror.sync()).error
    if error is not None:
        raise error
    await service.mirror.store.write_pages(service.volume.touched_pages())


async def take(pair: Pair, receiving: Receiving, turn: str, *, force: bool, rate: int) -> list[Task]:
    """All of it has come, and was verified: make it the volume's. Return the tasks that copy it to the plexes. Refused
    as a restore is; Failed('receive_lost').
    """
    registry, origin = pair.registry, pair.origin
    service = _started(pair)
    await _make_durable(service)
    [carrier] = pair.volume.plexes
    family = origin.mirror.store.family
    column, now = origin.volume.settings.drl, registry.context.now()
    mark = Mark(RECEIVED, registry.context.new_uuid(), column, now, holds=receiving.content)

    def check() -> None:
        must_be_whole(service.running, turn)
        if not receiving.partial:
            must_have_room(origin.volume, RECEIVED)
        elif origin.volume.tracks[pair.volume.settings.uuid].map.any():
            raise Refused(
                "volume_open",
                f"volume {origin.volume.name} was written while data was put back, which would undo that",
                "unmount it first",
            )

    def also() -> None:
        settings = origin.volume.settings
        origin.volume.settings = replace(settings, carriers=(*settings.carriers, carrier.uuid))
        if not receiving.partial:
            put(family, origin.volume, mark)

    check()  # before anything is held up for it; what is written until then is seen in the step
    return await restore(pair, [carrier], rate, force=force, check=check, also=also, carrier=carrier.uuid)


def _started(pair: Pair) -> Service:
    if pair.service is None:
        name = pair.unit.name
        raise Failed("volume_stopped", f"snapshot {name} is stopped", f"fmrctl start {name}")
    return pair.service


async def discard(registry: Registry, unit: Unit) -> list[str]:
    """Give up what has come, with its file. Return sentences about what was left. Refused('receive_present') while
    somebody writes there: another stream comes, or data is put back.
    """

    def check() -> None:
        known = unit.settings.receiving if unit.settings is not None else None
        if known is not None and unit.service is not None and unit.service.running.open_count:
            what = "data is put back" if known.partial else "a stream is being received"
            hint = "let that end first; where its line hangs, end its fmrctl: what has come stays"
            raise Refused("receive_present", f"{what} just now, from {known.content.name} into {unit.name}", hint)

    async with registry.units.held(unit):
        await registry.stop_held(unit, check=check)
        plexes = unit.settings.plexes if unit.settings is not None else ()
        last = unit.home.record
        await unit.home.forget(unit.name)
        try:
            return await give_up(registry.context, last, plexes, erase=True) if last is not None else []
        finally:
            registry.units.drop(unit)
