"""What every verb of fmrctl stands on."""

from collections.abc import Awaitable, Callable
from typing import Any

from fmrd.backing.hops import Lane, ask
from fmrd.engine.registry import Registry
from fmrd.errors import Failed

Json = dict[str, Any]


class VerbBase:
    """The registry, and how a verb runs: to its end, also when the client that asked for it goes away."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.context = registry.context

    async def _apart(self, work: Callable[[], Awaitable[Json]]) -> Json:
        try:
            return await self.registry.apart(work)
        except OSError as error:
            raise Failed("io_error", str(error)) from error

    async def _ask(self, run: Callable[[], None]) -> None:
        await ask(self.context.hops, Lane("admin"), run, self.context.io_timeout_seconds)
