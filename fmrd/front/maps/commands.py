"""These are fmrctl's verbs over maps and streams: changed, mark, send, receive, stream verify."""

import contextlib
import sys
from collections.abc import Iterator

import click

from fmrd.core.json_object import Json
from fmrd.errors import BadRequest, Failed
from fmrd.front.ctl import words
from fmrd.front.ctl.app import OUTPUT_VERSION, App
from fmrd.front.ctl.options import DRY_RUN, RATE, WAIT, force
from fmrd.front.maps.formats import FORMATS, write_json
from fmrd.front.maps.ranges import Changes
from fmrd.front.maps.receiving import Options, Receiving, verified
from fmrd.front.maps.sending import Sending, Wish, decode_token, encode_token
from fmrd.front.maps.stream import Readable


@click.command()
@click.argument("snapshot")
@click.option("--since", metavar="SNAPSHOT", help="Compare with another snapshot of the same original.")
@click.option("--original", is_flag=True, help="Compare with the original as it is now. The default.")
@click.option("--mark", metavar="NAME", help="What was written to the original since that mark was set.")
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
@click.option("--since", metavar="SNAPSHOT", help="Only what changed since that one, which the far volume must hold.")
@click.option("--mark", metavar="NAME", help="Only what changed since that mark, set before what the far volume holds.")
@click.option("--resume", metavar="TOKEN", help="Go on with a stream that was cut ('fmrctl receive VOL --token').")
@click.option("--compress", type=click.Choice(["zstd"]), help="Pack the data; needs a module for that on both sides.")
@RATE
@DRY_RUN
@click.pass_obj
def send(
    app: App, snapshot: str | None, since: str | None, mark: str | None, resume: str | None, compress: str | None,
    rate: int | None, dry_run: bool,
) -> None:  # fmt: skip
    """Write SNAPSHOT to standard output, as a stream for 'fmrctl receive', or for a file.

    All of it, or only what changed since another snapshot or a mark. Nobody must write to it meanwhile.
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
    if app.as_json:
        raise BadRequest("bad_request", "--json goes with --dry-run: standard output is the stream's")
    if sys.stdout.isatty():
        raise BadRequest("bad_request", "a stream is nothing for a terminal", "fmrctl send ... | fmrctl receive VOL")
    writer = sending.run(sys.stdout.buffer, rate=rate or 0, packed=compress or "")
    sys.stdout.buffer.flush()
    app.err.print(f"fmrctl: sent {wish.snapshot}: {writer.covered} bytes told of, {writer.written} bytes of stream")


def _foretold(sending: Sending) -> Json:
    told, header = sending.changes.told, sending.header
    of = f"what changed since {header.since}" if header.increment else "all"
    size, zero = told["bytes"], sending.changes.zero_bytes
    notice = f"would send {of} of {header.name}: {size} bytes in {told['regions']} region(s)"
    return {
        "notice": f"{notice}, {zero} bytes of them zeros",
        "bytes": size, "zero_bytes": zero, "regions": told["regions"],
    }  # fmt: skip


@click.command()
@click.argument("volume")
@click.option("--spool", type=words.path, metavar="PATH", help="Keep what comes there until all of it is verified.")
@click.option("--token", is_flag=True, help="Print where a stream that was cut goes on, for 'fmrctl send --resume'.")
@click.option("--discard", is_flag=True, help="Give up what has come of a stream that was cut.")
@force("Though VOLUME is open: its data changes under that.")
@RATE
@WAIT
@DRY_RUN
@click.pass_obj
def receive(
    app: App, volume: str, spool: str | None, token: bool, discard: bool, force: bool, rate: int | None, wait: bool,
    dry_run: bool,
) -> None:  # fmt: skip
    """Take a stream of 'fmrctl send' from standard input: VOLUME becomes what the snapshot was.

    VOLUME stays as it is until the last byte was verified, and is all of it in one step.
    """
    if token:
        told = app.ask("receive_token", volume=volume)
        app.show({"token": encode_token(told), **told}, lambda shown: app.out.print(shown["token"], soft_wrap=True))
        return
    if discard:
        app.show(app.ask("receive_discard", volume=volume))
        return
    if sys.stdin.isatty():
        raise BadRequest("bad_request", "a stream is read from standard input", "fmrctl send ... | fmrctl receive VOL")
    options = Options(spool, force, rate, dry_run)
    app.conclude(Receiving(app, volume, sys.stdin.buffer, options).run(), wait=wait)


@click.group()
def stream() -> None:
    """Streams of 'fmrctl send' that lie in files."""


@stream.command()
@click.argument("path", type=words.path)
@click.pass_obj
def verify(app: App, path: str) -> None:
    """Read a stream in a file to its end, and verify every byte of it. No daemon is asked."""
    with _opened(path) as file:
        header, position = verified(file)
    shown = {
        "stream": {
            "stream": header.stream, "volume": header.volume, "snapshot": header.name, "uuid": header.snapshot,
            "since": header.since or None, "length_bytes": header.length_bytes, "bytes": header.bytes,
            "created": header.created, "chunks": position.chunks, "goes_on_after": header.chunks,
        }
    }  # fmt: skip
    app.show(shown, lambda _: app.out.print(_verified(path, shown["stream"])))


def _verified(path: str, told: Json) -> str:
    of = f"what changed in {told['snapshot']} since {told['since']}" if told["since"] else f"all of {told['snapshot']}"
    return f"{path} is whole: {of}, {told['bytes']} bytes in {told['chunks']} record(s)"


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Readable]:
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except OSError as error:
            raise Failed("stream_missing", f"{path}: {error.strerror}") from error
        yield file


COMMANDS = (changed, mark, send, receive, stream)
