"""`fmrctl task` lists and steers the copies in the background."""

import click

from fmrd.errors import BadRequest
from fmrd.front.ctl.app import App, Told, problem_of
from fmrd.front.ctl.words import parse_pairs, parse_size
from fmrd.front.wire import error_json


@click.group(no_args_is_help=False)
def task() -> None:
    """List, watch and steer the copies in the background."""


@task.command("list")
@click.option("--all", "everything", is_flag=True, help="Finished ones too.")
@click.pass_obj
def list_tasks(app: App, everything: bool) -> None:
    """Show the tasks in the order of their start."""
    app.show_tasks(app.ask("task_list", all=everything))


@task.command()
@click.argument("task_id", metavar="[ID]", type=int, required=False)
@click.pass_obj
def monitor(app: App, task_id: int | None) -> None:
    """Draw progress until the task (or every task that runs now) has ended."""
    ended = app.wait(None if task_id is None else [task_id])
    problem = problem_of(ended)
    app.show_tasks({"tasks": ended} | ({"error": error_json(problem)} if problem else {}))
    if problem is not None:
        raise Told(problem)


def _simple(name: str, text: str) -> None:
    @task.command(name, help=text)
    @click.argument("task_id", metavar="ID", type=int)
    @click.pass_obj
    def verb(app: App, task_id: int) -> None:
        app.show(app.ask(f"task_{name}", id=task_id))


_simple("pause", "Hold a copy; its map keeps what is left.")
_simple("resume", "Let a paused copy go on.")
_simple("abort", "Give a copy up as if an error had occurred: the plex is STALE, its map kept.")


@task.command("set")
@click.argument("task_id", metavar="ID", type=int)
@click.argument("setting", nargs=-1, required=True)
@click.pass_obj
def set_task(app: App, task_id: int, setting: tuple[str, ...]) -> None:
    """rate=BYTES: copy at most so many bytes a second; 0 is unlimited."""
    wanted = parse_pairs(setting)
    if wanted.keys() != {"rate"}:
        raise BadRequest("bad_setting", "a task has one setting: rate=BYTES")
    app.show(app.ask("task_set", id=task_id, rate=parse_size(wanted["rate"])))
