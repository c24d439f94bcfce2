"""`verify` reads every copy that counts and compares them, a window at a time, in the background.

It begins here, or goes on where a stop or a crash cut it off; one_pass.py has how it reads. With --repair what is
proven is written to the odd ones, with --from what one plex holds is written to all others, in the hold in which they
differed.
"""

import logging
from collections.abc import Callable, Sequence

from fmrd.core.json_object import Json
from fmrd.core.names import is_tag
from fmrd.core.reasons import Reason
from fmrd.core.states import TaskType
from fmrd.core.volume.plex import Plex
from fmrd.engine.events.telling import copy_began
from fmrd.engine.running import Running
from fmrd.engine.steering.tags import tagged
from fmrd.engine.tasks import Task
from fmrd.engine.verify.checksums import Checksums
from fmrd.engine.verify.one_pass import Verify
from fmrd.errors import Failed, FmrdError, Refused

log = logging.getLogger(__name__)


def begin(
    running: Running, checksums: Checksums, changed: Callable[[], None], *, repair: bool = False,
    source: Plex | None = None, rate: int = 0, first: int = 0, report: Sequence[Json] = (),
) -> tuple[Task, str | None]:  # fmt: skip
    """Return the task, and a notice where one runs already. ``changed`` is called when data was repaired. ``first`` is
    the region to go on at, and ``report`` what was found before it. Refused('snap_instant'),
    Failed('nothing_to_compare') or ('plex_state').
    """
    volume = running.volume
    if volume.settings.is_instant:
        raise Refused(
            "snap_instant", f"snapshot {volume.name} does not hold all of its data itself",
            f"fmrctl snapsync {volume.name}",
        )  # fmt: skip
    for task in running.context.tasks.running(volume.name):
        if task.type is TaskType.VERIFY:
            return task, f"nothing to change: volume {volume.name} is being verified already"
    opened = volume.open_plexes()
    if source is not None and not source.is_open:
        raise Failed("plex_state", f"plex {source.name} is {source.state}: attach it first")
    if len(opened) < 2:
        sentence = f"only {opened[0].name} is attached" if opened else "no plex is attached"
        raise Failed("nothing_to_compare", f"volume {volume.name}: {sentence}", "fmrctl recover")
    goes_on = f", from region {first} on, where a stop or a crash cut it off" if first else ""
    reason = (Reason.VERIFY, f"the copies on {', '.join(plex.name for plex in opened)} are compared{goes_on}")
    task = running.context.tasks.new(TaskType.VERIFY, volume.name, "", reason, rate)
    task.report = list(report)
    task.total_regions = volume.geometry.regions
    task.total_bytes = volume.geometry.length_bytes
    task.progressed(first, volume.geometry.bytes_of(range(first))[1], 0)
    copy_began(running.context.events, task)
    running.context.nursery.start_soon(Verify(running, checksums, task, changed, repair=repair, source=source).run)
    return task, None


async def go_on(running: Running, checksums: Checksums, changed: Callable[[], None]) -> None:
    """Go on, at a start, with what a stop or a crash cut off."""
    noted = await checksums.noted()
    if noted is None or running.life.ended:
        return
    try:
        names = {plex.name: plex for plex in running.volume.plexes}
        first, source = int(noted["next"]), names[noted["from"]] if noted["from"] else None
        tag = str(noted.get("tag", ""))
        with tagged(tag if is_tag(tag) else ""):
            begin(
                running, checksums, changed, repair=bool(noted["repair"]), source=source, rate=int(noted["rate"]),
                first=min(max(first, 0), running.volume.geometry.regions), report=list(noted["report"]),
            )  # fmt: skip
    except (FmrdError, KeyError, TypeError, ValueError) as error:
        log.warning("volume %s: its verify does not go on: %s", running.volume.name, error)
        await checksums.note(None)


def report_of(task: Task) -> Sequence[Json]:
    """Return what a verify found, so far or in all. Failed('task_missing') for another kind of task."""
    if task.report is None:
        raise Failed("task_missing", f"task {task.id} is no verify")
    return task.report
