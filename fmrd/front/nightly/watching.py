"""The daemon watches over nights: it is told how each went, looks every minute whether one is missing, and tells of
that, once a period, also after the machine was off. Who asks for the status is told in the same words.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio

from fmrd.core.json_object import Json
from fmrd.core.printable import printable
from fmrd.engine.events.ring import Events
from fmrd.errors import FmrdError
from fmrd.front.nightly.notes import MOST_CHARACTERS, Night, load, save
from fmrd.front.nightly.plan import Plan, plans_in, read_plan

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0


@dataclass(frozen=True)
class Seen:
    """The file of a plan, and what it says, or what is wrong with it."""

    path: Path
    plan: Plan | None
    problem: str = ""


class Nights:
    """Used on trio's thread alone; files are read and written by others. ``run`` lasts as long as the daemon."""

    def __init__(self, state: Path, plans: Path, events: Events) -> None:
        self._state = state
        self._plans = plans
        self._events = events
        self._seen: dict[str, Seen] = {}
        self._nights: dict[str, Night] | None = None
        """None until the file was read."""
        self._saved: Mapping[str, Night] = {}
        self._turn = trio.Lock()
        self._failed = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await trio.sleep(LOOK_SECONDS)

    async def answer(self, verb: str, **args: Any) -> Json:
        """Carry out one of its two verbs, 'nights' or 'night_note'."""
        return await (self.note(**args) if verb == "night_note" else self.told())

    async def told(self) -> Json:
        """Return the verb 'nights': the night of each volume that has a plan, by name."""
        await self.look()
        now, nights = self._events.now(), self._nights or {}
        return {"nights": [_json(name, seen, nights[name], now) for name, seen in sorted(self._seen.items())]}

    async def note(
        self, *, volume: str, begun: int, problem: str | None = None, snapshot: str | None = None,
        sent: str | None = None,
    ) -> Json:  # fmt: skip
        """The verb 'night_note': how a night went that began then, and what the far side holds by now."""
        await self.look()
        nights = self._nights if self._nights is not None else {}
        before = nights.get(volume, Night(self._events.now()))
        why = printable(problem or "", MOST_CHARACTERS)
        after = replace(before, begun=float(begun), problem=why, snapshot=snapshot or before.snapshot,
                        sent=sent or before.sent)  # fmt: skip
        if problem is None:
            after = replace(after, good=float(begun), told=0.0)
            self._events.tell("night_done", f"volume {volume}: its night is done", volume=volume)
        else:
            action = f"fmrctl nightly {volume} tries it again, step by step"
            self._events.warn("night_failed", f"volume {volume}: its night failed: {problem}", volume=volume,
                              action=action)  # fmt: skip
        nights[volume] = after
        async with self._turn:
            await self._save()
        return {}

    async def look(self) -> None:
        """Read the plans anew, and tell of nights that are missing."""
        async with self._turn:
            try:
                if self._nights is None:
                    self._nights = await trio.to_thread.run_sync(load, self._state, abandon_on_cancel=True)
                    self._saved = dict(self._nights)
                self._seen = await trio.to_thread.run_sync(_read, self._plans, abandon_on_cancel=True)
            except (OSError, RuntimeError) as error:  # also no more threads: the next look tries again
                self._complain(f"{self._plans} cannot be looked at", error)
                return
            self._judge(self._nights)
            await self._save()

    def _judge(self, nights: dict[str, Night]) -> None:
        """In one step."""
        now = self._events.now()
        for name in nights.keys() - self._seen.keys():
            del nights[name]
        for name, seen in self._seen.items():
            night = nights.setdefault(name, Night(now))
            told = night.told if night.told <= now else 0.0
            if seen.plan is not None and is_missed(seen.plan, night, now) and now >= told + seen.plan.every:
                nights[name] = replace(night, told=now)
                message = f"volume {name}: {missing(night, now)}"
                self._events.warn("night_missed", message, volume=name, action=to_do(name))

    async def _save(self) -> None:
        if self._nights is None or self._nights == self._saved:
            return
        nights = dict(self._nights)
        try:
            await trio.to_thread.run_sync(save, self._state, nights, abandon_on_cancel=True)
            self._saved = nights
            self._failed = False
        except (OSError, RuntimeError) as error:
            self._complain("what is known of nights cannot be written", error)

    def _complain(self, what: str, error: Exception) -> None:
        if not self._failed:
            log.warning("%s: %s", what, error)
        self._failed = True


def is_missed(plan: Plan, night: Night, now: float) -> bool:
    """Tell whether another night should have been good by now."""
    return now >= night.since(now) + plan.patience


def missing(night: Night, now: float) -> str:
    """Return what is told of it, as a clause."""
    days = (now - night.since(now)) / 86400
    ago = f"{days:.0f} day(s)" if days >= 2 else f"{days * 24:.0f} hour(s)"
    since = "since there is a plan, for" if night.good == 0 else "for"
    return f"no night went well {since} {ago}"


def to_do(volume: str) -> str:
    """Return what would end that."""
    return f"fmrctl nightly {volume}; does the timer run? systemctl status fmrd-nightly@{volume}.timer"


def _read(folder: Path) -> dict[str, Seen]:
    """In a thread."""
    found = {}
    for name, path in plans_in(folder).items():
        try:
            found[name] = Seen(path, read_plan(path))
        except FmrdError as error:
            found[name] = Seen(path, None, f"{error.code}: {error.message}")
    return found


def _json(name: str, seen: Seen, night: Night, now: float) -> Json:
    plan = seen.plan
    missed = plan is not None and is_missed(plan, night, now)
    return {
        "volume": name, "plan": str(seen.path), "known": night.known, "begun": night.begun or None,
        "good": night.good or None, "due": night.since(now) + plan.patience if plan is not None else None,
        "missed": missed, "cause": missing(night, now) if missed else None, "action": to_do(name) if missed else None,
        "plan_problem": seen.problem or None, "problem": night.problem or None,
        "snapshot": night.snapshot or None, "sent": night.sent or None,
    }  # fmt: skip
