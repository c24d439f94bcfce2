"""What is asked of an export becomes requests that its server takes: none too long, and only what it offers."""

from collections.abc import Iterator

from fmrd.backing.nbd.line import Line
from fmrd.backing.nbd.speaking import abi
from fmrd.backing.nbd.speaking.replies import Request

STATUS_BYTES = 32 << 20
"""So much is asked about at once: more would be too many holes for one answer."""
ZERO_BYTES = 32 << 20
"""So much is made zeros at once: a server that writes them must answer in time."""
_ZEROS = memoryview(bytes(256 << 10))


def _nobody(error: Exception | None) -> None:
    raise AssertionError("whoever has a request begun says who is told")


class Asked:
    """An export that is asked, on ``session``. All offsets and lengths are bytes."""

    def __init__(self, session: Line) -> None:
        self.session = session
        self.far = session.uri.transport
        self.fence = session.uri.fence

    def reads(self, offset: int, buffer: memoryview) -> list[Request]:
        """Return what fills ``buffer``."""
        most = self.session.export.most
        return [
            Request(abi.READ, offset + at, min(most, len(buffer) - at), _nobody, buffer=buffer[at : at + most])
            for at in range(0, len(buffer), most)
        ]

    def writes(self, offset: int, data: bytes | bytearray | memoryview, *, durably: bool = False) -> list[Request]:
        """Return what writes it; ``durably`` only where the server offers that (``has_fua``)."""
        most, flags = self.session.export.most, abi.FUA if durably else 0
        if len(data) <= most:
            return [Request(abi.WRITE, offset, len(data), _nobody, flags=flags, data=data)]
        view = memoryview(data)
        pieces = [(at, view[at : at + most]) for at in range(0, len(view), most)]
        return [Request(abi.WRITE, offset + at, len(p), _nobody, flags=flags, data=p) for at, p in pieces]

    @property
    def has_fua(self) -> bool:
        """Tell whether a write can be made durable by itself."""
        return self.session.export.offers(abi.SEND_FUA)

    def flush(self) -> Request:
        """Return what makes durable all that has ended by now."""
        return Request(abi.FLUSH, 0, 0, _nobody)

    def zeros(self, offset: int, length: int, *, punch: bool) -> Iterator[Request]:
        """Yield what makes zeros; without ``punch`` blocks stay the server's."""
        stop = offset + length
        if self.session.export.offers(abi.SEND_WRITE_ZEROES):
            flags = 0 if punch else abi.NO_HOLE
            for at in range(offset, stop, ZERO_BYTES):
                yield Request(abi.WRITE_ZEROES, at, min(ZERO_BYTES, stop - at), _nobody, flags=flags)
        else:
            most = min(len(_ZEROS), self.session.export.most)
            for at in range(offset, stop, most):
                size = min(most, stop - at)
                yield Request(abi.WRITE, at, size, _nobody, data=_ZEROS[:size])

    def segments(self, start: int, stop: int) -> list[tuple[int, int, bool]]:
        """Return (start, stop, whether it is data) over the beginning of a range at least, neighbours alike put
        together. All of it is data where the server does not tell.
        """
        if self.session.export.context is None:
            return [(start, stop, True)]
        asked = min(STATUS_BYTES, stop - start)
        request = Request(abi.BLOCK_STATUS, start, asked, _nobody)
        self.session.carry_out([request])
        found: list[tuple[int, int, bool]] = []
        at = start
        for size, zero in request.extents:
            end, is_data = min(start + asked, at + size), not zero
            if end <= at:
                break
            if found and found[-1][2] is is_data:
                found[-1] = (found[-1][0], end, is_data)
            else:
                found.append((at, end, is_data))
            at = end
        return found

    def all_segments(self, start: int, stop: int) -> Iterator[tuple[int, int, bool]]:
        """Yield the same over all of it."""
        while start < stop:
            for each in self.segments(start, stop):
                yield each
                start = each[1]
