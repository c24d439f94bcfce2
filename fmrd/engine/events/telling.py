"""The sentences of events: what a gate, a copy or a volume tells when it changes. Each is called from one place."""

from fmrd.core.far.uris import is_fenced
from fmrd.core.reasons import Reason
from fmrd.core.states import IN_SYNC, PlexState, TaskState
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.engine.events.ring import Events
from fmrd.engine.tasks import Task
from fmrd.errors import EXPLANATIONS, FmrdError

ENDS = {TaskState.DONE: "copy_done", TaskState.FAILED: "copy_failed", TaskState.ABORTED: "copy_aborted"}


def gate_closed(events: Events, volume: Volume, plex: Plex) -> None:
    """The moment in which a volume is degraded: what is left, and what to do."""
    left = sum(each.state in IN_SYNC for each in volume.plexes)
    rest = f"{left} of {len(volume.plexes)} plexes left in sync"
    at = f"{volume.name} {plex.name}"
    where = {"volume": volume.name, "plex": plex.name}
    if plex.state is not PlexState.IOFAIL:
        message = f"volume {volume.name}: plex {plex.name} ({plex.path}) is {plex.state}, detached: {rest}"
        events.tell("plex_detached", message, action=f"fmrctl plex att {at}", **where)
        return
    why = plex.failure.message if plex.failure is not None else "an error"
    action = f"mend its disk; it is attached by itself then, or by fmrctl plex att {at}"
    if is_fenced(plex.path):
        action = f"bring back what serves it; it is attached by itself then, or by fmrctl plex att {at}"
    elif plex.reason is Reason.SESSION_OPEN:
        action = f"see to it that nothing is under way there, then fmrctl plex att --settled {at}"
    errno = plex.failure.errno if plex.failure is not None else None
    events.warn(
        "plex_failed", f"volume {volume.name} is DEGRADED: plex {plex.name} ({plex.path}) failed: {why}: {rest}",
        action=action, **where, **({} if errno is None else {"errno": errno}),
    )  # fmt: skip


def attached(events: Events, volume: Volume, plex: Plex) -> None:
    message = f"volume {volume.name}: plex {plex.name} ({plex.path}) is {plex.state}, attached"
    events.tell("plex_attached", message, volume=volume.name, plex=plex.name)


def session_again(events: Events, volume: Volume, plex: Plex) -> None:
    message = f"volume {volume.name}: plex {plex.name} ({plex.path}) is {plex.state}: its session is open again"
    events.tell("plex_attached", message, volume=volume.name, plex=plex.name)


def copy_began(events: Events, task: Task) -> None:
    """Once its figures are known."""
    code, sentence = task.reason
    message = f"volume {task.volume}: task {_named(task)} begins: {sentence} ({code})"
    events.tell("copy_started", message, volume=task.volume, plex=task.plex or None, task=task.json())


def copy_ended(events: Events, task: Task) -> None:
    seconds = (task.ended or task.started) - task.started
    what = f"{task.done_bytes} of {task.total_bytes} bytes in {seconds:.1f} s, {task.copied_bytes} of them written"
    why = f": {task.error[1]}" if task.error is not None else ""
    message = f"volume {task.volume}: task {_named(task)} {task.state}{why}: {what}"
    action = f"fmrctl plex att {task.volume} {task.plex}" if task.state is not TaskState.DONE and task.plex else ""
    events.tell(ENDS[task.state], message, action=action, volume=task.volume, plex=task.plex or None, task=task.json())
    if task.report:
        events.tell(
            "copies_differ", f"volume {task.volume}: its copies differ in {len(task.report)} range(s)",
            volume=task.volume, action=f"fmrctl verify {task.volume} --repair",
        )  # fmt: skip


def _named(task: Task) -> str:
    return f"{task.id} ({task.type}, {task.tag})" if task.tag else f"{task.id} ({task.type})"


def copied(events: Events, volume: Volume, plex: Plex) -> None:
    """A copy has made a plex whole, and perhaps its volume."""
    where = f"volume {volume.name}"
    if plex.state in IN_SYNC:
        message = f"{where}: plex {plex.name} ({plex.path}) is {plex.state}, in sync"
        events.tell("plex_in_sync", message, volume=volume.name, plex=plex.name)
    if all(each.state in IN_SYNC and not each.map.any() for each in volume.plexes):
        events.tell("volume_well", f"{where} is well: all of its plexes are in sync", volume=volume.name)


def slow(events: Events, volume: Volume, plex: Plex, sentence: str) -> None:
    """Often the first sign that a disk fails."""
    message = f"volume {volume.name}: plex {plex.name} ({plex.path}) is slow: {sentence}"
    action = f"fmrctl stat {volume.name} 5 shows it, fmrctl plex det {volume.name} {plex.name} takes it out"
    events.warn("slow_plex", message, volume=volume.name, plex=plex.name, action=action)


def slow_no_more(events: Events, volume: Volume, plex: Plex) -> None:
    message = f"volume {volume.name}: plex {plex.name} keeps up with its peers again"
    events.tell("slow_plex_over", message, volume=volume.name, plex=plex.name)


def refused(events: Events, volume: str, why: FmrdError) -> None:
    """A volume that should be open is not."""
    hint = why.hint or (f"fmrctl explain {why.code}" if why.code in EXPLANATIONS else "")
    message = f"volume {volume} does not start: {why}"
    events.warn("volume_refused", message, volume=volume, action=hint, code=why.code)
