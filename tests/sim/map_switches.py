"""The rules of marks and of what is told of changes as switches, as those of switches.py."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from bitarray import bitarray

from fmrd.core.decisions import changes, recovery, snapback
from fmrd.core.maps.bitmap import Bitmap
from fmrd.core.volume.volume import Volume
from fmrd.dco.ledger import change
from fmrd.engine.maps import receiving
from fmrd.engine.snapshots.pairs import Pair
from fmrd.engine.tasks import Task
from tests.sim.switches import while_cleaning


def _of_marks(volume: Volume) -> set[int]:
    """Columns."""
    return {volume.tracks[mark.uuid].column.index for mark in volume.settings.marks}


def _not_tracked() -> AbstractContextManager[Any]:
    def track(self: Volume, regions: range) -> None:
        for each in self.tracks.values():
            if each.column.index not in _of_marks(self):
                each.map.mark(regions)

    return patch.object(Volume, "_track", track)


@contextmanager
def _lazy() -> Iterator[None]:
    """Their pages are not written before an extent leaves the DRL."""
    real = Volume.touched_pages
    with while_cleaning() as cleaning:

        def touched(self: Volume) -> list[tuple[int, int]]:
            marks = _of_marks(self)
            return [key for key in real(self) if key[0] not in marks or not cleaning()]

        with patch.object(Volume, "touched_pages", touched):
            yield


def _no_drl_after_a_crash() -> AbstractContextManager[Any]:
    return patch.object(recovery, "_inherit", lambda track, dirty: None)


@contextmanager
def _a_restore_is_not_in_it() -> Iterator[None]:
    real, gain = snapback.from_replica, snapback._gain

    def run(family: Any, origin: Volume, *others: Any) -> bitarray:
        marks = _of_marks(origin)

        def spare(bitmap: Bitmap, changed: bitarray) -> None:
            if bitmap.column.index not in marks:
                gain(bitmap, changed)

        with patch.object(snapback, "_gain", spare):
            return real(family, origin, *others)

    with patch.object(snapback, "from_replica", run):
        yield


def _half_of_it() -> AbstractContextManager[Any]:
    def half(origin: Volume, snapshot: Volume, other: Volume) -> bitarray:
        return changes.since_original(origin, snapshot)

    return patch.object(changes, "since_snapshot", half)


def _held_afterwards() -> AbstractContextManager[Any]:
    """Another record says what the volume holds."""
    real = receiving.restore

    async def restore(pair: Pair, *others: Any, also: Callable[[], None], **options: Any) -> list[Task]:
        tasks = await real(pair, *others, **options)
        await change([pair.origin.mirror.store], also)
        return tasks

    return patch.object(receiving, "restore", restore)


SWITCHES = {
    "receive: of the turn in which it was written": lambda: patch.object(receiving, "must_be_whole", lambda *_: None),
    "receive: what is held is recorded with the data": _held_afterwards,
    "mark: what is written is in it": _not_tracked,
    "mark: its map before the DRL clears": _lazy,
    "mark: its map inherits the DRL": _no_drl_after_a_crash,
    "mark: a restore is in it": _a_restore_is_not_in_it,
    "changed: by the maps of both snapshots": _half_of_it,
}
"""Rule -> a context manager that takes it out."""
