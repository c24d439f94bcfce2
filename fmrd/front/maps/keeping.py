"""These are fmrctl's verbs over snapshots that stay, or go by rules: cat, restore, prune."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from fmrd.backing.clients.volume_file import VolumeFile
from fmrd.core.json_object import Json
from fmrd.errors import BadRequest, Failed
from fmrd.front.ctl import words
from fmrd.front.ctl.app import App
from fmrd.front.ctl.options import DRY_RUN, RATE, TAG, WAIT
from fmrd.front.maps import failing, restoring
from fmrd.front.maps.pace import Pace
from fmrd.front.maps.pruning import pruned
from fmrd.front.maps.retention import PERIODS
from fmrd.front.streams.stream import CHUNK_BYTES

RANGE = click.option("--range", "span", type=words.span, metavar="OFFSET:LENGTH", help="Only these bytes.")
SPOOL = click.option("--spool", type=words.path, metavar="PATH", help="Keep what comes there until all of it is there.")


@click.command()
@click.argument("snapshot")
@RANGE
@RATE
@click.pass_obj
def cat(app: App, snapshot: str, span: tuple[int, int] | None, rate: int | None) -> None:
    """Write the bytes of SNAPSHOT to standard output, and leave the page cache to those who work."""
    if app.as_json or sys.stdout.isatty():
        raise BadRequest("bad_request", "a disk is nothing for a terminal, and no JSON", f"fmrctl cat {snapshot} | ...")
    [volume] = app.ask("print", volume=snapshot)["volumes"]
    offset, length = span or (0, volume["length_bytes"])
    stop = offset + length
    if stop > volume["length_bytes"]:
        raise BadRequest("bad_size", f"volume {snapshot} ends at {volume['length_bytes']}, the range at {stop}")
    pace = Pace(rate or 0)
    with failing.told(f"volume {snapshot} cannot be read"), _opened(volume) as file:
        while offset < stop:
            data = file.read(offset, min(CHUNK_BYTES, stop - offset))
            sys.stdout.buffer.write(data)
            offset += len(data)
            pace.passed(len(data))
    sys.stdout.buffer.flush()


def _opened(volume: Json) -> VolumeFile:
    try:
        return VolumeFile(volume["path"], behind=behind(volume))
    except OSError as error:
        raise Failed(
            "volume_stopped", f"the file of volume {volume['name']} cannot be read: {error.strerror}",
            f"fmrctl start {volume['name']}",
        ) from error  # fmt: skip


def behind(volume: Json) -> list[str]:
    """What the daemon reads for a snapshot, and nobody else: its own plexes."""
    return [plex["path"] for plex in volume["plexes"]] if volume["snapshot_of"] else []


@click.command()
@click.argument("volume")
@click.option("--from", "snapshot", required=True, metavar="SNAPSHOT", help="The snapshot that has it.")
@RANGE
@SPOOL
@RATE
@TAG
@WAIT
@DRY_RUN
@click.pass_obj
def restore(
    app: App, volume: str, snapshot: str, span: tuple[int, int] | None, spool: str | None, rate: int | None, wait: bool,
    dry_run: bool,
) -> None:  # fmt: skip
    """Put back on VOLUME what SNAPSHOT holds, all of it or a range; SNAPSHOT stays.

    VOLUME must not be in use. It is as it was until all of it is there, and changes in one step.
    """
    wish = restoring.Wish(volume, snapshot, span, spool)
    [answer] = restoring.restore(app, [wish], rate=rate, dry_run=dry_run)
    app.conclude(answer, wait=wait)


def keep_options(command: Any) -> Any:
    """--keep-last N and its kin."""
    for word in reversed(PERIODS):
        each = "The newest N." if word == "last" else f"The newest one of each of the last N with any: {word}."
        command = click.option(f"--keep-{word}", type=click.IntRange(0), metavar="N", help=each)(command)
    return command


@click.command()
@click.argument("volume")
@keep_options
@DRY_RUN
@click.pass_obj
def prune(app: App, /, volume: str, dry_run: bool, **counts: int | None) -> None:
    """Remove the snapshots of VOLUME that no rule keeps, with their files. Those in use are left alone.

    Rules are restic's: together they keep what any of them keeps. Days and weeks are of local time.
    """
    rules = {word: count for word in PERIODS if (count := counts[f"keep_{word}"]) is not None}
    if not sum(rules.values()):
        raise BadRequest("bad_request", "no rule keeps anything, and all would go", "--keep-last N, --keep-daily N")
    shown = pruned(app, volume, rules, dry_run=dry_run)
    app.show(shown, lambda _: _print_pruned(app, shown, dry_run=dry_run))


def _print_pruned(app: App, shown: Json, *, dry_run: bool) -> None:
    for each in shown["kept"]:
        app.out.print(f"kept     {each['name']}  ({', '.join(each['rules'])})")
    for each in shown["left"]:
        app.out.print(f"left     {each['name']}  ({each['code']}: {each['message']})")
    for name in shown["removed"]:
        app.out.print(f"{'would go' if dry_run else 'removed '} {name}")


def put_back(app: App, snapshots: Sequence[str], *, rate: int | None, wait: bool, dry_run: bool) -> None:
    """'snapback --from-replica --keep'."""
    wishes: list[restoring.Wish] = []
    for snapshot in snapshots:
        original = app.ask("print", volume=snapshot)["volumes"][0]["snapshot_of"]
        if original is None:
            raise Failed("snap_unknown", f"volume {snapshot} is no snapshot")
        if original in [wish.volume for wish in wishes]:
            raise BadRequest("bad_request", f"two of these are snapshots of {original}: it can become one of them")
        wishes.append(restoring.Wish(original, snapshot))
    answers = restoring.restore(app, wishes, rate=rate, dry_run=dry_run)
    shown: Json = answers[0] if len(answers) == 1 else {}
    if not shown:
        shown["tasks"] = [task for answer in answers for task in answer.get("tasks", [])]
        shown["volumes"] = [answer["volume"] for answer in answers if "volume" in answer]
        notices = [answer["notice"] for answer in answers if "notice" in answer]
        shown |= {"notice": "; ".join(notices)} if notices else {}
    app.conclude(shown, wait=wait)
