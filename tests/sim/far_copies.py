"""Copies of the DCO behind servers: each open one belongs to a session."""

from collections.abc import Sequence

from tests.sim.dcos import SimDco


class FarDco:
    """A copy of the DCO behind a server, as one session has it: when there is a newer one nothing is sent in this."""

    def __init__(self, dco: SimDco) -> None:
        assert dco.plex is not None, "beside a plex"
        self.dco = dco
        self.path, self.far, self.fence = dco.path, dco.far, dco.fence
        self.plex = dco.plex
        self.session = dco.machine.sessions.number(dco.plex)
        self.tail: int | None = None

    @property
    def length(self) -> int:
        return self.dco.length

    def read(self, offset: int, length: int) -> bytes:
        self._must_be_the_last()
        return self.dco.read(offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._must_be_the_last()
        self.dco.write(offset, data)

    def extend(self, length: int) -> None:
        self._must_be_the_last()
        self.dco.extend(length)

    def reserve(self, length: int, spans: Sequence[tuple[int, int]]) -> None:
        self.extend(length)

    def hang_up(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _must_be_the_last(self) -> None:
        self.dco.machine.alive()
        sessions = self.dco.machine.sessions
        if sessions.is_newer(self.plex, self.session):
            sessions.must_be_there(self.plex, self.session)
