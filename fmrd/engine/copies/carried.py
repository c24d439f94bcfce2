"""The copy of the DCO that travels with a plex: the one that there is, or a new one."""

from fmrd.backing.calls.system_calls import ask
from fmrd.backing.protocol import LOCATOR_BYTES, DcoFile
from fmrd.core.far.uris import is_uri
from fmrd.core.geometry import Geometry
from fmrd.core.record import Record
from fmrd.core.records.rows import Rows
from fmrd.dco import layout
from fmrd.dco.copy import DcoCopy
from fmrd.dco.loading import Loaded
from fmrd.dco.rows.places import is_fixed
from fmrd.engine.context import Context
from fmrd.engine.opening.files import PlexFiles, dco_bytes
from fmrd.errors import Failed


async def copy_of(
    context: Context, files: PlexFiles, name: str, owner: str, family: str, geometry: Geometry, rows: Rows,
    path: str, dco_path: str | None, timeout_seconds: float,
) -> DcoCopy:  # fmt: skip
    """Return the plex's copy of the DCO, ready to be written: the one there is, or a new one."""
    size = dco_bytes(geometry, rows)
    same = files.loaded is not None and fits(files.loaded, family, geometry, rows)

    def prepare() -> DcoFile:
        if files.dco is not None and same:
            fixed = bool(rows.runs) and is_fixed(files.dco)  # then only those rows are used that it has (Family)
            if rows.runs and not fixed:
                files.dco.reserve(size, ())
            else:
                files.dco.extend(min(size, files.dco.length) if fixed else size)
            return files.dco
        replace = files.may_replace
        if files.dco is not None:  # its own, though damaged; or all of it is given up
            replace = True
            files.dco.close()
        on_device = dco_path is None and files.backing.is_block
        if rows.runs and on_device:
            _must_have_tail(context, path, size, geometry)
        grows = bool(rows.runs) and not on_device and not is_uri(dco_path or "")
        first = layout.copy_bytes(rows.runs[0][1], rows.columns) if grows else size
        made = context.host.create_dco(path, dco_path, first, replace=replace)
        if grows:  # most of what lies behind is other volumes', and stays a hole
            made.reserve(size, ())
        return made

    files.dco = await ask(context.system, files.lanes.dco, prepare, timeout_seconds)
    copy = DcoCopy(name, files.dco, files.lanes.dco, family, rows, owner)
    if same and files.loaded is not None:
        copy.adopt(files.loaded)
    return copy


async def name_owner(context: Context, copy: DcoCopy, record: Record | None, timeout_seconds: float) -> None:
    """Write whose plex a copy lies beside, before a commit makes that its plex: with the last record, which does not
    know the plex yet. Failed('io_error').
    """
    assert record is not None, "the home copy has a record"
    [outcome] = await context.system.at_once([copy.write_record(record)], timeout_seconds)
    if outcome.error is not None:
        raise Failed("io_error", f"{copy.name}: its copy of the DCO cannot be written: {outcome.error}")
    copy.record_written()


def _must_have_tail(context: Context, path: str, size: int, geometry: Geometry) -> None:
    """Failed('plex_too_short') where a copy of so many bytes would lie over the volume: it was opened with a smaller
    one in mind.
    """
    if context.host.probe(path).size - size - LOCATOR_BYTES < geometry.length_bytes:
        raise Failed(
            "plex_too_short", f"{path} has no room for a DCO of {size} bytes behind the volume",
            "give that plex a DCO in a file: plex dis, then plex add with PATH,dco=FILE",
        )  # fmt: skip


def fits(loaded: Loaded, family: str, geometry: Geometry, rows: Rows) -> bool:
    """A copy of that family in which pages lie where they are to lie, as far as there are any."""
    record = loaded.image.record
    return record is not None and record.family == family and record.rows.agrees(record.pages, rows, geometry.pages)
