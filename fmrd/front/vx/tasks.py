"""vxtask: copies in the background."""

from fmrd.core.json_object import Json
from fmrd.core.names import is_tag
from fmrd.errors import BadRequest
from fmrd.front.ctl.app import problem_of
from fmrd.front.ctl.tables import percent
from fmrd.front.vx.asking import Vx, show
from fmrd.front.vx.typed import NotSupported, Typed, sectors

HEAD = ("TASKID", "PTID", "TYPE/STATE", "PCT", "PROGRESS")
WIDTHS = (6, 5, 10, 6)
LETTERS = {"running": "R", "paused": "P", "aborted": "A", "failed": "A", "done": "EXITED"}
BASIC = {"RDWRBACK": "RDWRBACK"}
"""What VxVM calls a copy without a direction; all others copy to a plex."""


def list_all(vx: Vx, typed: Typed) -> None:
    """vxtask [-h] [-i TASKID|TAG] [-v VOLUME] list [TASKID|TAG|VOLUME...]"""
    show(vx, [HEAD], [_row(task) for task in _chosen(vx, typed)], WIDTHS, apart=False)


def monitor(vx: Vx, typed: Typed) -> None:
    """vxtask monitor [TASKID|TAG|VOLUME...]: a line for each step, until all have ended"""
    tasks = _chosen(vx, typed)
    show(vx, [HEAD], [], WIDTHS)
    said: dict[int, tuple[str, ...]] = {}

    def step(now: list[Json]) -> None:
        for task in now:
            row = _row(task)
            if said.get(task["id"]) != row:
                said[task["id"]] = row
                show(vx, [], [row], WIDTHS)

    step(tasks)
    if not tasks:
        return
    ended = vx.app.ask("task_monitor", step, ids=[task["id"] for task in tasks])["tasks"]
    step(ended)
    problem = problem_of(ended)
    if problem is not None:
        raise problem


def steer(vx: Vx, typed: Typed) -> None:
    """vxtask pause|resume|abort TASKID|TAG..."""
    for word in typed.words:
        vx.ask(f"task_{typed.keyword}", **_meant(word))


def set_slow(vx: Vx, typed: Typed) -> None:
    """vxtask set slow=0 TASKID|TAG: without a limit. A limit is a rate here, not a pause."""
    slow = typed.attribute("slow")
    task = typed.words[0]
    if slow != "0":
        raise NotSupported(f"vxtask set slow={slow}, a pause between steps", f"fmrctl task set {task} rate=BYTES")
    vx.ask("task_set", **_meant(task), rate=0)


def _chosen(vx: Vx, typed: Typed) -> list[Json]:
    """Those that run, of the numbers, tags and volumes that are named; of -v and -i, which narrow that, too."""
    tasks: list[Json] = vx.ask("task_list")["tasks"]
    words = set(typed.words)
    named = {word for task in tasks for word in _names(task)}
    for word in [*words - named, *filter(None, [typed.values.get("-v")])]:
        if not word.isdigit():
            vx.volume(word)
    found = [task for task in tasks if not words or words & _names(task)]
    found = [task for task in found if typed.values.get("-i", str(task["id"])) in (str(task["id"]), task["tag"])]
    return [task for task in found if typed.values.get("-v", task["volume"]) == task["volume"]]


def _names(task: Json) -> set[str]:
    return {str(task["id"]), task["tag"], task["volume"]} - {""}


def _meant(word: str) -> Json:
    if word.isascii() and word.isdigit() and len(word) < 10:
        return {"id": int(word)}
    if not is_tag(word):
        raise BadRequest("bad_request", f"{word!r} is neither the number nor the tag of a task", "vxtask list")
    return {"tag": word}


def _row(task: Json) -> tuple[str, ...]:
    kind = f"{BASIC.get(task['type'], 'ATCOPY')}/{LETTERS[task['state']]}"
    progress = f"0/{sectors(task['total_bytes'])}/{sectors(task['done_bytes'])}"
    what = " ".join(filter(None, (task["type"], task["volume"], task["plex"])))
    return str(task["id"]).rjust(WIDTHS[0]), "", kind, f"{percent(task):05.2f}%", f"{progress} {what}"
