"""A volume that is stopped gets another name in its family's record; its home copy's file follows."""

import contextlib
import logging
from dataclasses import replace
from functools import partial

from fmrd.dco.ledger import change
from fmrd.engine.opening.homes import Home
from fmrd.errors import Failed, FmrdError

log = logging.getLogger(__name__)


async def rename(home: Home, name: str, new: str) -> list[str]:
    """Rename it, and return sentences about what did not follow. Nobody else has either name meanwhile. The record is
    the commit point. A kill before the file has followed leaves a home copy under the old name, which no new volume
    gets then (``Units.must_be_free``).
    """
    async with home.kept_open():
        ledger = home.ledger or await home.reopen()
        if new in await home.ask(home.context.host.homes):
            raise Failed("volume_exists", f"volume {name}: there is a home copy of the name {new} already")

        def step(before: str, after: str) -> None:
            volumes = ledger.family.volumes
            volume = next((each for each in volumes if each.name == before), None)
            if volume is None:
                raise Failed("volume_missing", f"the home copy {home.name} names no volume {before}")
            volume.configure(replace(volume.settings, name=after))
            for each in volumes:
                if each.settings.snapshot_of == before:
                    each.configure(replace(each.settings, snapshot_of=after))

        try:
            await change([], partial(step, name, new), ledgers=[ledger])
        except FmrdError:
            if any(each.name == new for each in ledger.family.volumes):  # it may have landed: what comes next says no
                with contextlib.suppress(FmrdError):
                    await change([], partial(step, new, name), ledgers=[ledger])
            raise
        if home.name != name:
            return []
        try:
            await home.ask(partial(home.context.host.rename_home, name, new))
        except (FmrdError, OSError) as error:
            log.warning("volume %s: its home copy keeps the name %s: %s", new, name, error)
            return [f"the file of its home copy keeps the name {name}, which no new volume gets: {error}"]
        home.name = new
        return []
