"""`verify` writes here: bytes that one plex is proven to hold, or was chosen for, onto those that hold others."""

from collections.abc import Mapping

from fmrd.core.decisions.comparing import Mismatch
from fmrd.core.volume.plex import Plex
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.writes_under_way import Writer
from fmrd.engine.verify.checksums import Checksums


async def repair(
    mirror: Mirror, checksums: Checksums, mismatch: Mismatch, offset: int, contents: Mapping[str, bytes]
) -> bool:
    """Write what is right over what is not, under the lock of the bytes; ``contents`` is what each plex holds from
    ``offset`` on. What a detached plex or a snapshot holds there is in doubt from then on, too: their maps say so
    before a byte is written. Return whether every odd one took it.
    """
    volume = mirror.volume
    regions = volume.geometry.regions_of(mismatch.offset, mismatch.length)
    right, *odd = [volume.plex(name) for name in (mismatch.right, *mismatch.odd)]
    if not await _is_durable(mirror, right, regions):
        return False
    volume.distrust_others(regions)
    await checksums.forget(regions)
    await mirror.store.write_pages(volume.touched_pages())
    start = mismatch.offset - offset
    data = memoryview(contents[mismatch.right])[start : start + mismatch.length]
    return all([await _rewrite(mirror, plex, mismatch.offset, data, regions, right) for plex in odd])


async def _is_durable(mirror: Mirror, right: Plex, regions: range) -> bool:
    """Who is written over is doubtful until its next fdatasync, so this one must hold the regions for certain."""
    if not all(right.is_durable(region) for region in regions):
        await mirror.settle()
    return all(right.is_durable(region) for region in regions)


async def _rewrite(mirror: Mirror, plex: Plex, offset: int, data: memoryview, regions: range, right: Plex) -> bool:
    if not plex.is_open or not all(right.is_durable(region) for region in regions):
        return False
    generation = plex.generation
    disk = mirror.opened[plex.uuid]
    writer = Writer(disk.backing, [(offset, data)])
    [outcome] = await mirror.system.in_turn([disk.writing(writer, writer.spans, inline=False)], mirror.timeout_seconds)
    if plex.generation != generation:
        return False
    if outcome.error is not None:
        mirror.say(mirror.volume.fail_plex(plex, outcome.error))
        return False
    mirror.volume.repaired(plex, regions)
    mirror.say(f"plex {plex.name}: {len(data)} byte(s) at {offset} differed, and were written anew")
    return True
