"""Word that a disk or a mount has come: whoever waits for one looks at once, instead of after a pause.

That is only a hint. What is tried, and whether it may be attached, is decided as after a pause; a hint too many costs a
look, one that is missed the rest of the pause.
"""

import trio


class Coming:
    """``tell`` wakes all who are in ``heard_or`` then."""

    def __init__(self) -> None:
        self._come = trio.Event()

    def tell(self) -> None:
        """Something came. In one synchronous step; may be called however often."""
        self._come.set()
        self._come = trio.Event()

    async def heard_or(self, event: trio.Event, seconds: float) -> None:
        """Return when something has come, when ``event`` is set, or after so many seconds."""
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for each in (self._come, event):
                    nursery.start_soon(_then_cancel, each, nursery.cancel_scope)


async def _then_cancel(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
