"""An open plex is its data, its copy of the DCO, the calls under way on both, and the writes that may land yet.

Everything that belongs to a plex while its files are open is in one object, in one dict of its volume
(``Mirror.opened``, by plex uuid), from which the volume's store takes the copies of the DCO, too. A plex that moves to
another volume is one pop and one assignment. Its lanes alone outlive it, with the family's ``Home``: a call that hangs
counts until it has landed, whoever has let go of the files by then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fmrd.backing.calls.system_calls import Call, Lane
from fmrd.backing.protocol import Backing
from fmrd.core.measures.latency import Latencies, Latency, Sampled
from fmrd.core.stamps import Stamp
from fmrd.dco.copy import DcoCopy
from fmrd.engine.serving.ranges import Claim, overlap
from fmrd.engine.serving.writes_under_way import Landing, Writer, refuse, refuse_sync


@dataclass
class Lanes:
    """Lanes have the system calls under way on one plex, on its data and on its DCO. They outlive descriptors."""

    name: str
    data: Lane = field(init=False)
    dco: Lane = field(init=False)
    known: bool = False
    """The plex was open since: what was under way there before is over, and these tell all."""
    slow: str | None = None
    """In which way it is much slower than its peers: a sentence."""

    def __post_init__(self) -> None:
        self.data = Lane(self.name)
        self.dco = Lane(f"{self.name} dco")

    def begin_measuring(self) -> None:
        """Its volume was started: what is counted begins with that."""
        self.data.took = Latencies()
        self.slow = None

    @property
    def outstanding(self) -> int:
        """Return how many calls have not returned."""
        return self.data.outstanding + self.dco.outstanding

    @property
    def unproven(self) -> int:
        """Return how many failed on the far side of something, where an error does not end a call."""
        return len(self.data.unproven) + len(self.dco.unproven)

    def settle(self) -> None:
        """Take it that these are over: by a proof, or by somebody's word."""
        for call in self.data.unproven:
            if isinstance(call.run, Landing):
                call.run.landed = True
        self.data.settle()
        self.dco.settle()

    async def closed(self, timeout_seconds: float) -> None:
        """As ``Lane.closed``, of both."""
        if not self.dco.hangs:
            await self.data.closed(timeout_seconds)

    async def idle(self) -> None:
        """Return when no call is outstanding."""
        await self.data.idle()
        await self.dco.idle()


@dataclass(eq=False)
class OpenPlex:
    """This is a plex that a started volume has open. ``files.let_go`` closes it, never under a call that hangs."""

    backing: Backing
    lanes: Lanes
    dco_copy: DcoCopy
    opened_as: Stamp | None = None
    """How it looked then; None of a file that was made just then."""

    def __post_init__(self) -> None:
        self.inline = self.backing.inline
        self.begins = self.backing.begins
        self.now = self.begins
        """A small write may be tried in the step that asks for it; what has to wait begins in that very step."""
        self.lane = self.lanes.data
        self.lanes.known = True
        self.lanes.data.far = bool(self.backing.far)
        self.lanes.dco.far = bool(self.dco_copy.file.far)

    def writing(
        self, run: Callable[[], object], spans: Claim, *, inline: bool, latency: Latency | Sampled | None = None
    ) -> Call:
        """Return the call of a write to these [start, stop) in bytes, which whoever asks holds. Where one that was
        given up has not landed there, the call fails at once with ETIMEDOUT: the late one would overwrite it.
        """
        if self.lane.late and self.late(spans):
            return Call(self.lane, refuse, inline=True, changes=False)
        return self._writing(run, spans, inline, latency)

    def writing_parts(self, parts: Sequence[tuple[int, bytes | memoryview]], weight: int) -> Call:
        """The same of these (offset, data), where whoever asks knows that nothing that was given up may land there.
        They stand for ``weight`` of their kind in its times; 0: none is taken.
        """
        took, writer = self.lane.took.write, Writer(self.backing, parts)
        latency = None if not weight else took if weight == 1 else took.sampled
        return self._writing(writer, writer.spans, self.inline, latency)

    def _writing(
        self, run: Callable[[], object], spans: Claim, inline: bool, latency: Latency | Sampled | None
    ) -> Call:  # fmt: skip
        landing = Landing(run, spans, self.lane.far)
        begin = landing.begin if self.begins and isinstance(run, Writer) else None
        return Call(self.lane, landing, inline, True, True, begin, latency)

    def landed(self, call: Call, error: Exception | None) -> None:
        """A write that was given up has ended (Fan)."""
        assert isinstance(call.run, Landing), "it writes"
        call.run.note(error)

    def syncing(self) -> Call:
        """Return the call of an fdatasync. While one that was given up has not returned, it fails at once (ETIMEDOUT):
        the late one may be told of what was lost, and the kernel tells once.
        """
        backing, lane = self.backing, self.lane
        if lane.late and any(call.run == backing.fdatasync for call in lane.late if call not in lane.unproven):
            return Call(lane, refuse_sync, inline=True, changes=False)
        begin = backing.begin_fdatasync if self.begins else None
        return Call(self.lane, backing.fdatasync, self.inline, begin=begin, latency=self.lane.took.flush)

    def late(self, spans: Claim) -> list[Landing]:
        """What was given up there and has not landed. ``lane.late`` is empty where there is none: ask that first."""
        given_up = [call.run for call in self.lane.late if isinstance(call.run, Landing)]
        return [each for each in given_up if not each.landed and overlap(each.spans, spans)]

    def may_change(self, start: int, stop: int) -> bool:
        """May a write that was given up still change some of these bytes? Then nobody reads them here. As ``late``."""
        return bool(self.late(((start, stop),)))

    @property
    def is_far(self) -> bool:
        """Is any of its files behind somebody else?"""
        return bool(self.backing.far or self.dco_copy.file.far)

    def hang_up(self) -> None:
        """Calls on it were given up, and it has left: what they would still do is not waited for (Reach.hang_up)."""
        self.backing.hang_up()
        self.dco_copy.file.hang_up()

    @property
    def hangs(self) -> bool:
        """Has a call on it been given up that has not returned?"""
        return self.lanes.data.hangs or self.lanes.dco.hangs

    def close(self) -> None:
        """Give up the descriptors and the lock."""
        self.backing.close()
        self.dco_copy.file.close()


Parts = Sequence[tuple[int, int]]
"""(offset, length) in bytes of what one plex takes of a write."""
ToCall = Callable[[OpenPlex, Parts], Call]
"""This makes a call of what a write is on one disk."""
