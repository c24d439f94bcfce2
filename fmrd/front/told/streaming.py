"""Clients that listen: events as they happen, from where a client left off; and which verbs become events."""

import re

import trio

from fmrd.core.json_object import Json
from fmrd.core.printable import printable
from fmrd.engine.events.ring import Events
from fmrd.errors import BadRequest, FmrdError
from fmrd.front.daemon.connection import ALIVE_SECONDS, send
from fmrd.front.wire import Happened, Progress, Request

LOOKS = frozenset({"print", "stat", "map", "changed", "task_list", "task_get", "task_monitor", "snapprint", "snapwait",
                   "verify_report", "receive_token", "events", "history", "nights", "store_print"})  # fmt: skip
"""Verbs that change nothing are no events: who looks once a second would drown what was done."""
STEPS = frozenset({"receive_progress"})
"""Parts of one thing that somebody does, which has begun with an event, and ends with one."""
AT_ONCE = 200
"""Events in one line."""
MOST_CHARACTERS = 200
"""Of an argument, in an event."""
_CURSOR = re.compile(r"([0-9a-f]{1,16})\.([0-9]{1,18})", re.ASCII)
_AGO = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


async def stream(events: Events, client: trio.SocketStream, since: str | None, *, follow: bool) -> Json:
    """Send what happened since then, and with ``follow`` what happens, until the client goes away. A client that is
    slower than the events is told how many it missed.
    """
    sequence, gap = _position(events, since, follow=follow)
    if follow:
        await send(client, Happened([]))  # so that it knows that somebody is there
    while True:
        found, missed = events.after(sequence)
        lines = ([gap] if gap else []) + ([_missed(events, f"{missed} event(s) are gone")] if missed else [])
        lines += [event.json() for event in found[:AT_ONCE]]
        gap = None
        if not follow:
            return {"events": lines + [event.json() for event in found[AT_ONCE:]]}
        if lines:
            await send(client, Happened(lines))
            sequence = found[min(AT_ONCE, len(found)) - 1].sequence if found else sequence
            continue
        with trio.move_on_after(ALIVE_SECONDS) as quiet:
            await events.more(sequence)
        if quiet.cancelled_caught:
            await send(client, Progress([]))


def _position(events: Events, since: str | None, *, follow: bool) -> tuple[int, Json | None]:
    """After which sequence to begin, and what to say of what lies before that."""
    if since is None:
        return (events.last if follow else 0), None
    if cursor := _CURSOR.fullmatch(since):
        if cursor[1] == events.life:
            return min(int(cursor[2]), events.last), None
        return 0, _missed(events, "the daemon was started anew: what happened at its end may be missing")
    if ago := _AGO.fullmatch(since):
        known, _ = events.after(0)
        after = events.now() - int(ago[1]) * _SECONDS[ago[2]]
        return next((event.sequence - 1 for event in known if event.time >= after), events.last), None
    raise BadRequest("bad_request", f"since {since!r} is neither a cursor nor a time ago, as 90s, 15m, 12h or 7d")


def _missed(events: Events, why: str) -> Json:
    event = events.unsaid("events_missed", f"{why}; 'fmrctl history' has what was written down")
    return event.json()


def tell_verb(events: Events, uid: int, request: Request, error: FmrdError | None) -> None:
    """A verb that acts was carried out, or failed."""
    only_looks = request.verb in LOOKS or request.args.get("dry_run")
    only_looks = only_looks or (request.verb == "mark" and request.args.get("name") is None)
    if only_looks or (request.verb in STEPS and error is None):
        return
    said = {name: value for name, value in request.args.items() if value not in (False, None, [], {})}
    arguments = [f"{name}={printable(_plain(value), MOST_CHARACTERS)}" for name, value in said.items()]
    several = request.args.get("volumes") or [None]
    named = request.args.get("volume") or request.args.get("snapshot") or several[0]
    chosen = request.args.get("plex")
    volume, plex = named if isinstance(named, str) else None, chosen if isinstance(chosen, str) else None
    message = f"user {uid}: {request.verb} {' '.join(arguments)}".rstrip()
    details: Json = {"uid": uid, "verb": request.verb, "arguments": arguments}
    if error is None:
        events.tell("verb", message, volume=volume, plex=plex, **details)
    else:
        details["code"] = error.code
        events.tell("verb_failed", f"{message}: {error}", volume=volume, plex=plex, action=error.hint, **details)


def _plain(value: object) -> str:
    """As it was typed, or nearly."""
    if isinstance(value, list):
        return ",".join(map(_plain, value))
    if isinstance(value, dict):
        return ",".join(f"{key}={_plain(inner)}" for key, inner in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)
