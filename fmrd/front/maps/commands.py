"""These are fmrctl's verbs over maps and streams: changed, mark, send, receive, stream verify."""

import sys

import click

from fmrd.core.json_object import Json
from fmrd.errors import BadRequest, Failed
from fmrd.front.ctl import words
from fmrd.front.ctl.app import OUTPUT_VERSION, App
from fmrd.front.ctl.options import DRY_RUN, RATE, TAG, WAIT, force
from fmrd.front.maps.formats import FORMATS, write_json
from fmrd.front.maps.keeping import SPOOL
from fmrd.front.maps.ranges import Changes
from fmrd.front.maps.receiving import Options, Receiving, verified
from fmrd.front.maps.sending import Sending, Wish, decode_token, encode_token
from fmrd.front.streams import files
from fmrd.front.streams.header import Header

SINCE = click.option("--since", metavar="SNAPSHOT", help="Beside another snapshot (or a mark) of the same original.")
MARK = click.option("--mark", metavar="NAME", help="Only what was written to the original since that mark was set.")


@click.command()
@click.argument("snapshot")
@SINCE
@click.option("--original", is_flag=True, help="Compare with the original as it is now. The default.")
@MARK
@click.option("--format", "kind", type=click.Choice(list(FORMATS)), default="ranges", show_default=True,
              help="OFFSET LENGTH KIND, a domain map of ddrescue, or a map for 'borg create --map'.")  # fmt: skip
@click.pass_obj
def changed(app: App, snapshot: str, since: str | None, original: bool, mark: str | None, kind: str) -> None:
    """Tell in which bytes SNAPSHOT may differ from another state, exact to the region, and which are zeros there.

    With --mark, SNAPSHOT may be the marked volume itself.
    """
    if original and (since or mark):
        raise BadRequest("bad_request", "--original, --since and --mark each name what to compare with: give one")
    changes = Changes(app.ask("changed", volume=snapshot, since=since, mark=mark))
    if app.as_json:
        write_json(changes, sys.stdout.write, OUTPUT_VERSION)
    else:
        FORMATS[kind](changes, sys.stdout.write)


@click.command()
@click.argument("volume")
@click.argument("name", required=False)
@click.option("--reset", is_flag=True, help="Begin anew: nothing is marked any more.")
@click.option("--delete", is_flag=True, help="Let go of the mark.")
@click.pass_obj
def mark(app: App, volume: str, name: str | None, reset: bool, delete: bool) -> None:
    """Remember from now on what is written to VOLUME, under NAME; without NAME list its marks."""
    if name is None and (reset or delete):
        raise BadRequest("bad_request", "which mark? fmrctl mark VOLUME NAME --reset")
    if reset and delete:
        raise BadRequest("bad_request", "--reset begins anew, --delete lets go: give one of both")
    result = app.ask("mark", volume=volume, name=name, reset=reset, delete=delete)
    app.show(result, lambda shown: _print_marks(app, shown))


def _print_marks(app: App, shown: Json) -> None:
    for each in shown["marks"]:
        size = words.format_size(each["dirty_bytes"])
        holds = f", holds {each['holds']['name']}" if each["holds"] else ""
        app.out.print(f"{each['name']}  {size} in {each['dirty_regions']} region(s) written since{holds}")
    if not shown["marks"]:
        app.out.print("no marks")


@click.command()
@click.argument("snapshot", required=False)
@SINCE
@MARK
@click.option("--resume", metavar="TOKEN", help="Go on with a stream that was cut ('fmrctl receive VOL --token').")
@click.option("--compress", type=click.Choice(["zstd"]), help="Pack the data; needs a module for that on both sides.")
@click.option("--output", type=words.path, metavar="PATH", help="Into a new file; without it to standard output.")
@RATE
@DRY_RUN
@click.pass_obj
def send(
    app: App, snapshot: str | None, since: str | None, mark: str | None, resume: str | None, compress: str | None,
    output: str | None, rate: int | None, dry_run: bool,
) -> None:  # fmt: skip
    """Write SNAPSHOT to standard output, as a stream for 'fmrctl receive', or for a file.

    All of it, or only what changed since another snapshot, which the far volume must hold, or since a mark that was set
    before that was taken. Nobody must write to SNAPSHOT meanwhile.
    """
    token = decode_token(resume) if resume else None
    if token is not None and (snapshot or since or mark):
        raise BadRequest("bad_request", "--resume TOKEN says what to send: give nothing else")
    if token is None and snapshot is None:
        raise BadRequest("bad_request", "which snapshot? fmrctl send SNAPSHOT [--since SNAPSHOT]")
    if since and mark:
        raise BadRequest("bad_request", "--since names a snapshot, --mark a mark: give one of both")
    wish = token.wish if token is not None else Wish(snapshot or "", since, mark)
    sending = Sending(app, wish, token)
    if dry_run:
        app.show(_foretold(sending), lambda shown: app.out.print(shown["notice"]))
        return
    if output is not None:
        with files.made(output) as file:
            writer = sending.run(file, rate=rate or 0, packed=compress or "")
        shown = _shown(sending.header, writer.chunks)
        app.show({"stream": shown}, lambda _: app.out.print(f"{output}: {_whole(shown)}"))
        return
    if app.as_json or sys.stdout.isatty():
        raise BadRequest(
            "bad_request", "the stream goes to standard output, which is a terminal, or --json's",
            "fmrctl send ... | fmrctl receive VOL; or --output PATH",
        )  # fmt: skip
    files.widen(sys.stdout.buffer)
    writer = sending.run(sys.stdout.buffer, rate=rate or 0, packed=compress or "")
    sys.stdout.buffer.flush()
    app.err.print(f"fmrctl: sent {wish.snapshot}: {writer.covered} bytes told of, {writer.written} bytes of stream")


def _foretold(sending: Sending) -> Json:
    told, header = sending.changes.told, sending.header
    of = f"what changed since {header.since}" if header.increment else "all"
    size, zero = told["bytes"], sending.changes.zero_bytes
    notice = f"would send {of} of {header.name}: {size} bytes in {told['regions']} region(s)"
    return {"notice": f"{notice}, {zero} bytes of them zeros"}


@click.command()
@click.argument("volume")
@SPOOL
@click.option("--token", is_flag=True, help="Print where a stream that was cut goes on, for 'fmrctl send --resume'.")
@click.option("--holds", is_flag=True, help="Print what VOLUME holds: the snapshot that a next increment is --since.")
@click.option("--abort", is_flag=True, help="Give up what has come of a stream that was cut.")
@force("Though VOLUME is open: its data changes under that.")
@RATE
@TAG
@WAIT
@DRY_RUN
@click.pass_obj
def receive(
    app: App, volume: str, spool: str | None, token: bool, holds: bool, abort: bool, force: bool, rate: int | None,
    wait: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Take a stream of 'fmrctl send' from standard input: VOLUME becomes what the snapshot was.

    VOLUME stays as it is until the last byte was verified, and is all of it in one step.
    """
    if holds:
        app.show({"marks": held(app, volume)}, lambda shown: _print_held(app, shown))
        return
    if token:
        told = app.ask("receive_token", volume=volume)
        if not told["source"]:  # it has a place in no stream, and a sender would refuse it
            what = f"volume {volume} receives no stream: data is put back from {told['snapshot']}"
            raise Failed("receive_missing", what, "let that end first")
        app.show({"token": encode_token(told)}, lambda shown: app.out.print(shown["token"]))
        return
    if abort:
        app.show(app.ask("receive_discard", volume=volume))
        return
    if sys.stdin.isatty():
        raise BadRequest("bad_request", "a stream is read from standard input", "fmrctl send ... | fmrctl receive VOL")
    files.widen(sys.stdin.buffer)
    options = Options(spool, force, rate, dry_run)
    app.conclude(Receiving(app, volume, files.unbuffered(sys.stdin.buffer), options).run(), wait=wait)


def held(app: App, volume: str) -> list[Json]:
    """The mark of what a volume received and still holds; none where it was written since."""
    marks = app.ask("mark", volume=volume)["marks"]
    return [mark for mark in marks if mark["holds"] is not None and not mark["dirty_regions"]]


def _print_held(app: App, shown: Json) -> None:
    for each in shown["marks"]:
        app.out.print(each["holds"]["name"])


@click.group()
def stream() -> None:
    """Streams of 'fmrctl send' that lie in files."""


@stream.command()
@click.argument("path", type=words.path)
@click.pass_obj
def verify(app: App, path: str) -> None:
    """Read a stream in a file to its end, and verify every byte of it. No daemon is asked."""
    with files.opened(path) as file:
        header, position = verified(file)
    shown = _shown(header, position.chunks)
    app.show({"stream": shown}, lambda _: app.out.print(f"{path} is whole: {_whole(shown)}"))


def _shown(header: Header, chunks: int) -> Json:
    return {
        "uuid": header.stream, "volume": header.volume, "snapshot": {"name": header.name, "uuid": header.snapshot},
        "since": header.since or None, "length_bytes": header.length_bytes, "bytes": header.bytes,
        "created": header.created, "records": chunks, "goes_on_after": header.chunks,
    }  # fmt: skip


def _whole(told: Json) -> str:
    name = told["snapshot"]["name"]
    of = f"what changed in {name} since {told['since']}" if told["since"] else f"all of {name}"
    rest = f", after record {told['goes_on_after']}" if told["goes_on_after"] else ""
    return f"{of}, {told['bytes']} bytes in {told['records']} record(s){rest}"
