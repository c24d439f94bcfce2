"""A mark tells what was written to a volume since it was set, without a copy of what the volume held then.

Its map is one of the volume's tracks, like those of snapshots, and follows the same rules: marked in the step that
chooses a write's targets, written before an extent leaves the DRL, joined with the DRL after a crash. Besides, a mark
knows which snapshots were taken since. What a stream brought (`receive`) is such a mark, too: what the volume held then
has a name, and while the map is empty the volume holds that still.
"""

from dataclasses import replace

from bitarray import bitarray

from fmrd.core.records.parts import Content, Mark

RECEIVED = "received"
"""The mark of what a stream brought; nobody else's may have this name."""

MOST_COVERED = 64
"""Snapshots that a mark remembers, the newest ones: a record has a fixed room."""

MOST_MARKS = 8
"""Of one volume: each costs a column of the DCO, and a little of the record."""


def covering(mark: Mark, snapshot: str) -> Mark:
    """Return the mark as it is once a snapshot of that uuid was taken."""
    return replace(mark, covers=(*mark.covers, snapshot)[-MOST_COVERED:])


def written_since(holds: Content, length_bytes: int, region_bytes: int, written: bitarray, sent_bytes: int) -> int:
    """Return how many regions of a volume were written since it held that. What a growth added was not written: who
    sends the next increment, in regions of ``sent_bytes`` (0: nobody knows), marks all from the one that was short on.
    What lies before that counts, though the growth has marked it here, too, where regions are larger here.
    """
    if length_bytes <= holds.length_bytes:
        return written.count(1)
    sent_from = holds.length_bytes - (holds.length_bytes % sent_bytes if sent_bytes else 0)
    return written.count(1, 0, -(-sent_from // region_bytes))
