"""Simulated copies of the DCO, and notes in the state directory; the fault model is that of disks.py."""

import errno
import random
from collections.abc import Sequence
from functools import partial

from fmrd.backing.protocol import DCO_BLOCK_BYTES
from tests.sim.disks import SECTOR, Bench, Faults
from tests.sim.sessions import Server

_BLANK = bytes(DCO_BLOCK_BYTES)


class SimDco:
    """One copy of the DCO, in blocks (see fmrd.backing.protocol.DcoFile). ``plex``: the path of the one it lies beside,
    on the same server; None of a home copy.
    """

    def __init__(self, machine: "Bench", path: str, length: int, plex: str | None = None) -> None:
        self.machine = machine
        self.path = path
        self.plex = plex
        server = machine.sessions.server(plex) if plex is not None else Server()
        self.far, self.fence = server.far, server.fence
        self.length = length
        self.blocks: dict[int, bytes] = {}
        self.faults = Faults()
        self.tail: int | None = None

    def _must_be_there(self) -> None:
        if self.plex is not None:
            self.machine.sessions.must_be_there(self.plex)

    def read(self, offset: int, length: int) -> bytes:
        self.machine.alive()
        self._must_be_there()
        if self.faults.dead:
            raise OSError(errno.EIO, "simulated dead disk")
        first, stop = offset // DCO_BLOCK_BYTES, -(-(offset + length) // DCO_BLOCK_BYTES)
        data = b"".join([self.blocks.get(i, _BLANK) for i in range(first, stop)])
        return data[offset - first * DCO_BLOCK_BYTES :][:length]

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.machine.alive()
        failing = self.faults.dead or self.faults.fail_writes > 0
        self.faults.fail_writes = max(0, self.faults.fail_writes - 1)
        if self.faults.dead:
            raise OSError(errno.EIO, "simulated dead disk")
        assert offset % DCO_BLOCK_BYTES == 0 and len(data) % DCO_BLOCK_BYTES == 0
        if offset + len(data) > self.length:
            raise OSError(errno.ENOSPC, "beyond the copy's end")
        first = offset // DCO_BLOCK_BYTES
        rng, sessions = self.machine.rng, self.machine.sessions
        gone = self.plex is not None and bool(self.far) and (self.machine.cutting or sessions.is_lost(self.plex))
        for i in range(len(data) // DCO_BLOCK_BYTES):
            block = bytes(data[i * DCO_BLOCK_BYTES : (i + 1) * DCO_BLOCK_BYTES])
            if gone and self.plex is not None:
                sessions.cut_off(self.plex, partial(self.blocks.__setitem__, first + i, block))
                continue
            if self.machine.cutting == "power" or failing:
                old = self.blocks.get(first + i, _BLANK)
                block = _torn(old, block, rng)
            elif self.machine.cutting and rng.random() < 0.5:
                continue
            self.blocks[first + i] = block
        if gone:
            self._must_be_there()
        if failing:
            raise OSError(errno.EIO, "simulated write error")

    def reserve(self, length: int, spans: Sequence[tuple[int, int]]) -> None:
        self.extend(length)

    def extend(self, length: int) -> None:
        self.machine.alive()
        self._must_be_there()
        if self.faults.dead:
            raise OSError(errno.EIO, "simulated dead disk")
        self.length = max(self.length, length)

    def hang_up(self) -> None:
        pass

    def close(self) -> None:
        pass


class SimNotes:
    """A plain file in the state directory (see fmrd.backing.protocol.Notes). Power loss takes any of the writes since
    the last sync, or part of one.
    """

    def __init__(self, machine: "Bench") -> None:
        self.machine = machine
        self._shown = self._synced = b""
        self._unsynced: list[tuple[int, bytes]] = []

    def read(self, offset: int, length: int) -> bytes:
        self.machine.alive()
        return self._shown[offset : offset + length].ljust(length, b"\0")

    def write(self, offset: int, data: bytes) -> None:
        self.machine.alive()
        if self.machine.cutting:
            data = data[: self.machine.rng.randrange(len(data) + 1)]
        self._shown = _patched(self._shown, offset, data)
        self._unsynced.append((offset, data))

    def sync(self) -> None:
        self.machine.alive()
        if not self.machine.cutting:
            self._synced, self._unsynced = self._shown, []

    def close(self) -> None:
        pass

    def lose_power(self, rng: random.Random) -> None:
        for offset, data in self._unsynced:
            kept = rng.choice([0, len(data), len(data) // 16 * 8])
            self._synced = _patched(self._synced, offset, data[:kept])
        self._shown, self._unsynced = self._synced, []


def _patched(content: bytes, offset: int, data: bytes) -> bytes:
    return content[:offset].ljust(offset, b"\0") + data + content[offset + len(data) :]


def _torn(old: bytes, new: bytes, rng: random.Random) -> bytes:
    return b"".join([(new if rng.random() < 0.5 else old)[at : at + SECTOR] for at in range(0, len(old), SECTOR)])
