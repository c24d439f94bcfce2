"""The steps of one night, each told as it ends. A step that fails leaves the others as sane as they can be: without a
snapshot nothing is sent, and what the far side holds is never pruned.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fmrd.core.json_object import Json
from fmrd.errors import Failed, FmrdError, failed_by
from fmrd.front.ctl import words
from fmrd.front.ctl.app import App, problem_of
from fmrd.front.ctl.tables import decision_line
from fmrd.front.maps.pruning import pruned
from fmrd.front.nightly.far import Far
from fmrd.front.nightly.plan import NEW, Plan
from fmrd.front.nightly.programs import run
from fmrd.front.told.trusted import why_not

DONE, FAILED, SKIPPED, WOULD = "done", "failed", "skipped", "would"


@dataclass
class Night:
    """One night of a volume, as its plan says. ``run`` returns when it is over; nothing in it raises but bugs."""

    app: App
    plan: Plan
    dry_run: bool
    tell: Callable[[Json], None]
    """Called with each step as it ends: 'step' of docs/JSON.md."""
    steps: list[Json] = field(default_factory=list)
    snapshot: str = ""
    """The one that was taken, or was meant."""
    sent: str = ""
    """What the far side holds, as far as it is known."""

    def run(self) -> str | None:
        """Return the first problem, as a sentence; None where all went well."""
        plan = self.plan
        ready = self._step("before", self._before) if "before" in plan.hooks else True
        taken = self._step("snapshot", self._take) if ready else self._skip("snapshot", "the hook before it failed")
        if "taken" in plan.hooks:
            _ = self._step("taken", self._taken) if taken else self._skip("taken", "there is no snapshot")
        if plan.send is not None:
            _ = self._step("send", self._send) if taken else self._skip("send", "there is no snapshot")
        if plan.keep:
            _ = self._step("prune", self._prune) if ready else self._skip("prune", "the hook before it failed")
        if "after" in plan.hooks:
            self._step("after", self._after)
        return self._problem()

    def _problem(self) -> str | None:
        failed = (step for step in self.steps if step["state"] == FAILED)
        return next((f"{step['name']}: {step['message']}" for step in failed), None)

    def _step(self, name: str, work: Callable[[], str]) -> bool:
        begun = time.monotonic()
        try:
            state, message, code = WOULD if self.dry_run else DONE, work(), None
        except (FmrdError, OSError) as error:
            known = error if isinstance(error, FmrdError) else failed_by(error)
            state, message, code = FAILED, f"{known.code}: {known.message}", known.code
        self._told(name, state, message, code, time.monotonic() - begun)
        return state != FAILED

    def _skip(self, name: str, why: str) -> bool:
        self._told(name, SKIPPED, why, None, 0.0)
        return False

    def _told(self, name: str, state: str, message: str, code: str | None, seconds: float) -> None:
        step: Json = {"name": name, "state": state, "message": message, "code": code, "seconds": round(seconds, 3)}
        self.steps.append(step)
        self.tell(step)

    # The steps

    def _take(self) -> str:
        plan, app = self.plan, self.app
        freeze = [plan.freeze] if plan.freeze else []
        if plan.take == NEW:
            self.snapshot = words.dated(plan.name).replace("%v", plan.volume)
            path = str(Path(plan.into) / self.snapshot)
            told = app.ask(
                "snapshot", volumes=[plan.volume], name=self.snapshot, instant=path, freeze=freeze, dry_run=self.dry_run
            )  # fmt: skip
            return told.get("notice") or f"{self.snapshot}, on {path}"
        self.snapshot = plan.name
        of = app.ask("print", volume=plan.name)["volumes"][0]["snapshot_of"]
        if of != plan.volume:
            raise Failed("snap_unknown", f"volume {plan.name} is no snapshot of {plan.volume}")
        told = app.ask("refresh", snapshot=plan.name, freeze=freeze, dry_run=self.dry_run)
        if self.dry_run:
            return decision_line(told["decision"])
        problem = problem_of(app.wait([task["id"] for task in told["tasks"]]))
        if problem is not None:
            raise problem
        return f"{plan.name}, refreshed"

    def _send(self) -> str:
        assert self.plan.send is not None
        far = Far(self.app, self.plan.send)
        try:
            return far.follow(self.plan.volume, self.snapshot, dry_run=self.dry_run)
        finally:
            self.sent = far.holds

    def _prune(self) -> str:
        spared = {self.sent, self.snapshot} - {""}
        if self.plan.send is not None and not self.sent:
            spared |= {each["sent"] for each in self.app.ask("nights")["nights"] if each["volume"] == self.plan.volume}
        shown = pruned(self.app, self.plan.volume, self.plan.keep, dry_run=self.dry_run, spared=spared)
        gone = ", ".join(shown["removed"]) or "none"
        left = "".join(f"; {each['name']} stays ({each['code']}: {each['message']})" for each in shown["left"])
        return f"{'would remove' if self.dry_run else 'removed'} {gone}; {len(shown['kept'])} kept{left}"

    def _before(self) -> str:
        return self._hook("before", {})

    def _taken(self) -> str:
        return self._hook("taken", self._about())

    def _after(self) -> str:
        problem = self._problem()
        return self._hook("after", {**self._about(), "RESULT": "failed" if problem else "ok", "MESSAGE": problem or ""})

    def _about(self) -> dict[str, str]:
        if not self.snapshot or self.dry_run:
            return {}
        with suppress(FmrdError):
            [volume] = self.app.ask("print", volume=self.snapshot)["volumes"]
            return {"SNAPSHOT": self.snapshot, "PATH": volume["path"]}
        return {}

    def _hook(self, name: str, more: Mapping[str, str]) -> str:
        """Run one of the administrator's programs; what it prints is told where it fails."""
        command = list(self.plan.hooks[name])
        why = why_not(Path(command[0]))
        if why is not None:
            raise Failed("failed", f"{command[0]} {why}")
        if self.dry_run:
            return f"would run {' '.join(command)}"
        environment = os.environ | {"FMRD_VOLUME": self.plan.volume} | {f"FMRD_{k}": v for k, v in more.items() if v}
        try:
            ran = run(command, self.plan.hook_seconds, environment, apart=True)
        except TimeoutError as error:
            raise Failed("failed", str(error)) from None
        if ran.status:
            raise Failed("failed", f"{command[0]} failed with status {ran.status} ({ran.last})")
        return f"ran {command[0]}"
