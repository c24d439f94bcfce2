"""`fmrctl explain` says what a code or a state means; without a word, which there are."""

import click

from fmrd.core.json_object import Json
from fmrd.core.states import PlexState, VolumeState
from fmrd.errors import EXPLANATIONS, Failed
from fmrd.explanations import ERRORS, REASONS
from fmrd.front.ctl.app import App
from fmrd.front.ctl.glance.health import MEANS
from fmrd.front.ctl.glance.picking import meant

PLEXES = {
    PlexState.ACTIVE: "The plex is in sync, and takes all reads and writes.",
    PlexState.TEMP: "The plex is attached, and what it missed is being copied to it; it is ACTIVE when that has ended.",
    PlexState.STALE: "The plex is detached: it takes no I/O, and what it misses is remembered. 'fmrctl plex att VOL "
    "PLEX' attaches it.",
    PlexState.IOFAIL: "The plex left by itself, after an error or because its disk did not answer. It comes back by "
    "itself when the disk answers; 'fmrctl print VOL' says what failed, and since when.",
    PlexState.OFFLINE: "The plex was taken away (plex off), over restarts, too. 'fmrctl plex on VOL PLEX' brings it "
    "back.",
    PlexState.SNAPATT: "A snapshot plex that is being filled (snapstart); it is SNAPDONE when it has everything.",
    PlexState.SNAPDONE: "A snapshot plex that is in sync: 'fmrctl snapshot VOL' breaks it off.",
}
VOLUMES = {
    VolumeState.CLEAN: "The volume was stopped in order. Of a plex: it was in sync then.",
    VolumeState.ACTIVE: "The volume is started, or the plex is in sync and takes all reads and writes.",
    VolumeState.SYNC: "The volume is started and recovers from a crash: its plexes are made equal, while it is in use.",
    VolumeState.NEEDSYNC: "The volume was not stopped in order: its next start recovers it.",
}
STATES = {
    **{word.value: text for word, text in MEANS.items()},
    **{word.value: text for word, text in PLEXES.items()},
    **{word.value: text for word, text in VOLUMES.items()},
}
KINDS = (("state of a volume or a plex", STATES), ("reason of a copy, or of none", REASONS), ("error", ERRORS))


@click.command()
@click.argument("code", required=False)
@click.pass_obj
def explain(app: App, code: str | None) -> None:
    """Say what a code or a state (IOFAIL, DEGRADED...) means, and what to do; without one, list them all."""
    if code is None:
        listed = [
            {"word": str(word), "kind": kind, "explanation": text}
            for kind, known in KINDS
            for word, text in known.items()
        ]
        app.show({"codes": listed}, lambda _: _list(app))
        return
    explanation = EXPLANATIONS.get(code) or STATES.get(code.upper())
    if explanation is None:
        hint = meant(code, EXPLANATIONS) or meant(code.upper(), STATES) or "fmrctl explain lists them all"
        raise Failed("unknown_code", f"no error, reason or state is called {code!r}", hint)
    found: Json = {"code": code, "explanation": explanation}
    app.show(found, lambda shown: app.out.print(shown["explanation"]))


def _list(app: App) -> None:
    for kind, known in KINDS:
        app.out.print(f"{kind}:")
        for word, text in known.items():
            app.out.print(f"  {word:22} {text.split('. ')[0].split(': ')[0]}")
