"""What a mirror asks of the store that an instant snapshot keeps its data in."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Room(Protocol):
    """The room of one store."""

    @property
    def name(self) -> str:
        """The store's."""

    @property
    def hangs(self) -> bool:
        """Tell whether its directory does not answer."""

    async def put(self, uuid: str, size: int, put: Callable[[], Awaitable[None]], *, precious: bool) -> None:
        """Have ``put`` write ``size`` bytes for the snapshot of that uuid, as soon as there is room for them.
        ``precious``: its original is about to be written there, so another snapshot is given up where there is none.
        Failed('store_full') where there is none all the same; errors of ``put`` fly through.
        """

    def taken(self, uuid: str, size: int) -> AbstractAsyncContextManager[None]:
        """Hold room for what the snapshot's own users write, in here. Failed('store_full'), ENOSPC: nobody else is
        given up for that.
        """
