"""What a volume's plexes hold, region by region, and what an application may see of it: the model of the state machine.

A region's content is one label, the number of the write that put it there.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.core.making import REGIONS


class Disk:
    """The data of one plex: what its cache shows, and what its disk holds. A failed fdatasync drops what it covered.

    One thing is left out. Killed between a failed fdatasync and the record of what it meant, a daemon starts again with
    a cache that shows what the disk will never get, and nobody tells it; here such a kill finds the drop undone.
    """

    def __init__(self) -> None:
        self.cache = [0] * REGIONS
        self.disk = [0] * REGIONS
        self.unsynced: list[list[int]] = [[] for _ in range(REGIONS)]
        self.dropped: list[list[int]] = [[] for _ in range(REGIONS)]
        """By an fdatasync whose failure is not recorded yet."""

    def write(self, region: int, label: int) -> None:
        self.cache[region] = label
        self.unsynced[region].append(label)

    def mark(self) -> list[int]:
        """What an fdatasync that begins now covers: how many labels of each region."""
        return [len(labels) for labels in self.unsynced]

    def end_sync(self, mark: list[int], *, failed: bool) -> None:
        for region, count in enumerate(mark):
            labels = self.unsynced[region]
            if failed:
                self.dropped[region] += labels[:count]
            elif count:
                self.disk[region] = labels[count - 1]
                self.dropped[region] = []
            del labels[:count]

    def recorded(self) -> None:
        self.dropped = [[] for _ in range(REGIONS)]

    def kill(self) -> None:
        self.unsynced = [[*a, *b] for a, b in zip(self.dropped, self.unsynced, strict=True)]
        self.recorded()

    def lose_power(self, choose: Callable[[list[int]], int]) -> None:
        for region, labels in enumerate(self.unsynced):
            if labels:
                self.disk[region] = choose([self.disk[region], *labels])
        self.cache = list(self.disk)
        self.unsynced = [[] for _ in range(REGIONS)]
        self.recorded()


@dataclass
class Oracle:
    """``now``: the labels that a read may return; ``stable``: those it may return after a power loss."""

    now: list[set[int]] = field(default_factory=lambda: [{0} for _ in range(REGIONS)])
    stable: list[set[int]] = field(default_factory=lambda: [{0} for _ in range(REGIONS)])
    label: int = 0
    flushes: list[list[set[int]]] = field(default_factory=list)

    def issue(self, regions: Iterable[int]) -> int:
        self.label += 1
        for region in regions:
            for place in (self.now, self.stable, *self.flushes):
                place[region].add(self.label)
        return self.label

    def acknowledge(self, regions: Iterable[int], label: int) -> None:
        for region in regions:
            self.now[region] = {label}

    def begin_flush(self) -> list[set[int]]:
        self.flushes.append([set(labels) for labels in self.now])
        return self.flushes[-1]

    def end_flush(self, flush: list[set[int]], *, acknowledged: bool) -> None:
        self.flushes = [other for other in self.flushes if other is not flush]
        if acknowledged:
            for region, labels in enumerate(flush):
                self.stable[region] &= labels

    def seen(self, region: int, label: int) -> None:
        """A read: no region changes its mind."""
        assert label in self.now[region], f"region {region} reads {label}, allowed is {sorted(self.now[region])}"
        self.now[region] = {label}

    def crash(self, *, power: bool) -> None:
        self.flushes.clear()
        if power:
            self.now = [set(labels) for labels in self.stable]
        else:
            self.stable = [a | b for a, b in zip(self.stable, self.now, strict=True)]
