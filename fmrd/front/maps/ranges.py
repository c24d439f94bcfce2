"""What the daemon tells of a difference, as byte ranges: one after the other, however many there are."""

import base64
import binascii
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from bitarray import bitarray

from fmrd.core.geometry import MAX_REGIONS, Geometry
from fmrd.core.json_object import Json
from fmrd.core.maps.regionmap import runs_of
from fmrd.errors import Failed

DATA, ZERO, SAME = "data", "zero", "same"


@dataclass(frozen=True)
class Range:
    """A range of bytes. ``kind`` is 'data', 'zero' (surely nothing but zeros) or 'same'."""

    offset: int
    length: int
    kind: str

    @property
    def stop(self) -> int:
        return self.offset + self.length


class Changes:
    """What two states of a volume may differ by; ``told`` is the daemon's answer to 'changed'."""

    def __init__(self, told: Json) -> None:
        self.told = told
        self.geometry = Geometry(told["length_bytes"], told["region_size_bytes"])
        self.bits = unpacked(told["changed"], self.geometry.regions)
        self.zero = unpacked(told["zero"], self.geometry.regions) & self.bits

    @property
    def zero_bytes(self) -> int:
        """How many bytes of what changed are surely zeros."""
        return self.geometry.bytes_in(self.zero.count(), bool(self.zero[-1]))

    def ranges(self) -> Iterator[Range]:
        """Yield what changed, in order, merged as far as it is of one kind."""
        for run in runs_of(self.bits):
            yield from self._of_one_kind(run)

    def all_ranges(self) -> Iterator[Range]:
        """Yield all of the volume, in order and without a gap: what did not change is 'same'."""
        at = 0
        for found in self.ranges():
            if at < found.offset:
                yield Range(at, found.offset - at, SAME)
            yield found
            at = found.stop
        if at < self.geometry.length_bytes:
            yield Range(at, self.geometry.length_bytes - at, SAME)

    def _of_one_kind(self, run: range) -> Iterator[Range]:
        start = run.start
        while start < run.stop:
            is_zero = bool(self.zero[start])
            stop = self.zero.find(not is_zero, start, run.stop)
            stop = run.stop if stop == -1 else stop
            offset, length = self.geometry.bytes_of(range(start, stop))
            yield Range(offset, length, ZERO if is_zero else DATA)
            start = stop


class Blank:
    """Where a volume holds nothing but zeros already, as the daemon tells."""

    def __init__(self, packed: str, length_bytes: int, region_bytes: int) -> None:
        geometry = Geometry(length_bytes, region_bytes)
        self._region_bytes = region_bytes
        self._bits = unpacked(packed, geometry.regions)

    def others(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of what in that range may be something else."""
        stop = offset + length
        while offset < stop:
            region = offset // self._region_bytes
            is_blank = self._bits[region]
            other = self._bits.find(not is_blank, region + 1)
            end = stop if other == -1 else min(stop, other * self._region_bytes)
            if not is_blank:
                yield offset, end - offset
            offset = end


def unpacked(packed: str, regions: int) -> bitarray:
    """Return so many bits of what the daemon packed; Failed('failed') for anything else."""
    try:
        if regions > MAX_REGIONS:
            raise ValueError("too many regions")
        size = -(-regions // 8)
        raw = zlib.decompressobj().decompress(base64.b64decode(packed, validate=True), size + 1)
        if len(raw) != size:
            raise ValueError(f"{len(raw)} bytes, {size} expected")
    except (ValueError, TypeError, binascii.Error, zlib.error) as error:
        raise Failed("failed", f"the daemon's map cannot be read: {error}") from error
    bits = bitarray(endian="little")
    bits.frombytes(raw)
    return bits[:regions]
