"""The setting write_behind: which plex may lag, and how far. It counts from its record on, so that a start after a
crash knows of it before anything was left behind; and it ends when nothing is on its way any more.
"""

from fmrd.core.sizes import read_size
from fmrd.core.volume import lagging
from fmrd.core.volume.lagging import LAG_BYTES
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.engine.far.trailing import Trailer
from fmrd.engine.resync.copy_tasks import CopyTasks
from fmrd.engine.running import Running
from fmrd.errors import BadRequest, Failed

MOST_BYTES = 1 << 60


def who_lags(volume: Volume, value: str) -> tuple[Plex | None, int]:
    """Return the plex that PLEX[:BYTES] names, and how many bytes it may lag; (None, 0) for ``off``.
    BadRequest('bad_setting') for what cannot be, Failed('plex_unknown') for a plex that is none.
    """
    if value == "off":
        return None, 0
    name, size = value, LAG_BYTES
    if all(value not in (p.name, p.path, p.uuid) for p in volume.plexes):
        name, colon, text = value.rpartition(":")
        if not colon:
            raise Failed("plex_unknown", f"volume {volume.name} has no plex {value}")
        given = read_size(text)
        if given is None or not volume.geometry.region_bytes <= given <= MOST_BYTES:
            raise BadRequest(
                "bad_setting",
                f"write_behind={value}: PLEX[:BYTES], at least a region ({volume.geometry.region_bytes} bytes), or off",
            )
        size = given
    plex = volume.plex(name)
    if plex.snap or volume.settings.is_instant:
        raise BadRequest("bad_setting", f"plex {plex.name} is a snapshot's, or is to be one: that may not lag")
    if len(volume.plexes) < 2:
        raise BadRequest("bad_setting", f"plex {plex.name} is the only plex of volume {volume.name}")
    return plex, size


async def write_behind(running: Running, trailer: Trailer, copying: CopyTasks, value: str) -> None:
    """Take that setting over, under the verb lock. Failed('home_failed') where it is not recorded, and as it was."""
    volume = running.volume
    chosen, size = who_lags(volume, value)
    for plex in [p for p in volume.plexes if p.behind and p is not chosen]:
        async with trailer.halted(plex):
            lagging.lags_no_more(plex)
        # From here on flushes reach it. Those before did not, and the record that it lags no more makes it a source.
        await running.mirror.sync(plex)
        plex.behind = 0
    if chosen is not None:
        before, chosen.behind = chosen.behind, size
        chosen.room = min(chosen.room, size // volume.geometry.region_bytes)
        try:
            await running.mirror.store.commit()
        except BaseException:
            chosen.behind = before
            raise
    trailer.begin()
    copying.go_on()
