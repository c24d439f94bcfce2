"""Marks, and how far a stream has come, in the JSON of a record: anything odd is TypeError or ValueError.

An older program does without these fields: it drops them with its first record, and what it wrote meanwhile is in no
mark that anybody could ask for.
"""

import math

from fmrd.core.json_object import Json
from fmrd.core.marks import MOST_COVERED, MOST_MARKS
from fmrd.core.names import VOLUME_LENGTH
from fmrd.core.record import VolumeRecord
from fmrd.core.records.parts import Content, Mark, Receiving
from fmrd.dco.values import column, count, flag, items, name, text, uuid

CHAIN_LENGTH = 64
"""Hexadecimal digits of a digest."""
SOURCE_LENGTH = 1024


def mark_fields(volume: VolumeRecord) -> Json:
    """Return the fields of a volume that has marks, or into which a stream is received."""
    found: Json = {}
    if volume.marks:
        found["marks"] = [_mark(mark) for mark in volume.marks]
    if volume.receiving is not None:
        found["receiving"] = _receiving(volume.receiving)
    if volume.carriers:
        found["carriers"] = list(volume.carriers)
    return found


def read_marks(value: object, columns: int) -> tuple[Mark, ...]:
    """Return the marks that a volume's field tells, none where there is no field."""
    if value is None:
        return ()
    marks = tuple(_read_mark(each, columns) for each in items(value))
    if len(marks) > MOST_MARKS or any(len({getattr(m, key) for m in marks}) < len(marks) for key in ("name", "uuid")):
        raise ValueError("too many marks, or one of them twice")
    return marks


def read_receiving(value: object) -> Receiving | None:
    """Return how far a stream has come, None where there is no field."""
    if value is None:
        return None
    data = _object(value)
    chain = text(data["chain"])
    if chain and (len(chain) != CHAIN_LENGTH or chain.strip("0123456789abcdef")):
        raise ValueError("not a digest")
    source = text(data["source"])
    if len(source) > SOURCE_LENGTH:
        raise ValueError("too much of what the sender needs")
    content = _read_content(data["content"])
    return Receiving(
        uuid(data["stream"]), content, source, count(data["chunks"]), count(data["offset"]), chain,
        flag(data.get("partial", False)),
    )  # fmt: skip


def read_carriers(value: object) -> tuple[str, ...]:
    """Return the plexes on which data came, none where there is no field."""
    return tuple(uuid(each) for each in items(value)) if value is not None else ()


def _object(value: object) -> Json:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not an object")
    return value


def _mark(mark: Mark) -> Json:
    return {
        "name": mark.name,
        "uuid": mark.uuid,
        "column": [mark.column.index, mark.column.epoch],
        "since": mark.since,
        "covers": list(mark.covers),
        **({} if mark.holds is None else {"holds": _content(mark.holds)}),
    }


def _read_mark(value: object, columns: int) -> Mark:
    data = _object(value)
    covers = items(data["covers"])
    if len(covers) > MOST_COVERED:
        raise ValueError("a mark covers too many snapshots")
    holds = data.get("holds")
    return Mark(
        name=name(data["name"], VOLUME_LENGTH),
        uuid=uuid(data["uuid"]),
        column=column(data["column"], columns),
        since=_time(data["since"]),
        covers=tuple(uuid(each) for each in covers),
        holds=None if holds is None else _read_content(holds),
    )


def _content(content: Content) -> Json:
    return {
        "uuid": content.uuid,
        "name": content.name,
        "length": content.length_bytes,
        "pristine": content.pristine,
    }


def _read_content(value: object) -> Content:
    data = _object(value)
    return Content(uuid(data["uuid"]), name(data["name"], VOLUME_LENGTH), count(data["length"]), flag(data["pristine"]))


def _receiving(receiving: Receiving) -> Json:
    return {
        "stream": receiving.stream,
        "content": _content(receiving.content),
        "source": receiving.source,
        "chunks": receiving.chunks,
        "offset": receiving.offset_bytes,
        "chain": receiving.chain,
        **({"partial": True} if receiving.partial else {}),
    }


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value >= 0 and math.isfinite(value)):
        raise TypeError("not a time")
    return float(value)
