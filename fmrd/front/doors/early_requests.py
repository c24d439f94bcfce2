"""Requests for volumes that this fmrd is still opening: they wait, as for a slow disk.

Who took over the mount of an fmrd that is gone is asked for them before they are recovered.
"""


class NotYet(OSError):
    """The volume that is asked for may be served soon. Its errno is for a door that cannot wait."""


class Early:
    """Requests as they came, by their unique, in that order."""

    def __init__(self) -> None:
        self._requests: dict[int, bytes] = {}

    def put(self, unique: int, request: bytes) -> None:
        self._requests[unique] = request

    def take(self, unique: int) -> bytes | None:
        """One that nobody waits for any more."""
        return self._requests.pop(unique, None)

    def take_all(self) -> list[bytes]:
        """To be asked again."""
        found, self._requests = list(self._requests.values()), {}
        return found
