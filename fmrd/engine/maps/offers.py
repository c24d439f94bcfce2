"""A stream offers itself: from what it leads, and to what. It is taken only where the volume holds the first."""

from dataclasses import dataclass

from fmrd.core.marks import RECEIVED, written_since
from fmrd.core.records.parts import Content, Mark, Receiving
from fmrd.core.volume.volume import Volume
from fmrd.engine.maps.marking import must_have_room
from fmrd.engine.snapshots.breakoffs import must_be_original
from fmrd.errors import Refused


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


def must_go_on(receiving: Receiving, offer: Offer) -> None:
    """Refused('stream_unfit') where a stream that goes on does not begin where the other one was cut."""
    ours = (receiving.stream, receiving.chunks, receiving.offset_bytes, receiving.chain)
    if ours != (offer.stream, offer.chunks, offer.offset_bytes, offer.chain):
        raise _unfit(
            f"the stream goes on after chunk {offer.chunks}, and what has come ends at chunk {receiving.chunks}, or is "
            "of another stream",
            "fmrctl receive VOL --token tells where it goes on",
        )
