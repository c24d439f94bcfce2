"""`fmrctl map` draws what each plex of a volume misses, where its snapshots differ, and where the DRL is hot."""

import os
import shutil
import sys
from pathlib import Path

import click

from fmrd.core.json_object import Json
from fmrd.errors import failed_by
from fmrd.front.ctl import words
from fmrd.front.ctl.app import App
from fmrd.front.ctl.measured.blocks import FINEST, drawn, line_cells, shades_of
from fmrd.front.ctl.measured.svg import svg_of

SVG_CELLS = 2048


@click.command("map")
@click.argument("volume")
@click.argument("plex", type=words.plex, required=False)
@click.option("--svg", type=words.path, metavar="FILE", help="Write the picture there, as SVG.")
@click.pass_obj
def draw_map(app: App, volume: str, plex: str | None, svg: str | None) -> None:
    """Draw what each plex misses, where snapshots differ, and where the dirty region log is hot.

    PLEX is one plex or one snapshot: its row alone. The picture is as large as the terminal, each character one part
    of the volume from its first byte to its last.
    """
    width, height = _size_of_terminal()
    cells = SVG_CELLS if svg is not None else line_cells(width) * FINEST
    found = app.ask("map", volume=volume, plex=plex, cells=cells)
    if svg is not None:
        try:
            Path(svg).write_text(svg_of(found["picture"]))
        except OSError as error:
            raise failed_by(error) from error
    shown = app.ask("print", volume=volume)["volumes"][0]
    states = {each["name"]: each["state"] for each in shown["plexes"]}

    def people(result: Json) -> None:
        if svg is not None:
            app.out.print(f"the picture is in {svg}")
            return
        shades = shades_of(getattr(sys.stdout, "encoding", None) or "ascii")
        for line in drawn(result["picture"], width, height, shades, states):
            app.out.print(line)

    app.show(found, people)


def _size_of_terminal() -> tuple[int, int]:
    """Columns and lines, by the environment or whichever of the three is a terminal: the picture may go to a pager."""
    terminals = [os.get_terminal_size(each) for each in (1, 2, 0) if os.isatty(each)]
    return shutil.get_terminal_size(terminals[0] if terminals else (80, 25))
