"""fmrd-vx is started here: by its own name (fmrd-vx vxassist ...), or by a link that has a tool's."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fmrd.core.printable import escaped
from fmrd.errors import BadRequest, Failed, FmrdError
from fmrd.front.conf.reading import read_conf
from fmrd.front.ctl.app import App
from fmrd.front.places import default_places
from fmrd.front.vx.asking import Vx
from fmrd.front.vx.forms import ABSENT, FORMS, form_of
from fmrd.front.vx.typed import NotSupported, read, tag_of

INTERRUPTED = 130
STATUSES = {"volume_missing": 11, "plex_missing": 11, "volume_exists": 12}
"""Exit statuses that scripts around VxVM look at; every other failure has that of fmrctl."""

HELP = """\
fmrd-vx TOOL ...            as TOOL was typed under VERITAS Volume Manager; -g GROUP is taken, and shown where it was
fmrd-vx --link DIRECTORY    links under the tools' names, so that they are typed by themselves
fmrd-vx --help

New plexes are files in the directories of [vx.disks] in fmrd.conf, or -o fmrd_paths=PATH,PATH...
Exit status: 0 done, 11 there is no such volume or plex, 12 it exists already, 1 failed or not supported, 2 usage,
3 refused for safety, 4 the daemon cannot be reached.
"""


def main() -> None:
    called = os.path.basename(sys.argv[0])
    sys.exit(run([called, *sys.argv[1:]] if called in FORMS else sys.argv[1:]))


def run(line: Sequence[str], socket: Path | None = None) -> int:
    """Run one command line, the tool first, and return its exit status. ``socket``: the daemon's, for tests."""
    try:
        return _run(list(line), socket)
    except NotSupported as error:
        return _complain(f"not supported: {error.what}", error.hint, Failed.exit_status)
    except FmrdError as error:
        return _complain(f"{error.code}: {error.message}", error.hint, STATUSES.get(error.code, error.exit_status))
    except KeyboardInterrupt:
        return _complain("interrupted; what the daemon has begun goes on", "", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Failed.exit_status


def _run(line: list[str], socket: Path | None) -> int:
    if line in ([], ["--help"], ["-h"]):
        print(help_text(), end="")
        return 0
    if line[0] == "--link":
        if len(line) != 2:
            raise BadRequest("bad_request", "fmrd-vx --link DIRECTORY", "such as /usr/local/sbin")
        link(Path(line[1]), Path(sys.argv[0]))
        return 0
    if line[0] not in FORMS:
        raise NotSupported(line[0], f"fmrd-vx knows {', '.join(FORMS)}")
    typed = read(line[0], line[1:])
    form = form_of(typed)
    conf = read_conf()
    where = socket or Path(os.environ.get("FMRD_SOCKET") or conf.daemon.get("socket") or default_places().socket)
    form.run(Vx(App(where, as_json=False, tag=tag_of(typed)), conf), typed)
    sys.stdout.flush()
    return 0


def link(folder: Path, program: Path) -> None:
    """Make a link for each tool, but where something else has that name: VxVM itself, perhaps. Failed('failed')."""
    target = program.resolve()
    for tool in FORMS:
        place = folder / tool
        try:
            if not (place.is_symlink() and place.resolve() == target):
                place.symlink_to(target)
        except OSError as error:
            raise Failed("failed", f"{place} cannot be made: {error.strerror}", "nothing there was changed") from error


def help_text() -> str:
    """Every form, as it is typed, and what VxVM has and fmrd has not."""
    shown = dict.fromkeys(form.shown for forms in FORMS.values() for form in forms.values())
    absent = [f"{tool} {word}: {hint}" for tool, words in ABSENT.items() for word, hint in words.items()]
    lines = [HELP, "Forms:", *(f"  {each}" for each in shown), "", "Not supported, and what comes nearest:"]
    return "\n".join([*lines, *(f"  {each}" for each in absent)]) + "\n"


def _complain(text: str, hint: str, status: int) -> int:
    print(escaped(f"fmrd-vx: {text}"), file=sys.stderr)
    if hint:
        print(escaped(f"hint: {hint}"), file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
