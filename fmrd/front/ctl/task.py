"""`fmrctl task` lists and steers the copies in the background."""

import click

from fmrd.core.json_object import Json
from fmrd.core.states import TaskType
from fmrd.errors import BadRequest, Failed
from fmrd.front.ctl.app import App, Told, problem_of
from fmrd.front.ctl.hand.many import volumes_named
from fmrd.front.ctl.words import parse_pairs, parse_size
from fmrd.front.wire import error_json

LONGEST_NUMBER = 9
TASK = click.argument("task_id", metavar="TASK")
"""The number of a task, or a tag: then it means every task of that tag that runs."""


@click.group(no_args_is_help=False)
def task() -> None:
    """List, watch and steer the copies in the background. TASK is the number of a task, or the tag of some."""


@task.command("list")
@click.argument("volume", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Finished ones too.")
@click.option("--tag", help="Only those that were given this tag.")
@click.option(
    "--type", "kind", multiple=True, type=click.Choice([each.value for each in TaskType], case_sensitive=False),
    help="Only this type. May be repeated.",
)  # fmt: skip
@click.pass_obj
def list_tasks(app: App, volume: tuple[str, ...], everything: bool, tag: str | None, kind: tuple[str, ...]) -> None:
    """Show the tasks in the order of their start, of VOLUMES (names and globs) or of all."""
    wanted: Json = {"volumes": volumes_named(app, volume)} if volume else {}
    app.show_tasks(app.ask("task_list", all=everything, tag=tag, types=list(kind) or None, **wanted))


@task.command()
@click.argument("task_id", metavar="[TASK]", required=False)
@click.pass_obj
def monitor(app: App, task_id: str | None) -> None:
    """Draw progress until the task (those of a tag, or every task that runs now) has ended."""
    ended = app.wait(None if task_id is None else _numbers(app, task_id))
    problem = problem_of(ended)
    app.show_tasks({"tasks": ended} | ({"error": error_json(problem)} if problem else {}))
    if problem is not None:
        raise Told(problem)


def _meant(word: str) -> Json:
    """Return the arguments of a verb over tasks."""
    if word.isascii() and word.isdigit() and len(word) <= LONGEST_NUMBER:
        return {"id": int(word)}
    return {"tag": word}


def _numbers(app: App, word: str) -> list[int]:
    """Return the numbers of the tasks that are meant. Failed('task_missing') where a tag is that of none that runs."""
    meant = _meant(word)
    if "id" in meant:
        return [meant["id"]]
    found = [task["id"] for task in app.ask("task_list", **meant)["tasks"]]
    if not found:
        raise Failed("task_missing", f"no task that runs has the tag {word}", "fmrctl task list --all")
    return found


def _simple(name: str, text: str) -> None:
    @task.command(name, help=text)
    @TASK
    @click.pass_obj
    def verb(app: App, task_id: str) -> None:
        app.show(app.ask(f"task_{name}", **_meant(task_id)))


_simple("pause", "Hold a copy; its map keeps what is left.")
_simple("resume", "Let a paused copy go on.")
_simple("abort", "Give a copy up as if an error had occurred: the plex is STALE, its map kept.")


@task.command("set")
@TASK
@click.argument("setting", nargs=-1, required=True)
@click.pass_obj
def set_task(app: App, task_id: str, setting: tuple[str, ...]) -> None:
    """rate=BYTES: copy at most so many bytes a second, each of them; 0 is unlimited."""
    wanted = parse_pairs(setting)
    if wanted.keys() != {"rate"}:
        raise BadRequest("bad_setting", "a task has one setting: rate=BYTES")
    app.show(app.ask("task_set", **_meant(task_id), rate=parse_size(wanted["rate"])))
