"""Which tasks somebody means, by number, tag, volume or type."""

from collections.abc import Sequence

from fmrd.core.json_object import Json
from fmrd.engine.tasks import Task, TaskList
from fmrd.errors import BadRequest, Failed


def meant(tasks: TaskList, number: int | None, tag: str | None) -> list[Task]:
    """Return the task of that number, or those of that tag that have not ended, at least one. BadRequest, where it is
    not exactly one of both; Failed('task_missing').
    """
    if (number is None) == (tag is None):
        raise BadRequest("bad_request", "say which task: by its number, or by its tag")
    if number is not None:
        return [tasks.find(number)]
    found = [task for task in tasks.running() if task.tag == tag]
    if not found:
        raise Failed("task_missing", f"no task that runs has the tag {tag}", "fmrctl task list --all")
    return found


def answer(found: Sequence[Task], number: int | None) -> Json:
    """Return ``task`` for one that was named by its number, else ``tasks``."""
    if number is not None:
        return {"task": found[0].json()}
    return {"tasks": [task.json() for task in found]}


def fitting(
    tasks: TaskList, *, ended: bool, volumes: Sequence[str] | None, tag: str | None, types: Sequence[str] | None
) -> list[Task]:  # fmt: skip
    """Return those that fit all that is asked, in the order of their start; None asks for nothing."""
    return [
        task
        for task in tasks.all()
        if (ended or task.ended is None)
        and (volumes is None or task.volume in volumes)
        and tag in (None, task.tag)
        and (types is None or task.type.value in types)
    ]
