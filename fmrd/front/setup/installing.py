"""`fmrctl install-units` puts in place what a wheel or a checkout has beside Python: units, timers, scripts, udev
rules, manual pages, completions. They name the programs where these are.
"""

import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from fmrd.errors import Failed, Refused
from fmrd.front.ctl import words
from fmrd.front.ctl.app import App
from fmrd.front.ctl.options import DRY_RUN, force
from fmrd.front.setup.changes import Change, answer, show
from fmrd.front.setup.sources import sources

WRITTEN_PREFIX = "/usr/local"
"""What the units, rules and scripts say where their programs are."""
PROGRAMS = ("fmrd", "fmrctl", "fmrd-vx")
MOUNT_HELPER = Path("/sbin/mount.fmrd")
"""mount(8) looks nowhere else."""
GENERATOR = Path("/etc/systemd/system-generators/fmrd-generator")
"""systemd runs it before anything but the root file system is there."""
HELPERS = {
    "fmrd-backup": "scripts/backup", "fmrd-export": "systemd/fmrd-export", "fmrd-far": "systemd/fmrd-far",
    "fmrd-loop": "systemd/fmrd-loop",
}  # fmt: skip
"""What the units call, by where it is."""
NOTED = "share/fmrd-installed.json"
"""Below the prefix: what was put in place, with the checksum of each. Who changed a file since then keeps it."""


@dataclass(frozen=True)
class Piece:
    """One file: where it comes, what is in it, and whether it can be run."""

    place: Path
    content: bytes
    runs: bool = False


@click.command("install-units")
@click.option("--prefix", type=words.path, default=WRITTEN_PREFIX, show_default=True, help="Of scripts and pages.")
@click.option("--root", type=words.path, default="/", show_default=True, help="Put all of it below this directory.")
@force("Replace files that somebody has changed.")
@DRY_RUN
@click.pass_obj
def install_units(app: App, prefix: str, root: str, force: bool, dry_run: bool) -> None:
    """Put units, timers, scripts, udev rules, manual pages and completions in place; links to the programs, too.

    What is there and the same stays. What somebody has changed is refused without --force; drop-ins (systemctl edit)
    are for changes. Nothing is started or enabled.
    """
    pieces = list(_pieces(Path(prefix), _programs()))
    base = Path(root)
    noted = _noted(base, Path(prefix))
    differ = [piece for piece in pieces if not _is_there(base, piece)]
    theirs = [piece for piece in differ if _is_changed(base, piece, noted)]
    if theirs and not force and not dry_run:
        named = ", ".join(str(piece.place) for piece in theirs)
        raise Refused(
            "file_changed", f"somebody has changed {named}", "--force replaces it; changes belong into drop-ins"
        )
    if not dry_run:
        for piece in differ:
            _write(base, piece)
        sums = {str(piece.place): hashlib.sha256(piece.content).hexdigest() for piece in pieces}
        _write(base, Piece(Path(prefix) / NOTED, json.dumps(sums, indent=1).encode()))
    changes = [Change(str(piece.place), "write", f"write {piece.place}") for piece in differ]
    changes += list(_links(base, Path(prefix), make=not dry_run))
    app.show(answer(changes), partial(_for_people, app, dry_run=dry_run))


def _for_people(app: App, result: dict[str, object], *, dry_run: bool) -> None:
    show(app.out, result, dry_run=dry_run)
    if result["changed"] and not dry_run:
        app.err.print("fmrctl: now: systemctl daemon-reload; udevadm control --reload; systemctl enable --now fmrd")


def _programs() -> Path:
    """Return the directory in which fmrd's programs are: beside this Python, or this program."""
    for folder in (Path(sys.executable).parent, Path(sys.argv[0]).absolute().parent):
        if all((folder / name).exists() for name in PROGRAMS[:2]):
            return folder
    return Path(sys.executable).parent


def _pieces(prefix: Path, programs: Path) -> Iterator[Piece]:
    """Return all that is put in place. Failed('no_sources')."""
    root = sources()
    names = {f"{WRITTEN_PREFIX}/bin/{name}": f"{programs}/{name}" for name in PROGRAMS[:2]}
    for path in sorted((root / "systemd").glob("*.*")):
        yield Piece(Path("/etc/systemd/system") / path.name, _here(path, prefix, names))
    yield Piece(GENERATOR, (root / "systemd" / GENERATOR.name).read_bytes(), runs=True)
    for name, source in HELPERS.items():
        yield Piece(prefix / "sbin" / name, _here(root / source, prefix, names), runs=True)
    yield Piece(prefix / "lib/fmrd/probe", (root / "udev/probe").read_bytes(), runs=True)
    for path in sorted((root / "udev").glob("*.rules")):
        yield Piece(Path("/etc/udev/rules.d") / path.name, _here(path, prefix, names))
    with tempfile.TemporaryDirectory() as made:
        _make_pages(Path(made))
        for path in sorted(Path(made).rglob("*")):
            if path.is_file():
                place = str(path.relative_to(made)).replace("vendor-completions", "site-functions")
                yield Piece(prefix / "share" / place, path.read_bytes())


def _here(path: Path, prefix: Path, names: Mapping[str, str]) -> bytes:
    """A file that names programs where they are: those of fmrd itself, and those below the prefix."""
    text = path.read_text()
    for name, program in sorted(names.items(), reverse=True):  # fmrd is the beginning of others
        text = text.replace(f"{name} ", f"{program} ")
    return (
        text.replace(f"{WRITTEN_PREFIX}/sbin/", f"{prefix}/sbin/")
        .replace(f"{WRITTEN_PREFIX}/lib/", f"{prefix}/lib/")
        .encode()
    )


def _make_pages(folder: Path) -> None:
    """In another process: fmrctl knows nothing of the daemon, of which there is a page, too."""
    command = [sys.executable, "-m", "fmrd.front.setup.making", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise Failed("failed", f"manual pages cannot be made: {done.stderr.strip().splitlines()[-1:]}")


def _below(base: Path, place: Path) -> Path:
    return base / place.relative_to("/")


def _is_there(base: Path, piece: Piece) -> bool:
    path = _below(base, piece.place)
    try:
        same = path.read_bytes() == piece.content
        return same and bool(path.stat().st_mode & stat.S_IXUSR) == piece.runs
    except OSError:
        return False


def _is_changed(base: Path, piece: Piece, noted: Mapping[str, str]) -> bool:
    """Is there something else than was put there?"""
    path = _below(base, piece.place)
    if not os.path.lexists(path):
        return False
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() != noted.get(str(piece.place))
    except OSError as error:
        raise Failed("failed", f"{path} cannot be read: {error.strerror}") from error


def _noted(base: Path, prefix: Path) -> Mapping[str, str]:
    try:
        found = json.loads(_below(base, prefix / NOTED).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(base: Path, piece: Piece) -> None:
    """All of it, or nothing: it comes under its name when it is whole."""
    path = _below(base, piece.place)
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(piece.content)
        new.chmod(0o755 if piece.runs else 0o644)
        new.rename(path)
    except OSError as error:
        raise Failed("failed", f"{path} cannot be written: {error.strerror}") from error


def _links(base: Path, prefix: Path, *, make: bool) -> Iterator[Change]:
    """Links to the programs, where these are elsewhere; what has the name of one stays."""
    programs = _programs()
    for shown in (*(prefix / "bin" / name for name in PROGRAMS), MOUNT_HELPER):
        place, target = _below(base, shown), programs / shown.name
        if target == shown or not target.exists() or os.path.lexists(place):
            continue
        if make:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)
        yield Change(str(shown), "link", f"link {shown} to {target}")
