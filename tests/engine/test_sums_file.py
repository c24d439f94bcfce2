"""The bytes of VOLUME.sums: what is not whole is none."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from fmrd.engine.verify.sums_file import HEADER_BYTES, decoded, encoded, read_sums, wipe, write_sums

HEADER = {"volume": "u", "verify": {"next": 7, "report": []}}


class Memory:
    """A file."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.bytes[offset : offset + length]).ljust(length, b"\0")

    def write(self, offset: int, data: bytes) -> None:
        self.bytes = self.bytes.ljust(offset + len(data), b"\0")
        self.bytes[offset : offset + len(data)] = data

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_header_is_read_as_it_was_written() -> None:
    assert decoded(encoded(HEADER).ljust(HEADER_BYTES, b"\0")) == HEADER


def test_every_flipped_bit_of_a_header_is_seen() -> None:
    whole = encoded(HEADER)
    for bit in range(8 * len(whole)):
        torn = bytearray(whole)
        torn[bit // 8] ^= 1 << bit % 8
        assert decoded(bytes(torn)) == {}, bit


@given(st.binary(max_size=200))
def test_noise_is_no_header(noise: bytes) -> None:
    assert decoded(noise.ljust(32, b"\0")) == {}


def test_regions_have_checksums_of_their_own_until_they_are_wiped() -> None:
    file, content = Memory(), bytes(range(250)) * 4
    write_sums(file, 3, content, 400)
    known = [zlib.crc32(content[at : at + 400]) for at in (0, 400, 800)]
    assert list(read_sums(file, range(2, 8))) == [None, *known, None, None]
    wipe(file, [range(4, 5)])
    assert list(read_sums(file, range(3, 6))) == [known[0], None, known[2]]


def test_every_flipped_bit_of_a_checksum_is_seen() -> None:
    file = Memory()
    write_sums(file, 0, b"some content", 400)
    for bit in range(64):
        file.bytes[HEADER_BYTES + bit // 8] ^= 1 << bit % 8
        assert list(read_sums(file, range(1))) == [None], bit
        file.bytes[HEADER_BYTES + bit // 8] ^= 1 << bit % 8
