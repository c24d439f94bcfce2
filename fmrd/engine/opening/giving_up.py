"""What a volume forgets: the DCO of a plex goes, and its file if that is asked for, as far as they are that plex's.

Whoever has them by now, another host's daemon, another volume, another disk in that place, keeps them: the plex is
locked and its copy of the DCO read first. What is left alone is told.
"""

from collections.abc import Iterable
from functools import partial

from fmrd.backing.calls.system_calls import ask
from fmrd.core.record import PlexRecord, Record
from fmrd.core.volume.plex import Plex
from fmrd.dco.loading import Loaded, load
from fmrd.engine.context import Context
from fmrd.engine.opening.closing import close
from fmrd.engine.opening.files import open_plex
from fmrd.engine.serving.open_plex import Lanes
from fmrd.errors import Failed, FmrdError


async def give_up(
    context: Context, record: Record, plexes: Iterable[PlexRecord | Plex], *, erase: bool = False
) -> list[str]:
    """``record``: the last one of the family that had them. Sentences about what was left as it is."""
    found = [await _one(context, record, plex, erase=erase) for plex in plexes]
    return [f"{plex} is left as it is: {why}" for plex, why in found if why]


async def _one(context: Context, record: Record, plex: PlexRecord | Plex, *, erase: bool) -> tuple[str, str]:
    told = f"plex {plex.name} ({plex.path})"
    if plex.excluded:
        return told, "it was left out, by start --without or an import that did not name it"
    lanes, timeout = Lanes(plex.name), context.io_timeout_seconds
    try:
        files = await open_plex(context, plex.path, plex.dco_path, lanes, 0, timeout, known=plex.tail)
    except (FmrdError, OSError) as error:
        if not isinstance(error, Failed) or error.code != "plex_missing":
            return told, str(error)
        return told, await _leftover(context, record, plex, lanes)
    try:
        if files.dco is None and not erase:
            return told, ""
        if why := _not_ours(record, plex, files.loaded):
            return told, why
        remove = partial(_remove, context, plex, erase=erase)
        await ask(context.system, lanes.data, remove, timeout)
    except (FmrdError, OSError) as error:
        return told, str(error)
    finally:
        await close(context, lanes, files)
    return told, ""


async def _leftover(context: Context, record: Record, plex: PlexRecord | Plex, lanes: Lanes) -> str:
    """The plex is not there; a copy of its DCO may be."""

    def run() -> str:
        file = context.host.open_dco(plex.path, plex.dco_path)
        if file is None:
            return ""
        try:
            why = _not_ours(record, plex, load(file))
        finally:
            file.close()
        if not why:
            _remove(context, plex, erase=False)
        return why

    try:
        return await ask(context.system, lanes.data, run, context.io_timeout_seconds)
    except (FmrdError, OSError) as error:
        return str(error)


def _remove(context: Context, plex: PlexRecord | Plex, *, erase: bool) -> None:
    context.host.remove_dco(plex.path, plex.dco_path)
    if erase:
        context.host.remove_plex(plex.path)


def _not_ours(record: Record, plex: PlexRecord | Plex, loaded: Loaded | None) -> str:
    """Empty where the copy of the DCO says that it is this plex, and that nobody went on with it elsewhere."""
    if loaded is None or not loaded.image.names(record.family, plex.uuid):
        return "no DCO that names it lies there, so it may be another disk or file"
    theirs = loaded.image.record
    if theirs is not None and not record.knows(theirs.position) and theirs.position != plex.has:
        return f"it went on elsewhere (at {theirs.sequence} of lineage {theirs.lineage[:8]}, not known here)"
    return ""
