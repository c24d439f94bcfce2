"""The bytes of a stream: what was written is read, and what is cut, turned, added or told in another order is not."""

import hashlib
import io
import re
import struct
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmrd.core.marks import MOST_COVERED
from fmrd.errors import Failed
from fmrd.front.streams import packing, stream
from fmrd.front.streams.header import MOST_BASES, Header
from fmrd.front.streams.stream import CHUNK_BYTES, Record, StreamReader, StreamWriter

DOCUMENT = (Path(__file__).parents[2] / "docs" / "STREAM.md").read_text()
LENGTH = 64 << 10
U1, U2, U3 = (f"{n:08}-0000-4000-8000-000000000000" for n in (1, 2, 3))

WHOLE = Header(
    stream=U1, volume="data", snapshot=U2, name="SNAP-data", pristine=True, length_bytes=LENGTH,
    region_size_bytes=4096, increment=False, since="", bases=(), pristine_only=False, bytes=LENGTH, created=1.5,
    source='["SNAP-data","","","x","",null]',
)  # fmt: skip
INCREMENT = replace(WHOLE, increment=True, since="OLD", bases=(U3,))


def written(header: Header, records: list[tuple[int, bytes | int]], packed: str = "") -> bytes:
    """A stream of these: (offset, data, or how many zeros)."""
    out = io.BytesIO()
    writer = StreamWriter(out, header, packed)
    for offset, data in records:
        if isinstance(data, int):
            writer.zero(offset, data)
        else:
            writer.data(offset, data)
    writer.end()
    return out.getvalue()


def read(data: bytes) -> list[Record]:
    reader = StreamReader(io.BytesIO(data))
    found = list(reader.records())
    assert reader.ended
    return found


SMALL = written(INCREMENT, [(0, b"abc" * 20), (4096, 8192), (20480, b"x" * 50)])


@given(st.lists(st.tuples(st.integers(1, 9000), st.booleans(), st.binary(min_size=1, max_size=64)), max_size=7))
@settings(deadline=None)
def test_what_is_written_is_read(pieces: list[tuple[int, bool, bytes]]) -> None:
    records: list[tuple[int, bytes | int]] = []
    told = []
    at = 0
    for gap, is_zero, data in pieces:
        records.append((at, len(data) if is_zero else data))
        told.append(Record(at, len(data), None if is_zero or not any(data) else data))
        at += len(data) + gap
    assert read(written(INCREMENT, records)) == told


def test_a_stream_names_as_many_bases_as_a_mark_remembers() -> None:
    assert MOST_BASES == MOST_COVERED


def test_zeros_that_were_read_are_told_without_their_bytes() -> None:
    assert len(written(INCREMENT, [(0, bytes(CHUNK_BYTES >> 5))])) < 2000


def test_a_stream_that_is_cut_anywhere_has_no_end() -> None:
    for at in range(len(SMALL)):
        with pytest.raises(Failed) as caught:
            read(SMALL[:at])
        assert caught.value.code == "stream_cut", at


def test_a_bit_that_is_turned_anywhere_is_seen_and_nothing_wrong_is_told() -> None:
    right = read(SMALL)
    for at in range(len(SMALL)):
        for bit in range(8):
            turned = bytearray(SMALL)
            turned[at] ^= 1 << bit
            got: list[Record] = []
            with pytest.raises(Failed) as caught:
                got += StreamReader(io.BytesIO(turned)).records()
            assert caught.value.code in ("stream_damaged", "stream_cut"), (at, bit)
            assert got == right[: len(got)]


def test_each_record_before_the_damage_is_told_and_the_position_is_behind_it() -> None:
    reader = StreamReader(io.BytesIO(SMALL[:-100]))
    with pytest.raises(Failed):
        list(reader.records())
    assert reader.position.chunks == 2 and reader.position.offset == 4096 + 8192


def rewritten(header: Header, *records: tuple[int, int, int, int, bytes]) -> bytes:
    """A stream with right digests and (kind, packing, offset, length, payload), whatever these are."""
    out = io.BytesIO()
    chain = StreamWriter(out, header).chain
    data = out.getvalue()
    for kind, packed, offset, length, payload in records:
        head = struct.pack("<BBHIQQ", kind, packed, 0, len(payload), offset, length)
        chain = hashlib.sha256(chain + head + payload).digest()
        data += head + payload + chain
    return data


END = (3, 0, 1, 10, b"")
DATA = (1, 0, 0, 10, b"0123456789")


@pytest.mark.parametrize(
    ("header", "records", "says"),
    [
        (INCREMENT, [DATA, (1, 0, 5, 10, b"0123456789"), END], "bytes that cannot be"),
        (INCREMENT, [(1, 0, LENGTH - 5, 10, b"0123456789"), END], "bytes that cannot be"),
        (INCREMENT, [(2, 0, 0, 0, b""), END], "bytes that cannot be"),
        (INCREMENT, [(2, 0, 0, 1 << 63, b""), END], "bytes that cannot be"),
        (INCREMENT, [(1, 0, 0, 11, b"0123456789"), END], "another length"),
        (INCREMENT, [(1, 0, 0, CHUNK_BYTES + 1, b"x"), END], "too long"),
        (INCREMENT, [(1, 7, 0, 10, b"0123456789"), END], "packed in a way"),
        (INCREMENT, [(4, 0, 0, 10, b""), END], "no head"),
        (INCREMENT, [(2, 0, 0, 10, b"x"), END], "no head"),
        (INCREMENT, [DATA, (3, 0, 2, 10, b"")], "other records"),
        (INCREMENT, [DATA, (3, 0, 1, 11, b"")], "other records"),
        (INCREMENT, [DATA, END, DATA], "follows its end"),
        (WHOLE, [DATA, END], "tells nothing of the bytes from 10"),
        (WHOLE, [DATA, (2, 0, 20, LENGTH - 20, b""), (3, 0, 2, LENGTH - 10, b"")], "from 10 to 20"),
    ],
)
def test_what_a_liar_tells_is_refused(
    header: Header, records: list[tuple[int, int, int, int, bytes]], says: str
) -> None:
    """Its digests are right."""
    with pytest.raises(Failed, match=says):
        read(rewritten(header, *records))


@pytest.mark.parametrize(
    "change",
    [
        {"stream": "x"}, {"snapshot": U1.replace("0", "A")}, {"name": "../etc"}, {"volume": ""}, {"bases": ("x",)},
        {"offset_bytes": 4096}, {"created": float("inf")}, {"created": True},
        {"length_bytes": 0}, {"length_bytes": 5000}, {"length_bytes": 1 << 60}, {"length_bytes": True}, {"bytes": -1},
        {"pristine": 1}, {"created": "now"}, {"source": "x" * 1025}, {"source": "a\nb"}, {"chain": "ab", "chunks": 1},
        {"chunks": 1}, {"chain": "0" * 64}, {"offset_bytes": LENGTH + 1}, {"bases": ()}, {"bases": (U3,) * 65},
        {"since": 5}, {"increment": False},
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Failed) as caught:
        read(written(replace(INCREMENT, **change), []))  # type: ignore[arg-type]  # on purpose
    assert caught.value.code == "stream_damaged"


@pytest.mark.parametrize(
    "start", [b"", b"FMRDstrm", b"GARBAGE!" * 4, b"FMRDstrm\2\0\0\0\4\0\0\0", b"FMRDstrm\1\0\0\0\1\0\1\0"]
)
def test_what_is_no_stream_is_refused_before_anything_is_read(start: bytes) -> None:
    with pytest.raises(Failed):
        StreamReader(io.BytesIO(start))


def test_one_that_goes_on_has_the_digests_of_the_whole() -> None:
    records: list[tuple[int, bytes | int]] = [(0, b"one"), (4096, 4096), (16384, b"three")]
    whole = written(INCREMENT, records)
    reader = StreamReader(io.BytesIO(whole))
    chunks = reader.records()
    next(chunks), next(chunks)
    position = reader.position
    on = replace(INCREMENT, chunks=2, offset_bytes=position.offset, chain=position.chain.hex())
    rest = written(on, records[2:])
    assert [record.data for record in read(rest)] == [b"three"]
    assert rest.split(b"three")[1][:32] == whole.split(b"three")[1][:32]


class Squeezer:
    """Stands for a module of zstd, where none is there."""

    @staticmethod
    def pack(data: bytes) -> bytes:
        return b"%d" % len(data)

    @staticmethod
    def unpack(payload: bytes, most: int) -> bytes:
        return (b"z" * int(payload))[: most + 1]


def test_data_may_be_packed_and_a_bomb_takes_no_more_than_a_record_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "packer", lambda name: Squeezer.pack)
    monkeypatch.setattr(packing, "unpack", Squeezer.unpack)
    packed = written(INCREMENT, [(0, b"z" * 4096)], "zstd")
    assert len(packed) < 2000 and read(packed) == [Record(0, 4096, b"z" * 4096)]
    with pytest.raises(Failed, match="another length"):
        read(rewritten(INCREMENT, (1, 1, 0, 10, b"99999999"), END))


def test_zstd_packs_and_unpacks_where_it_is_there() -> None:
    if not packing.is_there():
        pytest.skip("no module for zstd")
    data = b"the same again and again, " * 1000
    packed = written(INCREMENT, [(0, data)], "zstd")
    assert len(packed) < 3000 and read(packed) == [Record(0, len(data), data)]
    bomb = packing.packer("zstd")(bytes(64 << 20))
    assert len(bomb) < 10_000
    with pytest.raises(Failed, match="another length"):
        read(rewritten(INCREMENT, (1, 1, 0, 10, bomb), END))
    with pytest.raises(Failed, match=r"unpacked|another length"):
        read(rewritten(INCREMENT, (1, 1, 0, 10, b"garbage"), END))
    with pytest.raises(Failed, match="nothing packs"):
        packing.packer("rot13")


def test_without_a_module_for_it_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MODULES", ())
    with pytest.raises(Failed) as caught:
        written(INCREMENT, [(0, b"data")], "zstd")
    assert caught.value.code == "stream_packing"


def table(title: str) -> list[tuple[int, int]]:
    body = DOCUMENT.split(f"| {title} |\n|---|---|---|\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines()]
    return [(int(offset), int(length)) for offset, length, _ in rows]


@pytest.mark.parametrize(
    ("title", "packing_of"), [("stream header", stream._PREFIX), ("stream record", stream._RECORD)]
)
def test_the_tables_of_the_document_are_what_is_written(title: str, packing_of: struct.Struct) -> None:
    sizes = {"s": 1, "B": 1, "H": 2, "I": 4, "Q": 8}
    found, offset = [], 0
    for count, kind in re.findall(r"(\d*)([sBHIQ])", packing_of.format):
        found.append((offset, sizes[kind] * int(count or 1)))
        offset = sum(found[-1])
    assert found == table(title)


def test_the_fields_of_the_header_are_those_of_the_document() -> None:
    body = DOCUMENT.split("| field | type | what |\n|---|---|---|\n")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", body, re.MULTILINE) == [field.name for field in fields(Header)]
