"""Imports point one way: front -> engine -> dco -> core -> errors; backing serves dco and engine by its protocol."""

import ast
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fmrd"

ROOMS = {
    "errors": {"errors", "explanations"},
    "explanations": set(),
    "core": {"core", "errors"},
    "backing": {"backing", "core", "errors"},
    "dco": {"dco", "backing.protocol", "backing.calls.system_calls", "core", "errors"},
    "engine": {
        "engine", "dco", "backing.protocol", "backing.calls.system_calls", "backing.calls.fan", "core", "errors",
    },
    "front": {"front", "engine", "dco", "backing", "core", "errors", "explanations"},
}  # fmt: skip
"""What each room may import of fmrd."""

CORE_MAY_USE = {
    "__future__",
    "bitarray",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "itertools",
    "typing",
    "zlib",
}
"""core is pure: values only. No clock, no randomness, no system, no trio, no log."""

ONLY = {
    "pyfuse3": {"front/doors/fusefs.py"},
    "click": {"front"},
    "rich": {"front"},
    "textual": {"front/ctl/measured/screen.py"},
    "prometheus_client": {"front/metrics"},
    "ctypes": {"backing/libc.py", "backing/looking/blkid.py", "backing/ring", "front"},
}
"""A library that only these files (or rooms) may import."""

SYSTEM_CALLS = {"pread", "preadv", "pwrite", "pwritev", "fdatasync", "fsync", "copy_file_range", "sendfile"}
"""Calls of os that only backing makes: data passes one door."""

READS_BY_ITSELF = {"front/ctl/offline.py"}
"""fmrctl dump reads a copy of the DCO where no daemon runs, and must not open it for writing."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imports_of(path: Path) -> list[str]:
    """Dotted names of what is imported, anywhere in the module: 'fmrd.core.names' for 'from fmrd.core import names'."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import hides which room is meant"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def allowed(imported: str, rooms: set[str]) -> bool:
    return imported == "fmrd.__version__" or any(
        imported == f"fmrd.{room}" or imported.startswith(f"fmrd.{room}.") for room in rooms
    )


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_room_imports_only_what_lies_below_it(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        assert not [i for i in imports_of(path) if i.startswith("fmrd.")]
        return
    assert room in ROOMS, f"{name_of(path)} is in none of the rooms"
    wrong = [i for i in imports_of(path) if i.split(".")[0] == "fmrd" and not allowed(i, ROOMS[room])]
    assert not wrong, f"{name_of(path)} reaches up: {', '.join(wrong)}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").rglob("*.py")), ids=name_of)
def test_core_is_pure(path: Path) -> None:
    wrong = {i.split(".")[0] for i in imports_of(path)} - CORE_MAY_USE - {"fmrd"}
    assert not wrong, f"{name_of(path)} uses {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("library", ONLY)
def test_a_library_stays_in_its_place(library: str) -> None:
    places = ONLY[library]
    wrong = [
        name_of(path)
        for path in modules()
        if any(i.split(".")[0] == library for i in imports_of(path))
        and not places.intersection([name_of(path), *map(str, PurePosixPath(name_of(path)).parents)])
    ]
    assert not wrong, f"{library} belongs into {', '.join(sorted(places))} only, not {', '.join(wrong)}"


def test_only_backing_does_input_and_output() -> None:
    wrong = []
    for path in modules():
        if name_of(path).startswith("backing/") or name_of(path) in READS_BY_ITSELF:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in SYSTEM_CALLS and ast.unparse(node.value) == "os":
                wrong.append(f"{name_of(path)}:{node.lineno} os.{node.attr}")
    assert not wrong


def test_fmrctl_starts_without_what_only_the_daemon_or_a_terminal_needs() -> None:
    """Half of its start was these, and a start was most of what 'fmrctl changed' took."""
    heavy = ("trio", "urllib.request", "rich.progress", "fmrd.engine.registry")
    verbs = "[*fmrd.front.ctl.cli.Verbs().values()]"
    code = f"import sys, fmrd.front.ctl.cli; {verbs}; print(*sorted(set({heavy!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []
