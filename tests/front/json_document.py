"""docs/JSON.md as data: which fields an object has and of what type, what a command prints; and objects held to it."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from fmrd.core.json_object import Json
from fmrd.errors import EXPLANATIONS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "JSON.md").read_text()
PLAIN = {"string": str, "integer": int, "boolean": bool}


def table(title: str) -> list[list[str]]:
    """Rows of the first table under that heading, cell by cell, without its head."""
    section = re.split(rf"^#+ {re.escape(title)}$", DOCUMENT, flags=re.MULTILINE)[1]
    lines = re.split(r"^#", section, flags=re.MULTILINE)[0].splitlines()
    rows = [line.removeprefix("|").removesuffix("|").split("|") for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def words(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


@dataclass(frozen=True)
class Field:
    """As its row tells: 'list of plex or absent'."""

    type: str
    is_list: bool
    or_null: bool
    or_absent: bool
    one_of: list[str]
    """The only values it has, where they are listed."""


def _field(row: list[str]) -> tuple[str, Field]:
    name, kind, what = row
    found = re.fullmatch(r"(list of )?(\w+)( or null)?( or absent)?", kind)
    assert found, f"{name}: {kind!r} is no type"
    listed = re.match(r"one of (`[^`]+`(, )?)+", what)
    one_of = words(listed[0]) if listed else []
    return words(name)[0], Field(found[2], bool(found[1]), bool(found[3]), bool(found[4]), one_of)


OBJECTS = {
    title: dict(map(_field, table(title)))
    for title in re.findall(r"^### ([a-z_]+)$", DOCUMENT, re.MULTILINE)
}  # fmt: skip


@dataclass(frozen=True)
class Command:
    """What it prints: fields that are always there, and others. ``dry_run``: with that option; empty, it has none."""

    always: set[str]
    maybe: set[str]
    dry_run: set[str]


def _commands() -> dict[str, Command]:
    found = {}
    for names, prints, *rest in table("Answers"):
        maybe = {word for part in re.findall(r"\(([^)]*)\)", prints) for word in words(part)}
        always = set(words(re.sub(r"\([^)]*\)", "", prints)))
        for name in words(names):
            found[name] = Command(always, maybe, set(words(" ".join(rest))))
    return found


COMMANDS = _commands()


@dataclass
class Seen:
    """What was printed so far: of each (object, field) 'value', 'null' or 'absent'."""

    found: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))

    def look(self, value: Json, kind: str, where: str = "") -> None:
        """AssertionError where the document says otherwise."""
        where = where or kind
        fields = OBJECTS[kind]
        assert not value.keys() - fields.keys(), f"{where}: not documented: {sorted(value.keys() - fields.keys())}"
        for name, told in fields.items():
            place = f"{where}.{name}"
            if name not in value:
                assert told.or_absent, f"{place} is not there"
                self.found[kind, name].add("absent")
                continue
            for each in value[name] if told.is_list else [value[name]]:
                self._look_at(each, told, kind, name, place)

    def _look_at(self, value: object, told: Field, kind: str, name: str, place: str) -> None:
        if value is None:
            assert told.or_null, f"{place} is null"
            self.found[kind, name].add("null")
            return
        self.found[kind, name].add("value")
        if told.type in OBJECTS:
            assert isinstance(value, dict), f"{place} is {value!r}, not an object"
            self.look(value, told.type, place)
        elif told.type == "number":
            assert isinstance(value, int | float) and not isinstance(value, bool), f"{place} is {value!r}"
        else:
            assert type(value) is PLAIN[told.type], f"{place} is {value!r}, not {told.type}"
        assert not told.one_of or value in told.one_of, f"{place} is {value!r}, none of {told.one_of}"
        assert name != "code" or value in EXPLANATIONS, f"{place} is {value!r}, which nobody explains"

    def never(self) -> list[str]:
        """What is documented and was not seen."""
        missing = []
        for kind, fields in OBJECTS.items():
            for name, told in fields.items():
                wanted = {"value"} | ({"null"} if told.or_null else set()) | ({"absent"} if told.or_absent else set())
                missing += [f"{kind}.{name}: {each}" for each in sorted(wanted - self.found[kind, name])]
        return missing
