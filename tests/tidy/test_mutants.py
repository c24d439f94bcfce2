"""scripts/mutate: what it changes, and that what is argued there is still in the code."""

import importlib.util
import shutil
import signal
from pathlib import Path
from types import ModuleType

import pytest

from tests.choosing import TESTS, Chooser, Server, mapped
from tests.mutant_server import put
from tests.mutants_of import Mutant, mutants_of
from tests.mutate import ARGUED, ROOMS, ROOT

SOURCE = """
async def f(plex, limit):
    if plex.closed or limit < 3:
        return None
    async with plex.lock, other() as found:
        await plex.fdatasync()
    assert limit > 3
    return os.open(plex.path, os.O_RDWR | os.O_DSYNC), Call(plex.fdatasync), limit == 3
"""
EXPECTED = [
    "plex.closed or limit < 3 -> False", "plex.closed -> False", "limit < 3 -> False", "limit < 3 -> (limit <= 3)",
    "plex.lock -> __import__('contextlib').AsyncExitStack()", "await plex.fdatasync() -> pass", "os.O_DSYNC -> 0",
    "plex.fdatasync -> (lambda: None)", "limit == 3 -> (limit != 3)",
]  # fmt: skip


def test_syncs_locks_comparisons_operands_and_ways_out_are_mutated() -> None:
    found = mutants_of("m.py", SOURCE)
    assert sorted(m.name for m in found) == sorted(f"m.py f: {change}" for change in EXPECTED)


def test_a_mutant_differs_in_one_line_that_it_names() -> None:
    for mutant in mutants_of("m.py", SOURCE):
        lines, changed = SOURCE.splitlines(), mutant.text.splitlines()
        assert [n for n, pair in enumerate(zip(lines, changed, strict=True), 1) if pair[0] != pair[1]] == [mutant.line]


def test_equal_changes_of_a_function_are_told_apart() -> None:
    found = mutants_of("m.py", "def f(a):\n    return a < 1, a < 1\n")
    assert [m.name for m in found] == ["m.py f: a < 1 -> (a <= 1)", "m.py f: a < 1 -> (a <= 1) #2"]


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_can_be_mutated(room: str) -> None:
    found = [m for path in (ROOT / "fmrd" / room).rglob("*.py") for m in _of(path)]
    assert len({m.name for m in found}) == len(found) > 100
    for mutant in found[::20]:
        compile(mutant.text, mutant.path, "exec")


def test_what_is_argued_is_still_there() -> None:
    for line in ARGUED.read_text().splitlines():
        if not line.startswith("#"):
            name, _, why = line.rpartition(" | ")
            assert why, f"without a reason: {name}"
            assert name in {m.name for m in _of(ROOT / name.split()[0])}


def test_those_that_noticed_others_come_first_then_its_own_and_the_cheapest() -> None:
    lines = {"slow": [2, 3], "fast": [3], "t/test_m.py::t": [3], "t/test_n.py::t": [3], "of_others": [9]}
    seconds = {"slow": 2.0, "fast": 1.0, "t/test_m.py::t": 5.0, "t/test_n.py::t": 3.0, "of_others": 0.0}
    chooser = Chooser({test: (seconds[test], {"m.py": lines[test]}) for test in lines}, 60.0)
    [first, *_] = mutants_of("m.py", SOURCE)
    assert first.line == 3
    chosen = [("t/test_m.py::t", 60.0), ("fast", 20.0), ("slow", 30.0), ("t/test_n.py::t", 40.0)]
    assert chooser.tests_of(first) == chosen
    chooser.noticed(first, "slow")
    assert [test for test, _ in chooser.tests_of(first)] == ["slow", "t/test_m.py::t", "fast", "t/test_n.py::t"]


def test_of_the_tests_of_a_mutant_as_many_are_run_as_there_is_time_for() -> None:
    lines = {"m.py": [3]}
    chooser = Chooser({"slow": (3.0, lines), "fast": (1.0, lines), "medium": (2.0, lines)}, 4.5)
    [first, *_] = mutants_of("m.py", SOURCE)
    assert [test for test, _ in chooser.tests_of(first)] == ["fast", "medium"]


MODULE = """
import functools
LIMIT = 3 < 4
class Counter:
    @functools.cached_property
    def few(self):
        return (self.count < LIMIT
                and all(x < 9 for x in (1, self.count)))
    def count(self):
        return None
    count = 1
"""


@pytest.fixture
def module(tmp_path: Path) -> ModuleType:
    path = tmp_path / "m.py"
    path.write_text(MODULE)
    spec = importlib.util.spec_from_file_location("m", path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_functions_get_the_code_of_another_text(module: ModuleType) -> None:
    assert module.__file__ is not None
    assert not module.Counter().few
    put(module.__file__, MODULE, MODULE.replace("self.count < LIMIT\n ", "(self.count <= LIMIT)"))
    assert module.Counter().few


def test_what_is_in_no_function_is_not_changed(module: ModuleType) -> None:
    assert module.__file__ is not None
    with pytest.raises(ValueError, match="in no function"):
        put(module.__file__, MODULE, MODULE.replace("3 < 4", "(3 <= 4)"))


LOOP = """
def countdown(n):
    while n > 0:
        n -= 1
    return n
def unused(n):
    return n == 1
"""
TRIED = "from fmrd.core.m import countdown\ndef test_ends(tmp_path):\n    assert countdown(3) == 0\n"
WRONG = "from fmrd.core.m import unused\ndef test_wrong():\n    assert unused(2)\n"


def test_a_mutant_is_noticed_by_a_test_that_executes_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for folder in ("fmrd/core", *TESTS):
        (tree / folder).mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "mutant_server.py", tree / "tests")
    texts = {"fmrd/core/m.py": LOOP, "tests/core/test_m.py": TRIED, "tests/dco/test_n.py": WRONG, "pytest.ini": ""}
    for name, text in texts.items():
        (tree / name).write_text(text)
    server = Server(tree)
    try:
        tests = mapped(server, tmp_path / "lines")
        assert {name: lines for name, (_, lines) in tests.items()} == {
            "tests/core/test_m.py::test_ends": {"fmrd/core/m.py": [3, 4, 5]}
        }
        [mutant, other] = mutants_of("fmrd/core/m.py", LOOP)
        [(nodeid, _)] = chosen = Chooser(tests, 60.0).tests_of(mutant)
        assert Chooser(tests, 60.0).tests_of(other) == []
        tried = list(server.ask(tests=chosen, path=mutant.path, before=LOOP, after=mutant.text))
        endless = LOOP.replace("n -= 1", "pass")
        hung = list(server.ask(tests=[(nodeid, 0.1)], path=mutant.path, before=LOOP, after=endless))
    finally:
        server.close()
    assert tried == [{"at": nodeid}, {"noticed": nodeid}, {"end": 0}]
    assert hung == [{"at": nodeid}, {"end": -signal.SIGALRM}]


def _of(path: Path) -> list[Mutant]:
    return mutants_of(path.relative_to(ROOT).as_posix(), path.read_text())
