"""`import` opens a volume known only by its plexes (PROTOCOLS, "Import")."""

from dataclasses import replace

import trio

from fmrd.core.decisions.recovery import open_volume
from fmrd.core.decisions.standing import Found, Standing, StartOptions, judge_plexes
from fmrd.core.images import CopyImage
from fmrd.core.reasons import Reason
from fmrd.core.record import PlexRecord, Record, VolumeRecord, geometry_of
from fmrd.dco.loading import Loaded
from fmrd.engine.context import Context
from fmrd.engine.opening.closing import close_all
from fmrd.engine.opening.files import PlexFiles, compare, dco_bytes, open_plex
from fmrd.engine.opening.homes import Home
from fmrd.engine.opening.start import Look, Opening, open_member
from fmrd.engine.serving.open_plex import Lanes
from fmrd.errors import Failed, FmrdError, Refused, failed_by, is_exhaustion

ByUuid = dict[str, tuple[str, PlexFiles]]
"""Path and files of each plex."""


async def read_paths(context: Context, paths: list[str]) -> dict[str, PlexFiles]:
    """Open every path, and return the files by path. Failed('not_imported') names those that carry no DCO, and all are
    closed again; so they are where one is refused, as what leads back to the own mount is.
    """
    opened: dict[str, PlexFiles] = {}
    problems: dict[str, str] = {}
    refused: list[FmrdError] = []

    async def one(path: str) -> None:
        try:
            files = await open_plex(context, path, None, Lanes(path), 0, context.io_timeout_seconds)
            await compare(context, files, [files.left], context.io_timeout_seconds)
        except (FmrdError, OSError) as error:
            problems[path] = str(error)
            if isinstance(error, Refused) or is_exhaustion(error):
                refused.append(failed_by(error) if isinstance(error, OSError) else error)
            return
        opened[path] = files
        if files.record is None:
            problems[path] = "no readable DCO beside it"

    async with trio.open_nursery() as nursery:
        for path in paths:
            nursery.start_soon(one, path)
    owners: dict[str, str] = {}
    for path, files in opened.items():
        if files.record is not None and files.image is not None and owners.setdefault(files.image.owner, path) != path:
            problems[path] = f"it is the same plex as {owners[files.image.owner]}"
    families = {f.record.family for f in opened.values() if f.record is not None}
    if not problems and len(families) > 1:
        problems = {path: "they belong to different volumes" for path in paths[:1]}
    if problems:
        await close_all(context, opened)
        if refused:
            raise refused[0]
        raise Failed("not_imported", "; ".join(f"{path}: {why}" for path, why in sorted(problems.items())))
    return opened


def newest_of(opened: dict[str, PlexFiles], prefer: str | None) -> tuple[str, Record]:
    """Return (path, record) of the copy that is an ancestor of no other, or that ``prefer`` names.
    Refused('split_brain') where there are several, Failed('plex_unknown') where ``prefer`` names none.
    """
    records = {path: _record(files) for path, files in opened.items()}
    leaders = [
        path
        for path, record in records.items()
        if not any(
            other.knows(record.position) and other.position != record.position
            for name, other in records.items()
            if name != path
        )
    ] or list(records)  # copies that were tampered with may each claim to be the other's future
    positions = {records[path].position for path in leaders}
    if prefer is not None:
        chosen = [p for p in opened if prefer in (p, _name(records[p], opened[p]))]
        if not chosen:
            raise Failed("plex_unknown", f"--prefer {prefer} is none of the plexes given")
        return chosen[0], records[chosen[0]]
    if len(positions) > 1:
        sides = ", ".join(f"{path} (at {records[path].sequence} of {records[path].lineage[:8]})" for path in leaders)
        raise Refused("split_brain", f"these plexes were written separately: {sides}", "--prefer PLEX chooses one side")
    # Of one record: what was written since bears a higher sequence where it is newer.
    leader = max(leaders, key=lambda path: loaded.page_sequence if (loaded := opened[path].loaded) else 0)
    return leader, records[leader]


async def import_family(
    home: Home,
    opened: dict[str, PlexFiles],
    old: Loaded | None,
    *,
    prefer: str | None,
    force: bool,
    dry_run: bool = False,
) -> list[Opening]:
    """Open every volume of the family that has plexes among the paths, the one that leads first; the others stay
    stopped. ``old`` is an existing home copy of that family, which must be an ancestor unless ``force``.
    Refused('foreign_plex'), ('no_current_plex') or ('plexes_changed'), Failed('not_imported'); then all is closed, and
    the home copy as it was. With ``dry_run`` that is all that is found out.
    """
    context = home.context
    look = Look(context, {}, {f.image.owner: f for f in opened.values() if f.image is not None})
    try:
        leader, record = newest_of(opened, prefer)
        by_uuid = {f.image.owner: (path, f) for path, f in opened.items() if f.image is not None}
        record = _at_new_paths(record, by_uuid)
        before = old.image.record if old is not None else None
        if before is not None and not record.knows(before.position) and not force:
            raise Refused(
                "foreign_plex",
                f"volume {record.volume.name}: the home copy here is at {before.sequence} of lineage "
                f"{before.lineage[:8]}, which these plexes do not know",
                "import --force gives up the home copy's line",
            )
        present = [v for v in record.volumes if any(p.uuid in by_uuid for p in v.plexes) and not v.is_instant]
        if not present:
            raise Failed("not_imported", "an instant snapshot is nothing without the volume's own plexes")
        missing = [p.name for v in present for p in v.plexes if p.is_open and p.uuid not in by_uuid]
        if missing and not force:
            raise Refused(
                "no_current_plex",
                f"volume {record.volume.name}: {', '.join(missing)} took part in the last writes and is not among the "
                "paths",
                "name it too, or import --force with what is here",
            )
        look.found = {p.uuid: _found(by_uuid.get(p.uuid)) for v in record.volumes for p in v.plexes}
        standing = {v.name: _judge(record, v, look.found, leader if force else None, by_uuid) for v in present}
        if dry_run:
            for volume in present:
                image = _image_of(volume, record, opened[leader], look)
                open_volume(record, volume, image, look.found, standing[volume.name])
            return []
        home.lanes.update({uuid: f.lanes for uuid, (_, f) in by_uuid.items()})
        async with home.busy:
            return await _open_all(home, record, present, opened[leader], look, standing)
    finally:
        await look.close()
        await home.close_if_idle()


async def _open_all(
    home: Home, record: Record, present: list[VolumeRecord], leader: PlexFiles, look: Look,
    standing: dict[str, dict[str, Standing]],
) -> list[Opening]:  # fmt: skip
    """A new home copy, made from the copies of the plexes, and published when the volumes are open."""
    await home.must_not_hang()
    size = dco_bytes(geometry_of(max(record.volumes, key=lambda v: v.length_bytes)), record.rows)
    ledger = await home.create(record, size)
    openings: list[Opening] = []
    try:
        for volume in sorted(present, key=lambda v: not _leads(v, leader)):
            image = _image_of(volume, record, leader, look)
            openings.append(await open_member(home, ledger, record, volume, image, look, standing[volume.name]))
            await _lose_instants(openings[-1])
            await home.context.forget_checksums(volume.name)
        await home.publish()
    except BaseException:
        for opening in openings:
            del ledger.stores[opening.mirror.volume.settings.uuid]
            await close_all(home.context, opening.mirror.opened)
        raise
    return openings


async def _lose_instants(opening: Opening) -> None:
    """What an instant snapshot holds only the home copy knew."""
    mirror = opening.mirror
    for unkept in mirror.volume.unkept.values():
        unkept.map.fill()
        await mirror.store.write_pages((unkept.column.index, page) for page in sorted(unkept.due_pages))


def _leads(volume: VolumeRecord, leader: PlexFiles) -> bool:
    return leader.image is not None and volume.plex(leader.image.owner) is not None


def _image_of(volume: VolumeRecord, record: Record, leader: PlexFiles, look: Look) -> CopyImage:
    """The newest copy that travels with one of its own plexes: no other is sure to hold all of its pages."""
    own = [f.image for p in volume.plexes if (f := look.files.get(p.uuid)) is not None and f.image is not None]
    known = [i for i in own if i.record is not None and record.knows(i.record.position)]
    if _leads(volume, leader) and leader.image is not None:
        return leader.image
    order = {p.lineage: at for at, p in enumerate((*record.history, record.position))}
    return max(
        known or own,
        key=lambda i: (order.get(i.record.lineage, -1), i.record.sequence) if i.record is not None else (-2, 0),
    )


def _at_new_paths(record: Record, by_uuid: ByUuid) -> Record:
    """Plexes lie where the command found them, with the DCO that was read there. Where the others lay is the word of a
    record that anybody may have written: nothing goes there by itself, and no file that the record calls a DCO is one.
    """

    def here(plex: PlexRecord) -> PlexRecord:
        found = by_uuid.get(plex.uuid)
        if found is None:
            return replace(plex, dco_path=None, excluded=True)
        return replace(plex, path=found[0], dco_path=None, excluded=False)

    def moved(volume: VolumeRecord) -> VolumeRecord:
        return replace(volume, plexes=tuple(here(plex) for plex in volume.plexes))

    return replace(record, volumes=tuple(moved(v) for v in record.volumes))


def _judge(
    record: Record, volume: VolumeRecord, found: dict[str, Found], accepted: str | None, by_uuid: ByUuid
) -> dict[str, Standing]:
    """Who is on-line. Where each plex was changed since the volume was stopped (files that were copied look so, too),
    only the administrator can say that one of them is good: by force, the path that leads."""
    without = frozenset(p.name for p in volume.plexes if _diverged(record, found[p.uuid].image))
    options = StartOptions(without, settled=accepted is not None)
    standing = judge_plexes(record, volume, found, options)
    changed = [p.name for p in volume.plexes if standing[p.uuid].reason is Reason.FULL_BACKING_CHANGED]
    if not changed or any(standing[p.uuid].online for p in volume.plexes):
        return standing
    if accepted is None:
        raise Refused(
            "plexes_changed",
            f"volume {volume.name}: no plex is as fmrd left it (copied, or changed since: {', '.join(changed)})",
            "import --force takes one as it is (--prefer says which), and copies it to the others",
        )
    mine = [p.name for p in volume.plexes if p.uuid in by_uuid]
    name = next((p.name for p in volume.plexes if p.uuid in by_uuid and by_uuid[p.uuid][0] == accepted), mine[0])
    return judge_plexes(record, volume, found, replace(options, accept=name))


def _record(files: PlexFiles) -> Record:
    assert files.record is not None, "read_paths refused the others"
    return files.record


def _name(record: Record, files: PlexFiles) -> str:
    volume = record.holder(files.image.owner) if files.image else None
    plex = volume.plex(files.image.owner) if volume is not None and files.image else None
    return plex.name if plex is not None else ""


def _found(here: tuple[str, PlexFiles] | None) -> Found:
    return here[1].found() if here is not None else Found(False, problem="not among the paths")


def _diverged(record: Record, image: CopyImage | None) -> bool:
    return image is not None and image.record is not None and not record.knows(image.record.position)
