"""What lies on an export before it is taken: its ends are looked at as a device's are, in a copy of them here. Who else
has it nobody can tell: a server does not.
"""

import os

from fmrd.backing.looking import contents
from fmrd.backing.looking.findings import Finding, Kind, Place, Seen
from fmrd.backing.nbd.dcofile import find_tail
from fmrd.backing.nbd.line import Line
from fmrd.backing.nbd.requests import Asked

END_BYTES = 2 << 20
HEADER_BYTES = 4096
_SLOTS = 2


def look(path: str, session: Line) -> Seen:
    """Look at it; nothing changes. OSError where it cannot be read."""
    size = session.export.size
    in_use = [Finding(Kind.BUSY, "a plex of fmrd has it open")] if session.users.has_plex else []
    descriptor = os.memfd_create("fmrd-look", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        area = find_tail(session) if size >= HEADER_BYTES else None
        slots = [area[0] + slot * contents.RECORD_SLOT_BYTES for slot in range(_SLOTS)] if area is not None else []
        parts = [(0, END_BYTES), (max(0, size - END_BYTES), END_BYTES), *((at, HEADER_BYTES) for at in slots)]
        for at, length in parts:
            _bring(session, descriptor, at, min(length, size - at))
        has_data, members, zeros = contents.of_device(descriptor, None)
    finally:
        os.close(descriptor)
    found = tuple(in_use + members)
    return Seen(path, Place.DEVICE, session.uri.identity, size, found, tuple(has_data), zeros=zeros)


def _bring(session: Line, descriptor: int, offset: int, length: int) -> None:
    data = bytearray(max(0, length))
    session.carry_out(Asked(session).reads(offset, memoryview(data)))
    at = 0
    while at < len(data):
        at += os.pwrite(descriptor, memoryview(data)[at:], offset + at)
