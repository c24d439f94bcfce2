"""What the documents say about the code is true: names exist, tables of bytes are those that are written."""

import ast
import re
import struct
import tomllib
from pathlib import Path

import click
import pytest

from fmrd.backing import locator
from fmrd.dco import layout
from fmrd.explanations import REASONS
from fmrd.front.ctl.cli import cli

PACKAGE = Path(__file__).parents[2] / "fmrd"
README = (PACKAGE.parent / "README.md").read_text()
FORMAT = (PACKAGE / "dco" / "FORMAT.md").read_text()
MAPS = [PACKAGE.parent / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md")]
NAMED = re.compile(r"\b([A-Za-z_]+)\.(_?[A-Za-z_]+)\b(?!\.)")


def names_of_the_code() -> set[str]:
    """'Class.method', 'Class.attribute', 'module.name' of all in the package; a class has what its base has."""
    found = set()
    bases = []
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(f"{path.stem}.{node.name}")
            elif isinstance(node, ast.Assign):
                found |= {f"{path.stem}.{ast.unparse(target)}" for target in node.targets}
        for cls in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            bases += [(cls.name, ast.unparse(base)) for base in cls.bases]
            for node in ast.walk(cls):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    found.add(f"{cls.name}.{node.name}")
                elif isinstance(node, ast.AnnAssign | ast.Assign):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    found |= {f"{cls.name}.{ast.unparse(t).removeprefix('self.')}" for t in targets}
    inherited = {f"{cls}.{name.split('.')[1]}" for cls, base in bases for name in found if name.startswith(f"{base}.")}
    return found | inherited


PROTOCOLS = PACKAGE.parent / "docs" / "PROTOCOLS.md"


@pytest.mark.parametrize("document", [*sorted(PACKAGE.rglob("*.md")), PROTOCOLS, *MAPS], ids=lambda path: path.name)
def test_every_function_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    files = ("py", "md", "g", "dco", "toml", "txt", "fmrd")
    named = {f"{a}.{b}" for a, b in NAMED.findall(text) if b not in files and a != "tests"}
    assert sorted(named - names_of_the_code()) == []


def table(title: str) -> list[tuple[int, int, str]]:
    """(offset, length, what) of the rows of the table whose third column has that title."""
    body = FORMAT.split(f"| {title} |\n|---|---|---|\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines()]
    return [(int(offset), int(length), what) for offset, length, what in rows]


def fields_of(packing: struct.Struct) -> list[tuple[int, int]]:
    """(offset, length) of each field, reserved bytes included."""
    found = []
    offset = 0
    for count, kind in re.findall(r"(\d*)([sxIQ])", packing.format):
        unit = {"s": 1, "x": 1, "I": 4, "Q": 8}[kind]
        sizes = [int(count or 1)] if kind in "sx" else [unit] * int(count or 1)
        for size in sizes:
            found.append((offset, size))
            offset += size
    return found


TABLES = {"record header": layout._RECORD, "page header": layout._PAGE, "locator": locator._LOCATOR}


@pytest.mark.parametrize("title", TABLES)
def test_a_table_of_bytes_is_what_the_code_packs(title: str) -> None:
    assert [(offset, length) for offset, length, _ in table(title)] == fields_of(TABLES[title])


@pytest.mark.parametrize(
    ("title", "magic"),
    [("record header", layout.RECORD_MAGIC), ("page header", layout.PAGE_MAGIC), ("locator", locator._LOCATOR_MAGIC)],
)
def test_a_table_begins_with_the_magic(title: str, magic: bytes) -> None:
    assert table(title)[0] == (0, 8, f"magic, `{magic.decode()}`")


def test_the_places_in_a_copy_are_the_documented_ones() -> None:
    assert [row.split("|")[1].strip() for row in FORMAT.split("| offset | length | what |")[1].splitlines()[2:5]] == [
        str(layout.record_offset(0)), str(layout.record_offset(1)), str(layout.page_offset(0, 0, 0)),
    ]  # fmt: skip
    assert layout.page_offset(3, 7, 1) == 262144 + ((7 * 40 + 3) * 2 + 1) * 4096


def test_every_field_of_a_record_is_documented() -> None:
    source = (PACKAGE / "dco" / "body.py").read_text()
    keys = set(re.findall(r'^ +"(\w+)": ', source, re.MULTILINE))
    assert keys and not [key for key in sorted(keys) if f"`{key}`" not in FORMAT]


def command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command of fmrctl that these words call, and the words after it."""
    found: click.Command = cli
    while isinstance(found, click.Group) and words and words[0] in found.commands:
        found, words = found.commands[words[0]], words[1:]
    return found, words


def quoted() -> list[str]:
    """Command lines in the README: lines of its examples, and what stands between backticks."""
    examples = "\n".join(README.split("```")[1::2])
    prose = "".join(README.split("```")[::2])
    return re.findall(r"fmrctl ([a-z][^|;&)\n]*)", examples) + re.findall(r"`(?:fmrctl )?([a-z][^`]*)`", prose)


def test_every_command_in_the_readme_exists() -> None:
    lines = [line for line in quoted() if line.split()[0] in cli.commands]
    assert len(lines) > 20
    for line in lines:
        found, rest = command(line.split())
        assert not isinstance(found, click.Group) or not rest, f"there is no 'fmrctl {line}'"
        options = {name for parameter in found.params for name in parameter.opts}
        unknown = [word for word in rest if word.startswith("--") and word not in options]
        assert not unknown, f"'fmrctl {line}': no {unknown}"


def test_the_readme_tells_every_reason() -> None:
    section = README.split("## Why is it copying?")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(rows) == sorted(REASONS)


def test_the_map_of_the_tree_names_each_module_once() -> None:
    listed = re.findall(r"^- `([a-z_/]+\.py)` \S", MAPS[0].read_text(), re.MULTILINE)
    there = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    beside = ["errors.py", "explanations.py"]
    assert sorted([*listed, *beside]) == sorted(there)


@pytest.mark.parametrize("document", MAPS, ids=lambda path: path.name)
def test_every_file_that_a_map_names_is_there(document: Path) -> None:
    root = document.parent
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", document.read_text()))
    places = [root, PACKAGE, *(folder for folder in PACKAGE.rglob("*") if folder.is_dir())]
    assert named and not [name for name in sorted(named) if not any((place / name).exists() for place in places)]


def rows_of_what_happens() -> list[str]:
    section = README.split("## What happens when\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")][2:]


def rows_beside_others() -> list[str]:
    section = README.split("## Beside zpool, drbdadm, mdadm, lvs\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")][2:]


@pytest.mark.parametrize("row", rows_of_what_happens() + rows_beside_others(), ids=lambda row: row[2:40])
def test_what_happens_has_a_test(row: str) -> None:
    found = re.search(r" <!-- (tests/\w+/test_\w+\.py)::(test_\w+) --> \|$", row)
    assert found, f"no test is named: {row}"
    path = PACKAGE.parent / found[1]
    assert re.search(rf"^(async )?def {found[2]}\(", path.read_text(), re.MULTILINE), f"{found[1]} has no {found[2]}"


def test_setting_up_puts_everything_in_place() -> None:
    """By a command; what it puts where is looked at by tests/front/test_installing.py."""
    setting_up = README.split("## Setting up\n")[1].split("\n## ")[0]
    version = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]["version"]
    for line in (
        "/opt/fmrd/bin/fmrctl install-units",
        "scripts/build-deb",
        f"apt install ./dist/fmrd_{version}_all.deb",
    ):
        assert line in setting_up.splitlines()
