"""What is wrong with the nights of volumes, as findings of 'fmrctl status'."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from fmrd.core.json_object import Json
from fmrd.front.ctl.glance.health import Finding, Health, Judged


def with_nights(judged: Collection[Judged], nights: Collection[Json], *, all_of_them: bool) -> list[Judged]:
    """Add what is wrong with its night to each volume; with ``all_of_them`` also plans of volumes that are not there.
    ``nights`` is what the verb 'nights' answers.
    """
    told = {night["volume"]: findings_of(night) for night in nights}
    found = [_with(each, told.get(each.name, [])) for each in judged]
    if all_of_them:
        known = {each.name for each in judged}
        found += [_stray(night) for night in nights if night["volume"] not in known]
    return found


def findings_of(night: Json) -> list[Finding]:
    """Return what is not as it should be."""
    if night["plan_problem"]:
        cause = f"its plan for the night cannot be heeded: {night['plan_problem']}"
        action = f"mend {night['plan']}, then fmrctl nightly {night['volume']} --dry-run"
        return [Finding(Health.OVERDUE, cause, action)]
    found = []
    if night["problem"]:
        when = datetime.fromtimestamp(night["begun"]).strftime("%Y-%m-%d %H:%M")
        cause = f"its night of {when} failed: {night['problem']}"
        found.append(Finding(Health.OVERDUE, cause, f"mend that, then fmrctl nightly {night['volume']}"))
    if night["missed"]:
        found.append(Finding(Health.OVERDUE, night["cause"], night["action"]))
    return found


def _with(judged: Judged, findings: list[Finding]) -> Judged:
    if not findings:
        return judged
    every = sorted((*judged.findings, *findings), key=lambda finding: list(Health).index(finding.health))
    worst = min(judged.health, every[0].health, key=list(Health).index)
    return replace(judged, health=worst, findings=tuple(every))


def _stray(night: Json) -> Judged:
    cause = f"there is a plan for its nights ({night['plan']}), and no such volume"
    finding = Finding(Health.OVERDUE, cause, f"make it, or remove {night['plan']}")
    return Judged(night["volume"], Health.OVERDUE, 0, 0, 0, (finding,))
