"""How many tests of each tier ran, and how long they took: a table at the end of a run that had several.

A tier is a folder under tests/. scripts/test runs pytest twice, first (as a part of scripts/check) for the tidy tier;
FMRD_TIERS names the file through which one run tells the next what it counted. Seconds are those of the tests, added
up, so two workers have up to two of them in each second.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

import pytest

TIERS = ("tidy", "core", "dco", "backing", "engine", "front", "sim", "e2e", "ceph", "prometheus", "deb")
"""In the order of the table. A folder that is not named here comes behind them."""

OPTIONAL = {
    "ceph": "needs ceph-mon, ceph-osd and python3-rbd (apt-get, as root), and skips without them",
    "prometheus": "needs Debian's prometheus package (scripts/prometheus fetches it), and skips without it",
    "deb": "needs root, a network, mmdebstrap and mandoc, and skips without them",
}
"""Tiers that not every machine can run, and why."""

OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
"""As pytest counts them in its closing line, in which a test that fails in its teardown has also passed."""

SECONDS = "seconds"

Tally = dict[str, Counter[str]]
"""Tier -> how many tests had which outcome, and the seconds of all of them."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A hook of pytest; with xdist it is called in the process that collects the workers' reports, and only there."""
    tally = counted(terminalreporter.stats)
    between = os.environ.get("FMRD_TIERS")
    if between:
        with open(between, "a+") as file:
            file.seek(0)
            earlier = [json.loads(line) for line in file]
            file.write(json.dumps(tally) + "\n")
        for each in earlier:
            for tier, counts in each.items():
                tally.setdefault(tier, Counter()).update(counts)
    if len(tally) > 1:
        terminalreporter.section("tiers")
        for line in table(tally):
            terminalreporter.line(line)


def counted(stats: Mapping[str, Iterable[Any]]) -> Tally:
    """Count what pytest's terminal reporter has collected: outcome -> reports; '' are setups and teardowns."""
    tally: Tally = {}
    for outcome in ("", *OUTCOMES):
        for report in stats.get(outcome, ()):
            counts = tally.setdefault(tier_of(report.nodeid), Counter())
            counts[SECONDS] += getattr(report, "duration", 0.0)  # a module that cannot be imported has none
            if outcome:
                counts[outcome] += 1
    return tally


def tier_of(nodeid: str) -> str:
    """Return the folder under tests/ that holds the test."""
    folders = PurePosixPath(nodeid.partition("::")[0]).parts[:-1]
    return (folders[folders.index("tests") + 1 :] or ("tests",))[0] if "tests" in folders else "others"


def table(tally: Tally) -> list[str]:
    """Return a line for each tier: its name, its outcomes, its seconds."""
    tiers = [*TIERS, *sorted(tally.keys() - set(TIERS))]
    rows = [(tier, tally[tier]) for tier in tiers if tier in tally]
    said = [", ".join(f"{counts[each]} {each}" for each in OUTCOMES if counts[each]) for _, counts in rows]
    wide = max(map(len, said))
    lines = [
        f"{tier:10} {text:{wide}} {counts[SECONDS]:7.1f} s" for (tier, counts), text in zip(rows, said, strict=True)
    ]
    ran = {tier for tier, counts in rows if any(counts[each] for each in OUTCOMES if each != "skipped")}
    lines += [f"{tier:10} did not run: it {why}" for tier, why in OPTIONAL.items() if tier in tally and tier not in ran]
    return lines
