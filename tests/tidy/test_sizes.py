"""Functions fit a screen, and modules beside the package are not long. For those of the package: test_house.py."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(p for folder in ("fmrd", "tests", "benchmarks") for p in (ROOT / folder).rglob("*.py"))

MOST_LINES_OF_A_BENCHMARK = 350

MOST_LINES_OF_A_TEST = 500
"""Tests are read one at a time, so their modules may be longer."""

MOST_LINES_OF_A_FUNCTION = 65


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


@pytest.mark.parametrize("path", [p for p in MODULES if not p.is_relative_to(ROOT / "fmrd")], ids=name_of)
def test_a_module_beside_the_package_is_not_long(path: Path) -> None:
    name = name_of(path)
    most = MOST_LINES_OF_A_TEST if name.startswith("tests/") else MOST_LINES_OF_A_BENCHMARK
    assert lines_of(path) <= most, f"{name} has {lines_of(path)} lines, {most} are the most: divide it"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_function_fits_a_screen(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MOST_LINES_OF_A_FUNCTION, f"{name_of(path)}:{node.lineno} {node.name} has {lines} lines"
