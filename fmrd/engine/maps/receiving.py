"""A stream is received into an instant snapshot of the volume, and becomes the volume's by a restore: one commit.

Until then the volume is as it was, whatever ends; what has come so far lies in the snapshot, and how far that is in the
record, so that a cut stream goes on. From that commit on the volume is what the stream told, whatever ends: what its
plexes lack is read from the one that the stream came on (the *carrier*), which goes when they hold everything.
"""

from dataclasses import dataclass, replace

from fmrd.core.json_object import Json
from fmrd.core.marks import RECEIVED, written_since
from fmrd.core.names import derived
from fmrd.core.records.parts import Content, Mark, Receiving
from fmrd.core.volume.volume import Volume
from fmrd.engine.maps.marking import must_have_room, put
from fmrd.engine.opening.giving_up import give_up
from fmrd.engine.registry import Registry
from fmrd.engine.service import Service
from fmrd.engine.snapshots.breakoffs import must_be_original
from fmrd.engine.snapshots.pairs import Pair, pair_of
from fmrd.engine.snapshots.restores import restore
from fmrd.engine.tasks import Task
from fmrd.engine.units import Unit
from fmrd.errors import Failed, Refused


@dataclass(frozen=True)
class Offer:
    """What a stream says of itself: what the volume holds once it has come, and, of an increment, what it must hold
    before, by the uuids of snapshots (``bases``); ``source`` is the sender's, to go on with.
    """

    stream: str
    content: Content
    bases: tuple[str, ...] = ()
    pristine_only: bool = False
    increment: bool = False
    source: str = ""
    region_bytes: int = 0
    """In which changes were known there; 0: nobody knows."""
    chunks: int = 0
    offset_bytes: int = 0
    chain: str = ""
    """Of a stream that goes on: after so many chunks, that told of the bytes up to there, with this digest."""


def name_of(volume: str) -> str:
    """Return the name of the snapshot into which a volume's stream is received."""
    return derived("RECV", volume)


def held(volume: Volume) -> Mark | None:
    """Return the mark of what the last stream brought."""
    return next((mark for mark in volume.settings.marks if mark.name == RECEIVED), None)


def is_there(volume: Volume, offer: Offer) -> bool:
    """Tell whether the volume holds already what the stream would bring."""
    mark = held(volume)
    if mark is None or mark.holds is None:
        return False
    return mark.holds == offer.content and mark.holds.pristine and not _written(volume, mark, offer)


def must_fit(volume: Volume, offer: Offer) -> None:
    """Refused('stream_unfit') where what the stream brings does not lead from what the volume holds to what it says,
    Failed('plex_too_many') where it could not say so afterwards. It counts in the step of the instant, too: what is
    written before that is in what the stream is written to.
    """
    must_be_original(volume)
    must_have_room(volume, RECEIVED)
    length, wanted = volume.geometry.length_bytes, offer.content.length_bytes
    if length != wanted:
        hint = f"fmrctl grow {volume.name} {wanted}" if length < wanted else "a volume of that length"
        raise _unfit(f"volume {volume.name} has {length} bytes, the stream is of {wanted}", hint)
    if not offer.increment:
        return
    mark = held(volume)
    if mark is None or mark.holds is None:
        raise _unfit(
            f"volume {volume.name} holds nothing that a stream brought, and this one is only what changed since",
            "send all of it: fmrctl send SNAP, without --since",
        )
    if mark.holds.uuid not in offer.bases:
        raise _unfit(
            f"volume {volume.name} holds {mark.holds.name} ({mark.holds.uuid}), and the stream leads from another one",
            f"fmrctl send SNAP --since {mark.holds.name}, if that is there still; or all of it, without --since",
        )
    if offer.pristine_only and not mark.holds.pristine:
        raise _unfit(
            f"volume {volume.name} holds {mark.holds.name} with what was written to that snapshot itself, of which a "
            "mark knows nothing",
            f"fmrctl send SNAP --since {mark.holds.name}; or all of it, without --since",
        )
    written = _written(volume, mark, offer)
    if written:
        raise _unfit(
            f"volume {volume.name} was written since it received {mark.holds.name}: {written} region(s), which the "
            "stream does not bring back",
            "send all of it: fmrctl send SNAP, without --since",
        )


def _written(volume: Volume, mark: Mark, offer: Offer) -> int:
    assert mark.holds is not None, "a stream's"
    track = volume.tracks[mark.uuid].map
    if track.blank:
        return 0
    geometry = volume.geometry
    return written_since(mark.holds, geometry.length_bytes, geometry.region_bytes, track.bits, offer.region_bytes)


def _unfit(message: str, hint: str) -> Refused:
    return Refused("stream_unfit", message, hint)


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


def must_go_on(receiving: Receiving, offer: Offer) -> None:
    """Refused('stream_unfit') where a stream that goes on does not begin where the other one was cut."""
    ours = (receiving.stream, receiving.chunks, receiving.offset_bytes, receiving.chain)
    if ours != (offer.stream, offer.chunks, offer.offset_bytes, offer.chain):
        raise _unfit(
            f"the stream goes on after chunk {offer.chunks}, and what has come ends at chunk {receiving.chunks}, or is "
            "of another stream",
            "fmrctl receive VOL --token tells where it goes on",
        )


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


async def note(pair: Pair, receiving: Receiving) -> None:
    """Record how far it has come: all before is durable on the snapshot's plex."""
    service = _started(pair)
    async with service.running.verb():
        pair.volume.settings = replace(pair.volume.settings, receiving=receiving)
        await service.mirror.store.commit()


async def take(pair: Pair, receiving: Receiving, *, force: bool, rate: int) -> list[Task]:
    """All of it has come, verified and durable: make it the volume's. Return the tasks that copy it to the plexes.
    Refused as a restore is.
    """
    registry, origin = pair.registry, pair.origin
    _started(pair)
    [carrier] = pair.volume.plexes
    family = origin.mirror.store.family
    column, now = origin.volume.settings.drl, registry.context.now()
    mark = Mark(RECEIVED, registry.context.new_uuid(), column, now, holds=receiving.content)

    def check() -> None:
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
