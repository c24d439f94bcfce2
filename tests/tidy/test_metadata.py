"""pyproject.toml says what fmrd needs: every module that it imports from elsewhere, and nothing it does not import."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def imported(folder: Path) -> Iterator[str]:
    """First names of what is imported from outside the standard library and the package, anywhere in a module."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            yield from {name.split(".")[0] for name in names} - sys.stdlib_module_names - {folder.name}


def normal(name: str) -> str:
    """A distribution's name, as they are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_the_package_imports_is_what_it_declares() -> None:
    distributions = packages_distributions()
    needed = {normal(each) for name in set(imported(ROOT / "fmrd")) for each in distributions.get(name, [name])}
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["top"]]
    declared = {normal(re.split(r"[^\w.-]", each)[0]) for each in wanted}
    assert needed == declared


def test_the_licence_is_in_the_tree() -> None:
    assert (PROJECT["license"], PROJECT["license-files"]) == ("MIT", ["LICENSE"])
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n\nCopyright (c) 2026 the fmrd authors\n")
