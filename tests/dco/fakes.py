"""A store over copies in memory, with calls that are run where they are asked, and trouble on order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import trio

from fmrd.backing.calls.system_calls import Call, Lane, Outcome, outcome_of
from fmrd.backing.protocol import DCO_BLOCK_BYTES
from fmrd.core.record import Record, geometry_of
from fmrd.core.records.rows import Rows
from fmrd.core.states import PlexState
from fmrd.core.volume.family import Family
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco import layout
from fmrd.dco.copy import DcoCopy
from fmrd.dco.ledger import Ledger
from fmrd.dco.loading import Loaded, load
from fmrd.dco.store import Store
from tests.core.making import FAMILY, plex_record, volume_record

COLUMNS = 10


@dataclass
class Trouble:
    """``writes`` lists (path, offset) of every write that was tried, in order, over all files that share it."""

    writes: list[tuple[str, int]] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    """Paths whose writes fail, tearing what they should write."""
    torn_after: int | None = None
    """The machine stops after so many more blocks."""

    def stop(self) -> None:
        self.torn_after = 0


class MemoryDco:
    """A DcoFile. A write that fails leaves noise where it should have written."""

    far = fence = ""

    def __init__(self, path: str, length: int, trouble: Trouble) -> None:
        self.path = path
        self.tail = None
        self.length = length
        self.data = bytearray(length)
        self.trouble = trouble

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.data[offset : offset + length]).ljust(length, b"\0")

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        assert offset % DCO_BLOCK_BYTES == 0 and len(data) % DCO_BLOCK_BYTES == 0
        assert offset + len(data) <= self.length
        self.trouble.writes.append((self.path, offset))
        for at in range(0, len(data), DCO_BLOCK_BYTES):
            whole = self.trouble.torn_after is None or self.trouble.torn_after > 0
            if self.trouble.torn_after is not None:
                self.trouble.torn_after -= 1
            block = bytes(data[at : at + DCO_BLOCK_BYTES])
            if self.path in self.trouble.failing or not whole:
                block = b"noise".ljust(DCO_BLOCK_BYTES, b"\xaa")
            self.data[offset + at : offset + at + DCO_BLOCK_BYTES] = block
            if not whole:
                raise OSError(5, "the machine stopped")
        if self.path in self.trouble.failing:
            raise OSError(5, "Input/output error")

    def reserve(self, length: int, spans: Sequence[tuple[int, int]]) -> None:
        self.extend(length)

    def extend(self, length: int) -> None:
        self.data.extend(bytes(length - self.length))
        self.length = length

    def hang_up(self) -> None:
        pass

    def close(self) -> None:
        pass


class Inline:
    """SystemCalls that run calls in place, after a checkpoint; ``gate`` holds up the batches of which it says so."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        """The lanes of each at_once."""
        self.gate: Callable[[Sequence[Call]], trio.Event | None] = lambda calls: None

    async def in_turn(self, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
        return await self.at_once(calls, timeout_seconds)

    async def at_once(self, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
        self.batches.append([call.lane.name for call in calls])
        await trio.lowlevel.checkpoint()
        event = self.gate(calls)
        if event is not None:
            await event.wait()
        return [outcome_of(call) for call in calls]


@dataclass
class Carrier:
    """An open plex, as far as a store knows it."""

    dco_copy: DcoCopy


class Rig:
    """A family of one volume with these plexes, its home copy and a travelling copy for each, all committed once."""

    def __init__(self, *states: PlexState) -> None:
        records = [plex_record(number, state) for number, state in enumerate(states, 1)]
        settings = volume_record()
        self.plexes = [Plex(p, geometry_of(settings), full=p.state is not PlexState.ACTIVE) for p in records]
        self.volume = Volume(settings, self.plexes)
        self.family = Family(FAMILY, "first", 0, Rows(COLUMNS), 50, [self.volume])
        self.trouble = Trouble()
        self.system = Inline()
        self.told: list[str] = []
        self.home = self.copy("home", layout.HOME)
        self.ledger = Ledger(self.family, self.home, self.system, timeout_seconds=1)
        self.opened: dict[str, Carrier] = {}
        self.store = Store(
            self.ledger, self.volume, self.opened, timeout_seconds=1,
            failed=lambda plex, why: self.told.append(plex.name),
        )  # fmt: skip

    def copy(self, name: str, owner: str) -> DcoCopy:
        size = layout.copy_bytes(self.volume.geometry.pages, COLUMNS)
        return DcoCopy(name, MemoryDco(name, size, self.trouble), Lane(name), FAMILY, self.family.rows, owner)

    async def start(self) -> "Rig":
        """Everything written for the first time; from here on ``writes`` begins anew."""
        for plex in self.plexes:
            if plex.is_open:
                self.opened[plex.uuid] = Carrier(self.copy(plex.name, plex.uuid))
        await self.store.commit(everything=True)
        self.trouble.writes.clear()
        self.system.batches.clear()
        return self

    def open(self, plex: Plex, copy: DcoCopy) -> None:
        """The step that ends a join."""
        self.opened[plex.uuid] = Carrier(copy)
        self.volume.open_gate(plex)

    def read(self, name: str = "home") -> Loaded:
        """What a start would find on that copy."""
        return load(self.file(name))

    def record(self, name: str = "home") -> Record:
        record = self.read(name).image.record
        assert record is not None
        return record

    def file(self, name: str) -> MemoryDco:
        copies = [self.home, *(carrier.dco_copy for carrier in self.opened.values())]
        [file] = [copy.file for copy in copies if copy.name == name]
        assert isinstance(file, MemoryDco)
        return file

    def missing(self, number: int, name: str = "home") -> set[int]:
        """The map of a plex as a copy tells it."""
        column = self.plexes[number].column
        loaded = self.read(name)
        found: set[int] = set()
        for page in range(self.volume.geometry.pages):
            slot = loaded.image.newest(column, page)
            assert slot is not None, f"page {page} cannot be read"
            found |= {page * self.volume.geometry.page_regions + bit for bit in slot.bits.search(1)}
        return found

    def kinds(self) -> list[tuple[str, str]]:
        """What was written since, in order: (copy, 'record' or 'page'), each stretch told once."""
        kinds = [
            (path, "record" if offset < 2 * layout.RECORD_SLOT_BYTES else "page")
            for path, offset in self.trouble.writes
        ]
        return [kind for at, kind in enumerate(kinds) if at == 0 or kinds[at - 1] != kind]


def in_another_epoch(rig: Rig, number: int) -> None:
    """As a verb that empties or seeds a map does."""
    plex = rig.plexes[number]
    plex.column = replace(plex.column, epoch=rig.family.next_epoch)
    rig.family.next_epoch += 1
