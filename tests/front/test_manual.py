"""Manual pages: whole, made of the commands themselves, and nothing that mandoc would complain of."""

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from fmrd.engine.events.ring import KINDS, Event
from fmrd.front.ctl.cli import cli
from fmrd.front.daemon.daemon import main as daemon
from fmrd.front.setup.commands import leaves
from fmrd.front.setup.making import COMPLETIONS, make
from fmrd.front.setup.mdoc import document
from fmrd.front.setup.pages import PAGES, PROSE, commands
from fmrd.front.setup.sources import sources
from fmrd.front.told.hooks import UNHEARD, environment_of


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("share")
    make(folder)
    return folder


def page(share: Path, name: str) -> str:
    [path] = share.glob(f"man/*/{name}.[58]")
    return path.read_text()


def test_all_are_made(share: Path) -> None:
    made = sorted(path.name for path in share.glob("man/*/*"))
    assert made == sorted(each.file for each in PAGES)
    assert {path.stem for path in (sources() / PROSE).glob("*.md")} == {each.name for each in PAGES if not each.whole}
    assert all((share / place).read_text().strip() for place in COMPLETIONS.values())


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
@pytest.mark.parametrize("name", [each.name for each in PAGES])
def test_mandoc_finds_nothing_wrong(share: Path, name: str) -> None:
    [path] = share.glob(f"man/*/{name}.[58]")
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "style", path], capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if "referenced manual not found" not in line]
    assert not said and not done.stderr


def test_each_command_is_told_once_with_all_its_options(share: Path) -> None:
    told = [words for of_page in commands().values() for words, _ in of_page]
    assert sorted(told) == sorted(words for words, _ in leaves(cli))
    for name, of_page in commands().items():
        text = page(share, name)
        for words, command in of_page:
            section = text.split(f".Ss {' '.join(words)}\n")[1].split("\n.S")[0].replace("\\-", "-")
            options = {n for p in command.params if isinstance(p, click.Option) for n in p.opts if n.startswith("--")}
            assert options <= {f"-{found}" for found in re.findall(r"Fl (-\S+)", section)}, words


def test_the_daemons_page_has_its_options(share: Path) -> None:
    text = page(share, "fmrd").replace("\\-", "-")
    for parameter in daemon.params:
        assert f"Fl {parameter.opts[0][1:]}" in text


def test_each_page_has_what_a_page_has(share: Path) -> None:
    for each in PAGES:
        text = page(share, each.name)
        sections = re.findall(r"^\.Sh (.+)$", text, re.MULTILINE)
        assert sections[0] == "NAME" and sections[-1] == "SEE ALSO" and "DESCRIPTION" in sections
        if not each.whole:
            assert "EXAMPLES" in sections, each.name


def test_the_page_of_hooks_has_all_events_and_variables(share: Path) -> None:
    text = page(share, "fmrd-hooks").replace("\\-", "-")
    events, got = text.split(".Sh EVENTS\n")[1].split(".Sh WHAT IS DONE")[0].split(".Sh WHAT A HOOK GETS\n")
    assert set(re.findall(r'^\.It Sy "(.+)"$', events, re.MULTILINE)) == KINDS.keys() - UNHEARD
    event = Event("1", 1, 1.0, "plex_failed", "said", "data", "data-01", "do", {"code": "io_error"})
    assert set(re.findall(r'^\.It Sy "(.+)"$', got, re.MULTILINE)) == environment_of(event).keys()


@pytest.mark.parametrize(
    ("markdown", "mdoc"),
    [
        ("One. Two `a-b`.", ["One.", r"Two \fBa\-b\fR."]),
        (".dot", [r"\&.dot"]),
        ("back\\slash", [r"back\eslash"]),
        ("## A part\n\ntext", [".Sh A PART", "text"]),
        ("a\n\nb", ["a", ".Pp", "b"]),
        ("```\n.x -y\n```", [".Bd -literal -offset indent", r"\&.x \-y", ".Ed"]),
        ("- a\n- b\n  c", [".Bl -bullet -compact", ".It", "a", ".It", "b c", ".El"]),
        ("| k | v |\n|---|---|\n| `x` | y |", [".Bl -tag -width Ds", '.It Sy "x"', "y", ".El"]),
        ("| k | t | v |\n|---|---|---|\n| x | y | z |", [".Bl -tag -width Ds", '.It Sy "x"', "t: y; v: z", ".El"]),
        ("a <!-- not this --> b", ["a b"]),
    ],
)
def test_markdown_becomes_mdoc(markdown: str, mdoc: list[str]) -> None:
    assert list(document(markdown)) == mdoc
