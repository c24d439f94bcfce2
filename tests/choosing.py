"""Which tests execute a line, and one process that has them all imported and forks to run some: for scripts/mutate."""

import hashlib
import itertools
import json
import os
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from tests.mutants_of import Mutant

TESTS = ("tests/core", "tests/dco", "tests/backing", "tests/engine", "tests/sim")
MAP_SECONDS = 300
"""The most that a test takes while its lines are recorded."""
QUIET_SECONDS = 10.0
"""A test that takes so much longer than ten times what it took there hangs, and has noticed."""

Tests = dict[str, tuple[float, dict[str, list[int]]]]
"""Test -> seconds, and path -> lines that it executes."""


class Server:
    """tests/mutant_server.py in a copy of the tree."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        ours, its = socket.socketpair()
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider",
                   "-p", "tests.mutant_server", *TESTS]  # fmt: skip
        environment = os.environ | {"PYTHONPATH": str(tree), "FMRD_MUTANTS": str(its.fileno())}
        self._process = subprocess.Popen(command, cwd=tree, env=environment, pass_fds=[its.fileno()],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip
        its.close()
        self._line = ours.makefile("rw")
        ours.close()
        self.tests: list[str] = json.loads(self._line.readline())

    def ask(self, **request: Any) -> Iterator[dict[str, Any]]:
        """Yield what is answered, at last {"end": exit status}."""
        print(json.dumps(request), file=self._line, flush=True)
        while answer := json.loads(self._line.readline()):
            yield answer
            if "end" in answer:
                return

    def close(self) -> None:
        self._line.close()
        self._process.wait()


class Chooser:
    """The tests of each mutant: first those that noticed others in its module, then those named after it, the cheapest
    of them first.
    """

    def __init__(self, tests: Tests, most: float) -> None:
        """``most``: so many seconds of tests for a mutant."""
        self._most = most
        self._seconds = {test: seconds for test, (seconds, _) in tests.items()}
        self._at: dict[tuple[str, int], list[str]] = defaultdict(list)
        for test, (_, paths) in tests.items():
            for path, lines in paths.items():
                for line in lines:
                    self._at[path, line].append(test)
        self._noticed: dict[str, list[str]] = defaultdict(list)

    def tests_of(self, mutant: Mutant) -> list[tuple[str, float]]:
        """Return its tests, each with the seconds after which it hangs."""
        lines = range(mutant.line, mutant.last + 1)
        chosen = {test for line in lines for test in self._at.get((mutant.path, line), ())}
        noticed = {test: -number for number, test in enumerate(self._noticed[mutant.path], 1)}
        own = f"/test_{PurePosixPath(mutant.path).stem}.py::"
        tests = sorted(chosen, key=lambda test: (noticed.get(test, 0), own not in test, self._seconds[test]))
        until = itertools.accumulate(self._seconds[test] for test in tests)
        return [
            (test, QUIET_SECONDS + 10 * self._seconds[test])
            for test, seconds in zip(tests, until, strict=True)
            if seconds <= self._most or test == tests[0]
        ]

    def noticed(self, mutant: Mutant, test: str) -> None:
        before = self._noticed[mutant.path]
        before[:] = [*(each for each in before if each != test), test]


def mapped(server: Server, cache: Path) -> Tests:
    """Return which lines each test executes; what is in the cache, of the same texts, is not run again."""
    cache.mkdir(parents=True, exist_ok=True)
    shared = [
        p for folder in ("fmrd", "tests/*") for p in server.tree.glob(f"{folder}/**/*.py") if p.name[:5] != "test_"
    ]
    of_file = defaultdict(list)
    for test in server.tests:
        of_file[test.partition("::")[0]].append(test)
    found: Tests = {}
    for name, tests in of_file.items():
        known = cache / f"{_hash([*sorted(shared), server.tree / name])}.json"
        if not known.exists():
            print(f"which lines {name} executes", file=sys.stderr)
            answers = server.ask(map=True, tests=[(test, MAP_SECONDS) for test in tests])
            lines = {each["test"]: (each["seconds"], each["lines"]) for each in answers if "test" in each}
            known.write_text(json.dumps(lines))
        found |= json.loads(known.read_text())
    return found


def _hash(paths: list[Path]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()[:16]
