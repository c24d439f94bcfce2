"""fmrctl talks to this unix socket: who may ask, how many at once, and what becomes of those that hang is decided here.

One request a connection. A client that goes away does not stop a verb that acts (Registry.apart carries it to its end);
one that sends garbage, half a line or nothing costs a slot for a few seconds, and a flood waits for its turns.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import trio

from fmrd.core.json_object import Json
from fmrd.engine.steering.tags import tagged
from fmrd.engine.tasks import Task
from fmrd.engine.verbs.verbs import Verbs
from fmrd.errors import Failed, FmrdError, Refused, failed_by
from fmrd.front.daemon.connection import RequestPace, request_of, say_alive, send, until_gone, user_of
from fmrd.front.daemon.listening import accept_all, bind
from fmrd.front.nightly.watching import Nights
from fmrd.front.tags import BEGINS_TASKS
from fmrd.front.told import streaming
from fmrd.front.wire import Problem, Progress, Reply, Request, Result

log = logging.getLogger(__name__)

MAX_CLIENTS = 64
"""Whose verbs are carried out at once."""
RESERVE = 16
"""And so many more for HELPS."""
HELPS = frozenset({"print", "history", "plex_det", "plex_off", "task_list", "task_get", "task_abort", "snapprint"})
"""What somebody needs to see why the others hang, and to let go of it."""
WAITS = frozenset({"task_monitor", "snapwait", "events"})
"""These only wait, and take nobody's place."""
SPEAKS = frozenset({"task_monitor", "events"})
"""These say something all the time, and a line must not come into the middle of another one."""
MAX_WAITING = 256
PROGRESS_SECONDS = 0.2
REQUESTS_PER_SECOND = 200.0
"""Of all clients together, in the long run: what a flood may take of the daemon's time."""
BURST = 200
"""Requests that need not wait, after some quiet."""


async def _nothing() -> None:
    pass


class Control:
    """A control serves the socket at ``path``. ``after`` is awaited when a verb has ended, before it is answered: what
    a verb did is then to be seen. ``history`` is History.found.
    """

    def __init__(
        self, path: Path, verbs: Verbs, after: Callable[[], Awaitable[None]] = _nothing,
        history: Callable[..., list[Json]] = lambda volume=None, most=0: [], nights: Nights | None = None,
    ) -> None:  # fmt: skip
        self.path = path
        self.verbs = verbs
        self._after = after
        self._history = history
        self._nights = nights
        self.clients = 0
        """Connections, without those that wait."""
        self.waiting = 0
        self.pace = RequestPace(REQUESTS_PER_SECOND, BURST)
        self._allowed = {0, os.geteuid()}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; report started when the socket answers. Refused('daemon_running') if another one does,
        Failed('socket_failed').
        """
        bound = bind(self.path, MAX_CLIENTS)
        try:
            async with trio.SocketListener(trio.socket.from_stdlib_socket(bound)) as listener:
                task_status.started()
                await accept_all(listener, self._client)
        finally:
            self.path.unlink(missing_ok=True)

    async def _client(self, stream: trio.SocketStream) -> None:
        self.clients += 1
        try:
            async with stream:
                if self.clients <= 2 * MAX_CLIENTS or user_of(stream) == 0:  # those above MAX_CLIENTS are told so
                    await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("a client went away before it was answered")
        finally:
            self.clients -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        reply: Reply
        try:
            request = await request_of(stream)
            self._may_ask(stream)
            reply = Result(await self._while_alive(request, stream))
        except FmrdError as error:
            reply = Problem(error)
        except OSError as error:
            reply = Problem(failed_by(error))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except Exception as bug:
            log.exception("a verb failed in a way that nobody foresaw")
            reply = Problem(Failed("failed", f"{type(bug).__name__}: {bug}", "the daemon's log says more"))
        await send(stream, reply)

    async def _while_alive(self, request: Request, stream: trio.SocketStream) -> Json:
        """Serve it, and tell the client every now and then that somebody is there: it gives up a daemon that stands
        still, and not one that has work to do.
        """
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            if request.verb not in SPEAKS:
                nursery.start_soon(say_alive, stream)
            try:
                await self.pace.turn()
                result = await self._serve(request, stream)
            except Exception as error:  # raised below: out of the nursery it would come as a group
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return result

    def _may_ask(self, stream: trio.SocketStream) -> None:
        uid = user_of(stream)
        if uid not in self._allowed:
            raise Refused("not_allowed", f"user {uid} may not command this daemon")

    async def _serve(self, request: Request, stream: trio.SocketStream) -> Json:
        """Among those that are served at once. Failed('too_many_clients'), but never for root in a user's daemon."""
        guest = user_of(stream) == 0 != os.geteuid()
        if request.verb in WAITS:
            if self.waiting >= MAX_WAITING and not guest:
                raise Failed("too_many_clients", f"{MAX_WAITING} clients are waiting already")
            return await self._wait(request, stream)
        if self.clients > MAX_CLIENTS + (RESERVE if request.verb in HELPS else 0) and not guest:
            raise Failed("too_many_clients", f"{MAX_CLIENTS} clients are being served already")
        return await self._answer(request, stream)

    async def _wait(self, request: Request, stream: trio.SocketStream) -> Json:
        """In a place of those that wait, until the client goes away. The verb goes on even then: it may be at something
        that must not be cut off.
        """
        place = Place(self)
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_gone, stream, place.leave)
            try:
                result = await self._answer(request, stream)
            except Exception as error:  # raised below: out of the nursery it would come as a group
                failure = error
            nursery.cancel_scope.cancel()
        place.leave()
        self.clients += 1
        if failure is not None:
            raise failure
        return result

    async def _answer(self, request: Request, stream: trio.SocketStream) -> Json:
        events = self.verbs.context.events
        match request.verb:
            case "task_monitor":
                return await self._monitor(stream, **request.args)
            case "events":
                follow = request.args.get("follow", False)
                return await streaming.stream(events, stream, request.args.get("since"), follow=follow)
            case "history":
                return {"events": await trio.to_thread.run_sync(partial(self._history, **request.args))}
            case "nights" | "night_note":
                return await self._nights.answer(request.verb, **request.args) if self._nights else {"nights": []}
        verb, uid = getattr(self.verbs, request.verb), user_of(stream)
        try:
            result: Json = await _tagged(verb, request)
        except (FmrdError, OSError) as error:
            streaming.tell_verb(events, uid, request, error if isinstance(error, FmrdError) else failed_by(error))
            raise
        streaming.tell_verb(events, uid, request, None)
        await self._after()
        return result

    async def _monitor(self, stream: trio.SocketStream, ids: Sequence[int] | None = None) -> Json:
        """Progress of these tasks, or of all that run now, until they have ended."""
        known = self.verbs.context.tasks
        tasks = [known.find(each) for each in ids] if ids is not None else known.running()
        while running := [task for task in tasks if task.ended is None]:
            await send(stream, Progress([task.json() for task in tasks]))
            await _first_of(running, PROGRESS_SECONDS)
        return {"tasks": [task.json() for task in tasks]}


async def _tagged(verb: Callable[..., Awaitable[Json]], request: Request) -> Json:
    """Carry it out. The tag of a verb that begins tasks is no matter of the verb: they have it."""
    begins = request.verb in BEGINS_TASKS
    with tagged(request.args.get("tag", "") if begins else ""):
        return await verb(**{name: value for name, value in request.args.items() if not (begins and name == "tag")})


class Place:
    """Among those that wait, and no longer among the others."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._left = False
        control.clients -= 1
        control.waiting += 1

    def leave(self) -> None:
        if not self._left:
            self._left = True
            self._control.waiting -= 1


async def _first_of(tasks: list[Task], seconds: float) -> None:
    """Return when one of them has ended, at the latest after so many seconds."""

    async def wait(task: Task) -> None:
        await task.finished.wait()
        nursery.cancel_scope.cancel()

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(wait, task)
