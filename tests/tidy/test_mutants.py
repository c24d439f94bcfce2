"""scripts/mutate: what it changes, and that what is argued there is still in the code."""

from pathlib import Path

import pytest

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
            name, _, why = line.partition(" | ")
            assert why, f"without a reason: {name}"
            assert name in {m.name for m in _of(ROOT / name.split()[0])}


def _of(path: Path) -> list[Mutant]:
    return mutants_of(path.relative_to(ROOT).as_posix(), path.read_text())
