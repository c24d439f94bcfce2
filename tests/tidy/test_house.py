"""The package can be walked through: few doors on a floor, small rooms, and no way leads in a circle."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "fmrd"

MOST_MODULES = 12
"""Of a folder, its __init__.py aside: as many as one look takes in."""

MOST_LINES = 250
"""Of a module. What is said in more is about two things."""

Imports = Mapping[str, set[str]]
"""Module -> the modules that it imports."""


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE.parent).as_posix()


def folders() -> list[Path]:
    return sorted({path.parent for path in PACKAGE.rglob("*.py")})


@pytest.mark.parametrize("folder", folders(), ids=name_of)
def test_a_folder_is_seen_at_one_look(folder: Path) -> None:
    modules = sorted(path.name for path in folder.glob("*.py") if path.name != "__init__.py")
    assert len(modules) <= MOST_MODULES, f"{name_of(folder)} has {len(modules)} modules, {MOST_MODULES} are the most"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=name_of)
def test_a_module_is_no_longer_than_a_room(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES, f"{name_of(path)} has {lines} lines, {MOST_LINES} are the most: divide it"


def test_no_imports_lead_in_a_circle() -> None:
    """Those for type checkers and those in functions count as well: they hide a circle, and do not open it."""
    found = [f"{', '.join(members)} (such as {way})" for members, way in circles(imports_of_the_package())]
    assert not found, "modules that cannot be understood without each other: " + "; ".join(found)


def imports_of_the_package() -> Imports:
    paths = {".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts): p for p in PACKAGE.rglob("*.py")}
    known = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    return {name: set(imported(ast.parse(path.read_text()), known)) - {name} for name, path in known.items()}


def imported(tree: ast.AST, known: Mapping[str, object]) -> Iterator[str]:
    """Which of the known modules a module imports, anywhere in it. A package's name stands for its __init__.py."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield from (name for name in [inner if inner in known else str(node.module)] if name in known)


def circles(imports: Imports) -> Iterator[tuple[list[str], str]]:
    """Each set of modules that all reach each other, sorted, and a shortest way around in it."""
    ways = {name: way_back(imports, name) for name in sorted(imports)}
    left = {name for name, way in ways.items() if way}
    while left:
        first = min(left)
        reach = reached(imports, first)
        members = sorted(name for name in left if name in reach and first in reached(imports, name))
        yield members, " -> ".join(min((ways[name] for name in members), key=len))
        left -= set(members)


def way_back(imports: Imports, start: str) -> list[str]:
    """The shortest way from a module to itself, or [] where there is none."""
    ways = [[start]]
    seen = set()
    for way in ways:
        for name in sorted(imports[way[-1]]):
            if name == start:
                return [*way, start]
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []


def reached(imports: Imports, start: str) -> set[str]:
    seen = set()
    waiting = [start]
    while waiting:
        new = imports[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


def test_a_circle_is_found() -> None:
    arrows = ["a>b", "b>c", "b>d", "c>a", "c>b", "d>e", "e>f", "f>e", "g>a", "g>h"]
    imports = {name: {arrow[2] for arrow in arrows if arrow[0] == name} for name in "abcdefgh"}
    assert list(circles(imports)) == [(["a", "b", "c"], "b -> c -> b"), (["e", "f"], "e -> f -> e")]
    assert list(circles({"a": {"b", "c"}, "b": {"c"}, "c": set()})) == []


def test_every_import_counts() -> None:
    source = """
import m.a
from m.b import name
from m import c, other
from typing import Any
if TYPE_CHECKING:
    from m.d import name
def function():
    from m import e
"""
    known = {name: None for name in ("m", "m.a", "m.b", "m.c", "m.d", "m.e", "m.f")}
    assert sorted(imported(ast.parse(source), known)) == ["m", "m.a", "m.b", "m.c", "m.d", "m.e"]
