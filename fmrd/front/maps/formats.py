"""What changed, written down for others: ranges, a map of ddrescue, a map of borg, JSON. One range after the other."""

import json
from collections.abc import Callable, Iterator
from typing import TypeVar

from fmrd.core.json_object import Json
from fmrd.front.maps.ranges import SAME, Changes

LINES_AT_A_TIME = 4096
Write = Callable[[str], object]
T = TypeVar("T")


def write_ranges(changes: Changes, write: Write) -> None:
    """OFFSET LENGTH KIND, in bytes; only what changed."""
    _lines((f"{each.offset} {each.length} {each.kind}" for each in changes.ranges()), write)


def write_borg(changes: Changes, write: Write) -> None:
    """The map of 'borg create --map': all of the volume without a gap, START LENGTH STATE."""
    _lines((f"{each.offset} {each.length} {each.kind}" for each in changes.all_ranges()), write)


def write_ddrescue(changes: Changes, write: Write) -> None:
    """A mapfile of ddrescue: what changed is finished ('+'), so that --domain-mapfile takes that and nothing else."""

    def lines() -> Iterator[str]:
        yield f"# Mapfile. What changed in {changes.told['volume']} since {changes.told['side']} is '+'"
        yield "# current_pos  current_status"
        yield "0x00000000     +"
        yield "#      pos        size  status"
        for each in _two_kinds(changes):
            yield f"0x{each[0]:08X}  0x{each[1]:08X}  {each[2]}"

    _lines(lines(), write)


def _two_kinds(changes: Changes) -> Iterator[tuple[int, int, str]]:
    """Neighbours of one status are one block."""
    start, status = 0, ""
    for each in changes.all_ranges():
        now = "?" if each.kind == SAME else "+"
        if now != status:
            if status:
                yield start, each.offset - start, status
            start, status = each.offset, now
    yield start, changes.geometry.length_bytes - start, status


def write_json(changes: Changes, write: Write, output_version: int) -> None:
    """One object, on one line."""
    told = changes.told
    head: Json = {"output_version": output_version}
    head |= {key: told[key] for key in ("volume", "side", "length_bytes", "region_size_bytes", "regions", "bytes")}
    write(json.dumps(head)[:-1] + ', "ranges": [')
    separator = ""
    for batch in _batches(changes.ranges()):
        items = ({"offset_bytes": r.offset, "length_bytes": r.length, "kind": r.kind} for r in batch)
        write(separator + ", ".join(json.dumps(item) for item in items))
        separator = ", "
    write("]}\n")


def _batches(items: Iterator[T]) -> Iterator[list[T]]:
    batch: list[T] = []
    for each in items:
        batch.append(each)
        if len(batch) == LINES_AT_A_TIME:
            yield batch
            batch = []
    if batch:
        yield batch


def _lines(lines: Iterator[str], write: Write) -> None:
    for batch in _batches(lines):
        write("\n".join(batch) + "\n")


FORMATS = {"ranges": write_ranges, "ddrescue": write_ddrescue, "borg": write_borg}
