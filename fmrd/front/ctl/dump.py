"""fmrctl dump shows the DCO beside a plex, read offline, without the daemon and without writing."""

import click

from fmrd.front.ctl import words
from fmrd.front.ctl.app import App


@click.command()
@click.argument("file", type=words.path)
@click.pass_obj
def dump(app: App, file: str) -> None:
    """Show the DCO in FILE: a plex's sidecar (PLEX.dco), a home copy, or a block device or an
    NBD export (nbd://...) that carries one at its end, or is one.
    """
    from fmrd.front.ctl import offline  # the only verb that needs trio's import, a third of a second

    app.show({"dco": offline.read_dco(file)}, lambda shown: offline.print_dco(app.out, shown["dco"]))
