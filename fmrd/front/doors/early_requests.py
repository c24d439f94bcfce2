"""Requests may come for volumes that this fmrd is still opening: they wait, as for a slow disk.

Who took over the mount of an fmrd that is gone is asked for them before they are recovered.
"""


class NotYet(OSError):
    """The volume that is asked for may be served soon. Its errno is for a door that cannot wait."""


class Early:
    """These are requests as they came, by their unique, in that order."""

    def __init__(self) -> None:
        self._requests: dict[int, bytes] = {}

    def put(self, unique: int, request: bytes) -> None:
        """Keep a request, as bytes."""
        self._requests[unique] = request

    def take(self, unique: int) -> bytes | None:
        """Take one out that nobody waits for any more; None where it is not here."""
        return self._requests.pop(unique, None)

    def take_all(self) -> list[bytes]:
        """Take all of them out, to be asked again."""
        found, self._requests = list(self._requests.values()), {}
        return found
