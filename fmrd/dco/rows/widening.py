"""More columns than there are rows for: copies become longer first (FORMAT, "Rows").

Nothing that was written moves. The first record that uses one of the new columns tells of their rows, too, and up to
that a copy is just longer than it need be. From that record on an older fmrd refuses the family.
"""

import errno
from collections.abc import Callable
from functools import partial

from fmrd.backing.calls.system_calls import ask
from fmrd.backing.protocol import DCO_BLOCK_BYTES, DcoFile
from fmrd.core.far.uris import is_uri
from fmrd.core.records.rows import Rows
from fmrd.core.volume.family import Family
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco import layout
from fmrd.dco.copy import DcoCopy
from fmrd.dco.ledger import Ledger
from fmrd.dco.rows.places import is_fixed, offset_of, size_of, spans_of
from fmrd.errors import Failed, Refused


async def make_room(ledger: Ledger, count: int, volume: Volume) -> None:
    """Return when so many columns are free for ``volume``, or for what is about to leave it. Failed('plex_too_many')
    or ('dco_full') where they cannot be, Refused('no_room') or Failed('io_error') where a copy could not be made
    longer: nothing was changed then.
    """
    family = ledger.family
    while (runs := family.runs_for(count, volume)) is not None or family.rows.runs:
        async with ledger.rows_lock:
            runs = family.runs_for(count, volume)
            rows = Rows(family.rows.columns, family.rows.runs if runs is None else runs)
            size = size_of(rows, family.pages)
            if ledger.home.file.length < size:
                await _lengthen(ledger, ledger.home, partial(ledger.home.file.extend, size))
            spans = spans_of(rows, family.next_columns(count, volume, rows), range(family.pages))
            member = ledger.stores.get(volume.settings.uuid)
            for copy in member.open_copies() if member is not None else []:
                if not is_fixed(copy.file):
                    await _lengthen(ledger, copy, partial(copy.file.reserve, size, spans))
            if family.runs_for(count, volume) == runs:
                family.rows.runs = rows.runs
                return


def must_hold(family: Family, volume: Volume, plex: Plex, file: DcoFile | None) -> None:
    """Failed('dco_full') where a plex cannot become one of this volume, since its copy of the DCO has no room for the
    volume's maps and cannot grow. ``file`` is that copy; None where it is not open.
    """
    rows = family.rows
    if not rows.runs or (plex.tail is None and not is_uri(plex.dco_path or "")):
        return
    last = max(offset_of(rows, column.index, volume.geometry.pages - 1, 1) for column in volume.columns())
    room = file.length if file is not None else layout.copy_bytes(rows.runs[0][1], rows.columns)
    if last + DCO_BLOCK_BYTES > room:
        raise Failed(
            "dco_full",
            f"plex {plex.name}: the DCO on {plex.dco_path or plex.path} cannot grow, and has no room for the maps that "
            f"volume {volume.name} has by now",
            f"snapclear lets go of it; then plex add {volume.name} {plex.path},dco=FILE copies all",
        )


async def _lengthen(ledger: Ledger, copy: DcoCopy, run: Callable[[], None]) -> None:
    what = f"volume {ledger.family.volume.name}: the copy of the DCO of {copy.name} cannot grow"
    if copy.lane.hung:  # an older call that lands late would cut off what this one adds
        raise Failed("io_error", f"{what}: a system call has not returned yet")
    try:
        await ask(ledger.system, copy.lane, run, ledger.timeout_seconds)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise Failed("io_error", f"{what}: {error}") from error
        hint = "make room on its file system, or snapback or snapclear what is not needed"
        raise Refused("no_room", f"{what}: {error.strerror}", hint) from error
