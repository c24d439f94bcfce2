"""Nothing unfinished, nothing silenced without its reason, no test that sleeps."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("fmrd", "tests", "docs", "scripts", "systemd", "benchmarks", ".ci", "udev", "debian")
TEXTS = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and "__pycache__" not in path.parts and "results" not in path.parts
) + [ROOT / name for name in ("README.md", "CHANGELOG.md", "pyproject.toml")]
TESTS = [path for path in TEXTS if path.is_relative_to(ROOT / "tests") and path.suffix == ".py"]

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b|\bbreakpoint\(|\bpdb\b")
SILENCED = {
    "noqa": re.compile(r"#\s*noqa(?!: [A-Z]+\d+(, [A-Z]+\d+)*  ?\S+ \S)"),
    "type: ignore": re.compile(r"#\s*type: ignore(?!\[[a-z-]+(, ?[a-z-]+)*\]  ?# \S+ \S)"),
    "pytest.skip": re.compile(r"pytest\.mark\.(skip|xfail)(?!if)(?!\([^)]*reason=)|pytest\.skip\(\)"),
}
"""Each wants a reason in words behind it: '# noqa: E402  (needs the table above)'."""

WAITS = ("wait", "poll", "until", "eventually")
"""A function so named may pause, in a loop that looks for its condition."""

VIRTUAL_CLOCKS = {"autojump_clock", "mock_clock"}
"""With one of these, a test's sleep takes no time."""

SIMULATION = ROOT / "tests" / "sim"
"""It runs on a clock of its own, so trio.sleep() takes no time there; time.sleep() would."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", [p for p in TEXTS if p != Path(__file__)], ids=name_of)
def test_nothing_is_left_over(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        where = f"{name_of(path)}:{number}: {line.strip()}"
        assert not UNFINISHED.search(line), f"unfinished: {where}"
        for what, pattern in SILENCED.items():
            assert not pattern.search(line), f"{what} without a reason: {where}"
        assert line == line.rstrip(), f"blanks at the end: {where}"


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_no_test_sleeps(path: Path) -> None:
    simulated = path.is_relative_to(SIMULATION)
    lines = path.read_text().splitlines()
    wrong = [
        f"{name_of(path)}:{line}"
        for line in sleeps_in(ast.parse("\n".join(lines)))
        if not (simulated and "trio.sleep(" in lines[line - 1])
    ]
    assert not wrong, f"wait for a condition instead: {', '.join(wrong)}"


def sleeps_in(tree: ast.AST, function: str = "", *, looping: bool = False, virtual: bool = False) -> Iterator[int]:
    """Line numbers of calls of a sleep() that really waits, and not in a loop of a function named for waiting."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = {a.arg for a in (*node.args.args, *node.args.kwonlyargs)}
            yield from sleeps_in(node, node.name, virtual=virtual or bool(arguments & VIRTUAL_CLOCKS))
            continue
        if isinstance(node, ast.Call) and re.fullmatch(r"(\w+\.)?sleep", ast.unparse(node.func)):
            zero = isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
            waits = looping and any(word in function for word in WAITS)
            if not (zero or waits or virtual):
                yield node.lineno
        loop = isinstance(node, ast.While | ast.For | ast.AsyncFor)
        yield from sleeps_in(node, function, looping=looping or loop, virtual=virtual)


def test_a_sleep_is_seen() -> None:
    def lines(source: str) -> list[int]:
        return list(sleeps_in(ast.parse(source)))

    assert lines("def test():\n    time.sleep(1)") == [2]
    assert lines("async def test():\n    for _ in x:\n        await trio.sleep(0.1)") == [3]
    assert lines("def wait_for(x):\n    sleep(1)") == [2]
    assert lines("def wait_for(x):\n    while not x():\n        time.sleep(0.01)") == []
    assert lines("async def test(autojump_clock):\n    await trio.sleep(5)") == []
    assert lines("async def test():\n    await trio.sleep_forever()") == []


@pytest.mark.parametrize("path", [p for p in TEXTS if p.suffix == ".py"], ids=name_of)
def test_nothing_is_raised_where_a_group_is_handled(path: Path) -> None:
    """Python 3.11.0 to 3.11.3 (Debian 12 has 3.11.2) wrap whatever leaves an 'except*' in a group, SystemExit too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.TryStar):
            for inner in (inner for handler in node.handlers for inner in ast.walk(handler)):
                leaves = isinstance(inner, ast.Raise) or (
                    isinstance(inner, ast.Call) and "exit" in ast.unparse(inner.func)
                )
                assert not leaves, f"{name_of(path)}:{inner.lineno}: raise it behind the handler"
