"""The manual pages: which there are, and of what each is made. Their prose lies in docs/man, one file a page; what the
commands take and do comes from the commands themselves.
"""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from fmrd.front.ctl.cli import cli
from fmrd.front.daemon.daemon import main as daemon
from fmrd.front.setup.commands import description, leaves, short_list, synopsis
from fmrd.front.setup.mdoc import document, line, literal
from fmrd.front.told.hooks import UNHEARD
from fmrd.front.vx.main import help_text

DATE = "November 30, 2026"


@dataclass(frozen=True)
class Page:
    """``about``: its one line; ``rooms``: the modules whose commands of fmrctl it tells; ``whole``: a document that is
    the page, below the root of the sources, instead of prose of its own.
    """

    name: str
    section: int
    about: str
    rooms: tuple[str, ...] = ()
    whole: str = ""

    @property
    def file(self) -> str:
        return f"{self.name}.{self.section}"


PAGES = (
    Page("fmrd", 8, "serves mirrored volumes as files"),
    Page("fmrctl", 8, "commands mirrored volumes"),
    Page(
        "fmrctl-volume",
        8,
        "volumes are made, started, stopped, shown",
        ("fmrd.front.ctl.hand.volumes", "fmrd.front.ctl.dump"),
    ),
    Page("fmrctl-plex", 8, "plexes of a volume leave and return", ("fmrd.front.ctl.plex",)),
    Page(
        "fmrctl-snapshot",
        8,
        "snapshots are taken, given back, and restored from",
        ("fmrd.front.ctl.snap", "fmrd.front.stores.commands"),
    ),
    Page("fmrctl-task", 8, "copies in the background are watched and steered", ("fmrd.front.ctl.task",)),
    Page("fmrctl-verify", 8, "copies are compared, and mended", ("fmrd.front.ctl.verify",)),
    Page("fmrd-vx", 8, "takes the commands of VERITAS Volume Manager"),
    Page("fmrd-loop", 8, "puts a volume on a loop device under a name that stays"),
    Page("fmrd-export", 8, "serves a volume or a snapshot to other machines"),
    Page("fmrd-far", 8, "serves a disk as the far plex of another machine"),
    Page("mount.fmrd", 8, "mounts what is on a volume, for lines in fstab"),
    Page("fmrd-backup", 8, "backs a volume up from a refreshed snapshot"),
    Page("fmrd.conf", 5, "what an installation of fmrd sets once"),
    Page("fmrd-dco", 5, "the bytes in which fmrd remembers what plexes miss", whole="fmrd/dco/FORMAT.md"),
    Page("fmrd-hooks", 5, "programs that fmrd runs with each event"),
    Page("fmrd-json", 5, "what fmrctl prints under --json", whole="docs/JSON.md"),
)
PROSE = "docs/man"


def room_of(command: click.Command) -> str:
    """Return the module in which a command of fmrctl is written."""
    return str(getattr(command.callback, "__module__", ""))


def commands() -> Mapping[str, list[tuple[tuple[str, ...], click.Command]]]:
    """Page -> the commands that it tells; those of a room that no page has are told by fmrctl(8) itself."""
    pages = {room: page.name for page in PAGES for room in page.rooms}
    found: dict[str, list[tuple[tuple[str, ...], click.Command]]] = {}
    for words, command in leaves(cli):
        found.setdefault(pages.get(room_of(command), "fmrctl"), []).append((words, command))
    return found


def lines_of(page: Page, sources: Path) -> Iterator[str]:
    """Return the lines of a page; ``sources``: the root of a checkout, or what has its documents."""
    yield f".Dd {DATE}"
    yield f".Dt {page.name.upper()} {page.section}"
    yield ".Os fmrd"
    yield ".Sh NAME"
    yield f".Nm {page.name}"
    yield f".Nd {page.about.replace('--', chr(92) + '-' + chr(92) + '-')}"
    if page.whole:
        text = (sources / page.whole).read_text()
        yield ".Sh DESCRIPTION"
        yield from document(text)
        yield from _see_also(page)
        return
    prose = (sources / PROSE / f"{page.name}.md").read_text()
    before, mark, after = prose.partition("\n## Commands\n")
    yield from _synopsis(page)
    yield ".Sh DESCRIPTION"
    yield from document(before)
    if mark:
        yield from _commands(page, sources)
        yield from document(after.lstrip())
    yield from _see_also(page)


def _synopsis(page: Page) -> Iterator[str]:
    told = commands().get(page.name, []) if page.rooms else []
    program = {"fmrd": daemon, "fmrctl": cli}.get(page.name)
    if not (told or program or page.section == 8):
        return
    yield ".Sh SYNOPSIS"
    for words, command in told:
        yield from synopsis("fmrctl", words, command)
    if program is not None:
        yield from synopsis(page.name, (), program)
    if page.name == "fmrctl":
        yield ".Ar COMMAND ..."
    elif not told and program is None:
        yield f".Nm {page.name}"
        yield f".Ar {TYPED[page.name]}"


TYPED = {
    "fmrd-vx": "TOOL ...",
    "fmrd-loop": "start|stop VOLUME",
    "fmrd-export": "VOLUME OPTION ...",
    "fmrd-far": "DISK OPTION ...",
    "mount.fmrd": "VOLUME DIRECTORY",
    "fmrd-backup": "VOLUME MOUNTPOINT",
}
"""Of programs that are no commands of click's: how they are typed."""


def _commands(page: Page, sources: Path) -> Iterator[str]:
    if page.name == "fmrd-hooks":
        yield ".Sh EVENTS"
        yield from document(_events_for_hooks((sources / "docs/JSON.md").read_text()))
    elif page.name == "fmrd":
        yield ".Sh OPTIONS"
        yield from description((), daemon, heading=False)
    elif page.name == "fmrd-vx":
        yield ".Sh FORMS"
        for text in help_text().split("\nForms:\n")[1].splitlines():
            yield from _form(text)
    elif page.name == "fmrctl":
        yield ".Sh OPTIONS"
        yield from description((), cli, heading=False)
        yield ".Sh COMMANDS"
        known = commands()
        pages = {words: name if name != "fmrctl" else "below" for name, told in known.items() for words, _ in told}
        yield from short_list([(words, command, pages[words]) for words, command in leaves(cli)])
        for words, command in known.get("fmrctl", []):
            yield from description(words, command)
    else:
        yield ".Sh COMMANDS"
        for words, command in commands()[page.name]:
            yield from description(words, command)


def _events_for_hooks(text: str) -> str:
    """Return the table of all events, without those that no hook hears of."""
    rows = text.split("\n## Events\n")[1].split("\n## ")[0].strip().splitlines()
    return "\n".join(row for row in rows if row.startswith("|") and not row.startswith(_UNHEARD))


_UNHEARD = tuple(f"| `{kind}` " for kind in UNHEARD)


def _form(text: str) -> Iterator[str]:
    if text.startswith("  "):
        yield from literal(textwrap.wrap(text.strip(), 66, subsequent_indent="    ", break_on_hyphens=False))
    elif text:
        yield ".Pp"
        yield line(text)


def _see_also(page: Page) -> Iterator[str]:
    others = sorted((each for each in PAGES if each is not page), key=lambda each: (each.section, each.name))
    yield ".Sh SEE ALSO"
    for each in others:
        yield f".Xr {each.name} {each.section}{' ,' if each is not others[-1] else ''}"


def write(folder: Path, sources: Path) -> list[Path]:
    """Write all pages into ``folder``/man8 and man5; return their paths."""
    made = []
    for page in PAGES:
        path = folder / f"man{page.section}" / page.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines_of(page, sources)) + "\n")
        made.append(path)
    return made
