"""No dead files: every module is reached from a program, every test helper from a test."""

import ast
from pathlib import Path

from fmrd.front.ctl.cli import ROOMS

ROOT = Path(__file__).parents[2]
PROGRAMS = {
    "fmrd.front.daemon.daemon",
    "fmrd.front.daemon.mount_holder",
    "fmrd.front.ctl.cli",
    "fmrd.front.ctl.hand.mounting",
    "fmrd.front.vx.main",
    "fmrd.front.setup.making",
    "tests.sim.__main__",
    "tests.mutate",
    "tests.mutant_server",
    *(f"fmrd.front.{room}" for room in ROOMS),
}
"""Where execution begins, besides the tests themselves: each verb of fmrctl is imported by its name."""
OF_EACH_MODULE = {"log", "T", "_libc", "_CREDENTIALS"}
"""Names that are no shared knowledge: a logger, a type variable, the C library, and what SO_PEERCRED packs, which the
mount holder must know without the rooms it stands apart from.
"""

GUESTS = {"tests.vm.guest.agent", "tests.vm.guest.ask", "tests.vm.guest.writer"}
"""Execution begins there in the machine of scripts/test-vm."""


def modules(folder: str) -> dict[str, Path]:
    """Dotted name -> path; a package is named without its __init__."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


def reached(start: set[str], known: dict[str, Path]) -> set[str]:
    seen: set[str] = set()
    waiting = [name for name in start if name in known]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parts = name.split(".")
        waiting += [".".join(parts[:n]) for n in range(1, len(parts))]
        for node in ast.walk(ast.parse(known[name].read_text())):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names if alias.name in known]
            elif isinstance(node, ast.ImportFrom) and node.module:
                base = ".".join(parts[: len(parts) - node.level]) + "." if node.level else ""
                names = [base + node.module, *(f"{base}{node.module}.{alias.name}" for alias in node.names)]
                waiting += [n for n in names if n in known]
    return seen


def test_every_module_of_the_package_is_used_by_a_program() -> None:
    known = modules("fmrd")
    dead = set(known) - reached(PROGRAMS, known)
    assert not dead, f"nothing imports {', '.join(sorted(dead))}"


def test_every_helper_of_the_tests_is_used_by_a_test() -> None:
    known = modules("tests")
    tests = {name for name in known if name.split(".")[-1].startswith(("test_", "conftest"))}
    packages = {name for name, path in known.items() if path.name == "__init__.py"}
    dead = set(known) - reached(tests | PROGRAMS | GUESTS, known) - packages
    assert not dead, f"nothing imports {', '.join(sorted(dead))}"


def test_what_several_modules_call_alike_is_written_once() -> None:
    """Types of JSON, units, options of commands: a second one would not follow when the first one changes. Numbers may
    happen to be the same.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for name, path in modules("fmrd").items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Constant | ast.BinOp):
                for target in map(ast.unparse, node.targets):
                    found.setdefault((target, ast.unparse(node.value)), []).append(name)
    again = {what: names for what, names in found.items() if len(names) > 1 and what[0] not in OF_EACH_MODULE}
    assert not again
