"""What an application may see: an independent record of every write, granule by granule.

``now[g]``: the labels a read of granule g may return while the daemon lives, or after a kill. ``stable[g]``: the labels
it may return after power was lost. A write adds its label to both when it is issued; its acknowledgement takes the
older ones out of ``now``, a flush takes them out of ``stable``. A read pins what it saw: no granule changes its mind.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field


class Broken(AssertionError):
    """A promise was not kept."""


@dataclass(eq=False)
class Write:
    label: int
    granules: range
    rivals: set[int] = field(default_factory=set)
    """Labels whose order relative to this write is open: writes under way during any part of it."""


@dataclass(eq=False)
class Read:
    granules: range
    allowed: dict[int, set[int]]
    disturbed: set[int] = field(default_factory=set)
    """Granules written to meanwhile: what was read there pins nothing."""


class Labels:
    """What writes write: no two the same, whatever the volume; 0 is what was never written, and zeros."""

    def __init__(self) -> None:
        self.last = 0

    def next(self) -> int:
        self.last += 1
        return self.last


class Oracle:
    def __init__(self, granules: int, labels: "Labels | None" = None) -> None:
        self.now: list[set[int]] = [{0} for _ in range(granules)]
        self.stable: list[set[int]] = [{0} for _ in range(granules)]
        self.quiet: set[int] = set()
        """Granules not written since power was lost: nothing of them is in a cache, so a read pins ``stable`` too."""
        self.labels = labels if labels is not None else Labels()
        self._writes: set[Write] = set()
        self._reads: set[Read] = set()
        self._flushes: list[list[set[int]]] = []

    def begin_write(self, granules: range, *, zeros: bool = False) -> Write:
        write = Write(0 if zeros else self.labels.next(), granules)
        for other in self._writes:
            if set(other.granules) & set(granules):
                other.rivals.add(write.label)
                write.rivals.add(other.label)
        self._writes.add(write)
        for read in self._reads:
            for g in read.granules:
                if g in granules:
                    read.allowed[g].add(write.label)
                    read.disturbed.add(g)
        self.quiet.difference_update(granules)
        for g in granules:
            self.now[g].add(write.label)
            self.stable[g].add(write.label)
            for flush in self._flushes:
                flush[g].add(write.label)
        return write

    def end_write(self, write: Write, *, acknowledged: bool) -> None:
        """Not acknowledged: it failed, or nobody lived to hear; any part of it may be there, for ever."""
        self._writes.discard(write)
        if acknowledged:
            for g in write.granules:
                self.now[g] = {write.label} | (self.now[g] & write.rivals)

    def begin_read(self, granules: range) -> Read:
        read = Read(granules, {g: set(self.now[g]) for g in granules})
        read.disturbed.update(g for w in self._writes for g in w.granules if g in granules)
        self._reads.add(read)
        return read

    def end_read(self, read: Read, labels: Iterable[int] | None) -> None:
        """``labels`` by granule; None: the read failed."""
        self._reads.discard(read)
        if labels is None:
            return
        for g, label in zip(read.granules, labels, strict=True):
            if label not in read.allowed[g]:
                raise Broken(f"granule {g} reads {label}, allowed {sorted(read.allowed[g])}")
            if g not in read.disturbed:
                self.now[g] = {label}
                if g in self.quiet:
                    self.stable[g] = {label}

    def begin_flush(self) -> list[set[int]]:
        """Only acknowledged writes are promised: what is allowed now, and what is written from here on."""
        flush = [set(s) for s in self.now]
        self._flushes.append(flush)
        return flush

    def end_flush(self, flush: list[set[int]], *, acknowledged: bool) -> None:
        self._flushes = [f for f in self._flushes if f is not flush]
        if acknowledged:
            for g, allowed in enumerate(flush):
                self.stable[g] &= allowed

    def crash(self, *, power: bool) -> None:
        self._writes.clear()
        self._reads.clear()
        self._flushes.clear()
        if power:
            self.now = [set(s) for s in self.stable]
            self.quiet = set(range(len(self.now)))
        else:
            self.stable = [a | b for a, b in zip(self.stable, self.now, strict=True)]

    def forgets(self) -> None:
        """What is not durable may be gone, or may be there."""
        self.now = [a | b for a, b in zip(self.stable, self.now, strict=True)]
        for read in self._reads:
            for g in read.granules:
                read.allowed[g] |= self.now[g]

    def becomes(self, sets: list[set[int]]) -> None:
        """All of it holds one of these, durably."""
        granules = len(self.now)
        self.now = [set(s) for s in sets]
        self.stable = [set(s) for s in sets]
        self.quiet = set()
        self.grow(granules)

    def grow(self, granules: int) -> None:
        """At least so many; what is new reads as zeros."""
        more = max(0, granules - len(self.now))
        self.now += [{0} for _ in range(more)]
        self.stable += [{0} for _ in range(more)]
        for flush in self._flushes:
            flush += [{0} for _ in range(more)]

    def check(self, granule: int, label: int, where: str) -> None:
        if label not in self.now[granule]:
            raise Broken(f"{where}: granule {granule} holds {label}, allowed {sorted(self.now[granule])}")
