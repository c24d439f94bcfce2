"""`import`: a volume known only by its plexes (RULES, "Import")."""

from dataclasses import replace

import trio

from fmrd.core.images import CopyImage
from fmrd.core.record import Record
from fmrd.core.recovery import Found, Standing, StartOptions, judge_plexes
from fmrd.dco.copy import Loaded
from fmrd.engine.context import Context
from fmrd.engine.files import Lanes, PlexFiles, let_go, open_plex
from fmrd.engine.opening import Opening, start_from_copy
from fmrd.errors import Failed, FmrdError, Refused

ByUuid = dict[str, tuple[str, PlexFiles]]
"""Path and files of each plex."""


async def read_paths(context: Context, paths: list[str]) -> dict[str, PlexFiles]:
    """Every path, opened, by path. Failed('not_imported') names those that carry no DCO."""
    opened: dict[str, PlexFiles] = {}
    problems: dict[str, str] = {}

    async def one(path: str) -> None:
        try:
            files = await open_plex(context, path, None, Lanes(path), 0, context.io_timeout_seconds)
        except (FmrdError, OSError) as error:
            problems[path] = str(error)
            return
        opened[path] = files
        if files.image is None:
            problems[path] = "no readable DCO beside it"

    async with trio.open_nursery() as nursery:
        for path in paths:
            nursery.start_soon(one, path)
    owners: dict[str, str] = {}
    for path, files in opened.items():
        if files.image is not None and owners.setdefault(files.image.owner, path) != path:
            problems[path] = f"it is the same plex as {owners[files.image.owner]}"
    families = {f.image.record.family for f in opened.values() if f.image and f.image.record}
    if not problems and len(families) > 1:
        problems = {path: "they belong to different volumes" for path in paths[:1]}
    if problems:
        for files in opened.values():
            let_go(context, files.lanes, files)
        raise Failed("not_imported", "; ".join(f"{path}: {why}" for path, why in sorted(problems.items())))
    return opened


def newest_of(opened: dict[str, PlexFiles], prefer: str | None) -> tuple[str, Record]:
    """(path, record) of the copy that is an ancestor of no other; Refused('split_brain') where there are several."""
    records = {path: _record(files) for path, files in opened.items()}
    leaders = [
        path
        for path, record in records.items()
        if not any(
            other.knows(record.position) and other.position != record.position
            for name, other in records.items()
            if name != path
        )
    ]
    positions = {records[path].position for path in leaders}
    if prefer is not None:
        chosen = [p for p in opened if prefer in (p, _name(records[p], opened[p]))]
        if not chosen:
            raise Failed("plex_unknown", f"--prefer {prefer} is none of the plexes given")
        return chosen[0], records[chosen[0]]
    if len(positions) > 1:
        sides = ", ".join(f"{path} (at {records[path].sequence} of {records[path].lineage[:8]})" for path in leaders)
        raise Refused("split_brain", f"these plexes were written separately: {sides}", "--prefer PLEX chooses one side")
    return leaders[0], records[leaders[0]]


async def import_family(
    context: Context, opened: dict[str, PlexFiles], home: Loaded | None, *, prefer: str | None, force: bool
) -> Opening:
    """``home``: an existing home copy of that family, which must be an ancestor unless ``force``."""
    try:
        leader, record = newest_of(opened, prefer)
        volume = record.volume
        by_uuid = {files.image.owner: (path, files) for path, files in opened.items() if files.image is not None}
        plexes = tuple(replace(p, path=by_uuid[p.uuid][0]) if p.uuid in by_uuid else p for p in volume.plexes)
        record = replace(record, volumes=(replace(volume, plexes=plexes, stopped=False), *record.volumes[1:]))
        old = home.image.record if home is not None else None
        if old is not None and not record.knows(old.position) and not force:
            raise Refused(
                "foreign_plex",
                f"volume {volume.name}: the home copy here is at {old.sequence} of lineage {old.lineage[:8]}, "
                "which these plexes do not know",
                "import --force gives up the home copy's line",
            )
        missing = [p.name for p in plexes if p.is_open and p.uuid not in by_uuid]
        if missing and not force:
            raise Refused(
                "no_current_plex",
                f"volume {volume.name}: {', '.join(missing)} took part in the last writes and is not among the paths",
                "name it too, or import --force with what is here",
            )
        found = {p.uuid: _found(by_uuid.get(p.uuid)) for p in plexes}
        without = frozenset(p.name for p in plexes if _diverged(record, found[p.uuid].image))
        standing = _judge(record, found, without, leader if force else None, by_uuid)
        files = {uuid: f for uuid, (_, f) in by_uuid.items() if record.volume.plex(uuid) is not None}
        lanes = {uuid: f.lanes for uuid, f in files.items()}
        for stranger in set(by_uuid) - set(files):  # the record that leads does not know it
            let_go(context, by_uuid[stranger][1].lanes, by_uuid[stranger][1])
        loaded = opened[leader].loaded
        assert loaded is not None
    except BaseException:
        for plex_files in opened.values():
            let_go(context, plex_files.lanes, plex_files)
        raise
    return await start_from_copy(context, record, loaded, standing, found, lanes, files)


def _judge(
    record: Record, found: dict[str, Found], without: frozenset[str], accepted: str | None, by_uuid: ByUuid
) -> dict[str, Standing]:
    """Who is on-line. Where each plex was changed since the volume was stopped (files that were copied look so, too),
    only the administrator can say that one of them is good: by force, the path that leads.
    """
    standing = judge_plexes(record, found, StartOptions(without=without))
    volume = record.volume
    changed = [p.name for p in volume.plexes if standing[p.uuid].reason == "full_backing_changed"]
    if not changed or any(standing[p.uuid].online for p in volume.plexes):
        return standing
    if accepted is None:
        raise Refused(
            "plexes_changed",
            f"volume {volume.name}: no plex is as fmrd left it (copied, or changed since: {', '.join(changed)})",
            "import --force takes one as it is (--prefer says which), and copies it to the others",
        )
    name = next(p.name for p in volume.plexes if p.uuid in by_uuid and by_uuid[p.uuid][0] == accepted)
    return judge_plexes(record, found, StartOptions(without=without, accept=name))


def _record(files: PlexFiles) -> Record:
    assert files.image is not None and files.image.record is not None
    return files.image.record


def _name(record: Record, files: PlexFiles) -> str:
    plex = record.volume.plex(files.image.owner) if files.image else None
    return plex.name if plex is not None else ""


def _found(here: tuple[str, PlexFiles] | None) -> Found:
    return here[1].found() if here is not None else Found(False, problem="not among the paths")


def _diverged(record: Record, image: CopyImage | None) -> bool:
    return image is not None and image.record is not None and not record.knows(image.record.position)
