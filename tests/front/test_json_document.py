"""docs/JSON.md is what fmrctl --json prints: every command is run, on a daemon without a door, and what it prints is
held against the tables of the document; what the tables have and nobody prints is told, too.
"""

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
import trio

from fmrd.backing.calls.reach import Standing
from fmrd.backing.clients.volume_file import VolumeFile
from fmrd.core.json_object import Json
from fmrd.core.states import KSTATE, KState, PlexState, VolumeState, mode
from fmrd.dco import layout
from fmrd.engine.events.ring import KINDS
from fmrd.errors import Failed
from fmrd.explanations import ERRORS, REASONS
from fmrd.front.ctl import verify
from fmrd.front.ctl.app import OUTPUT_VERSION
from fmrd.front.ctl.cli import cli, run
from fmrd.front.ctl.hand import loops
from fmrd.front.ctl.hand.holders import Loop
from fmrd.front.daemon.control import Control
from fmrd.front.maps import receiving, restoring, sending
from fmrd.front.nightly.watching import Nights
from fmrd.front.told.history import History
from fmrd.front.wire import STATUSES
from tests.engine.rig import REGION, Rig, daemon
from tests.front.json_document import COMMANDS, DOCUMENT, OBJECTS, Seen, table, words
from tests.front.stored import stores


@dataclass
class Fmrctl:
    """The program, in a thread of this process, and the record of what it printed."""

    socket: Path
    output: pytest.CaptureFixture[str]
    seen: Seen = field(default_factory=Seen)
    ran: set[str] = field(default_factory=set)
    """Commands, and with --dry-run once more, as 'make' and 'make --dry-run'."""
    statuses: set[int] = field(default_factory=set)

    async def __call__(self, *line: object, status: int = 0) -> Json:
        """What is printed. A command ends with this status, and where it does not fail prints all that it should."""
        typed = ["--json", "--socket", str(self.socket), *map(str, line)]
        with trio.fail_after(60):
            ended = await trio.to_thread.run_sync(run, typed)
        out, err = self.output.readouterr()
        assert ended == status, f"{line}: {out} {err}"
        self.statuses.add(ended)
        [text] = out.splitlines()
        printed: Json = json.loads(text)
        kind = "changed" if typed[3] == "changed" and not ended else "answer"
        self.seen.look(printed, kind, " ".join(typed[3:]))
        assert printed["output_version"] == OUTPUT_VERSION
        if result := printed.keys() - {"output_version", "error"}:
            self._whole(result, typed[3:])
        return printed

    def _whole(self, printed: set[str], typed: list[str]) -> None:
        name = " ".join(typed[:2]) if " ".join(typed[:2]) in COMMANDS else typed[0]
        told = COMMANDS[name]
        if "--dry-run" in typed:
            assert printed == told.dry_run, f"{typed}: {sorted(printed)}"
            name += " --dry-run"
        else:
            assert told.always <= printed <= told.always | told.maybe, f"{typed}: {sorted(printed)}"
        self.ran.add(name)


@pytest.fixture
def fmrctl(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Fmrctl:
    monkeypatch.chdir(tmp_path)
    return Fmrctl(tmp_path / "run" / "fmrd.sock", capsys)


@asynccontextmanager
async def serving(directory: Path, fmrctl: Fmrctl) -> AsyncIterator[Rig]:
    """A daemon that fmrctl reaches."""
    async with daemon(directory) as rig, trio.open_nursery() as nursery:
        history = History(directory / "state")
        rig.registry.context.events.listeners.append(history.add)
        nights = Nights(directory / "state", directory / "fmrd.d", rig.registry.context.events)
        await nursery.start(Control(fmrctl.socket, rig.verbs, history=history.found, nights=nights).run)
        yield rig
        history.close()
        nursery.cancel_scope.cancel()


# What is typed, in an order in which each command finds what it needs. Volume 'data' has the plexes a and b.


async def plexes(fmrctl: Fmrctl, rig: Rig) -> None:
    await fmrctl("make", "data", "4M", "a", "b", "--dry-run")
    await fmrctl("make", "data", "4M", "a", "b,dco=b-elsewhere.dco")
    await fmrctl("plex", "add", "data", "c", "--dry-run")
    await fmrctl("plex", "add", "data", "c", "--wait")
    for verb in ("det", "off", "on", "on"):
        await fmrctl("plex", verb, "data", "data-02")
        await fmrctl("dump", "a.dco")
    await rig.write_regions(1, 2)
    await fmrctl("snapprint")
    await fmrctl("plex", "att", "data", "data-02", "--dry-run")
    await fmrctl("recover", "--dry-run")
    await fmrctl("plex", "att", "data", "data-02", "--wait")
    await fmrctl("plex", "att", "data", "data-02")
    await fmrctl("plex", "det", "data", "data-03")
    (rig.path("c")).rename(rig.path("c-aside"))
    await fmrctl("recover", status=1)
    (rig.path("c-aside")).rename(rig.path("c"))
    await fmrctl("recover", "--wait")
    await fmrctl("plex", "convert", "data", "data-03")
    await fmrctl("snapabort", "data")
    await fmrctl("set", "data", "fmr=off")
    await fmrctl("plex", "det", "data", "data-02")
    await fmrctl("plex", "dis", "data", "data-02")
    await fmrctl("set", "data", "fmr=on")
    await fmrctl("explain", "fast")
    await fmrctl("explain")


async def measures(fmrctl: Fmrctl, rig: Rig) -> None:
    await rig.data.read(0, 4096)
    await rig.data.flush()
    lanes = rig.service.running.home.lanes_of(rig.plex("a").uuid, "data-01")
    lanes.slow = "a write takes 1 s there"
    await fmrctl("stat", "data")
    await fmrctl("top")
    await fmrctl("map", "data")
    await fmrctl("map", "data", "data-01")
    await fmrctl("map", "data", "nothing", status=1)
    await fmrctl("print", "data")
    lanes.slow = None


async def tasks(fmrctl: Fmrctl, rig: Rig) -> None:
    """Copies of a disk that hangs, and of one that fails."""
    with rig.host.hanging(rig.path("d"), "copy_from") as hang:
        task = (await fmrctl("plex", "add", "data", "d"))["task"]["id"]
        await fmrctl("print")
        await fmrctl("status", status=1)
        for verb in ("pause", "resume"):
            await fmrctl("task", verb, task)
        await fmrctl("task", "set", task, "rate=1G")
        await fmrctl("dump", "a.dco")
        hang.let_go()
        await fmrctl("task", "monitor", task)
    await fmrctl("plex", "det", "data", "data-04")
    with rig.host.failing(rig.path("d"), "copy_from"):
        failed = await fmrctl("plex", "att", "data", "data-04", "--full", "--wait", status=1)
    assert failed["error"]["code"] == "task_failed" and failed["task"]["error"]
    await rig.service.releaser.wait(rig.plex("d"))
    await fmrctl("print", "data")
    slow = (await fmrctl("plex", "att", "data", "data-04", "--full", "--rate", "1"))["task"]
    await fmrctl("task", "abort", slow["id"])
    await fmrctl("task", "list", "--all")
    await fmrctl("plex", "att", "data", "data-04", "--wait")
    with rig.host.failing(rig.path("d"), "pwrite"):
        await rig.write_regions(5)
    await fmrctl("events", "--no-follow", "--since", "1h")
    await fmrctl("plex", "att", "data", "data-04", "--wait")
    await fmrctl("set", "data", "write_behind=data-04:1M")
    await fmrctl("print", "data")
    await fmrctl("set", "data", "write_behind=off")


async def far(fmrctl: Fmrctl, rig: Rig) -> None:
    """A plex as one on an NBD server would be, as one whose session is lost, and as a file on NFS."""
    backing: Any = rig.service.mirror.opened[rig.plex("a").uuid].backing
    before = backing.far, backing.fence, backing.inner.standing
    for transport, fence, standing in (
        ("NBD", "single", Standing("", 0.001, 0.002)), ("NBD", "", Standing("gone", None, None)), ("NFS", "", None),
    ):  # fmt: skip
        backing.far, backing.fence, backing.inner.standing = transport, fence, standing
        await fmrctl("print", "data")
    backing.far, backing.fence, backing.inner.standing = before


class PlexFile(VolumeFile):
    """The file of a volume, where no door shows it: its plex, which has that content."""

    def __init__(self, path: str, *, writes: bool = False, behind: Sequence[str] = (), direct: bool = False) -> None:
        super().__init__(PLEXES[Path(path).name], writes=writes, behind=behind, direct=direct)


PLEXES: dict[str, str] = {}
WITHOUT_JSON = {"cat"}
"""What these print is the bytes of a volume."""


async def streams(fmrctl: Fmrctl, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the snapshot 'kept', and into the volume 'far'."""
    PLEXES.update({"kept": str(rig.path("i")), "old": str(rig.path("j"))})
    PLEXES["RECV-far"] = str(rig.path("f.received"))
    for module in (sending, receiving):
        monkeypatch.setattr(module, "VolumeFile", PlexFile)
    await fmrctl("mark", "data", "night")
    await rig.write_regions(6)
    await fmrctl("changed", "data", "--mark", "night")
    await fmrctl("changed", "kept")
    await fmrctl("mark", "data", "night", "--delete")
    await fmrctl("make", "far", "4M", "f")
    await fmrctl("send", "kept", "--dry-run")
    await fmrctl("send", "kept", "--output", "all")
    await fmrctl("stream", "verify", "all")
    await fmrctl("send", "old", "--since", "kept", "--output", "rest")
    whole = rig.path("all").read_bytes()
    for size, options in ((0, ["--dry-run"]), (60, []), (0, ["--token"]), (0, ["--wait"]), (0, [])):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(whole[: len(whole) - size])))
        await fmrctl("receive", "far", *options, status=1 if size else 0)
    await fmrctl("mark", "far")
    await keeping(fmrctl, rig, monkeypatch)
    await fmrctl("stop", "far")
    await fmrctl("remove", "far", "--erase")


async def keeping(fmrctl: Fmrctl, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data is put back from 'kept', and snapshots go by rules, but those that are open."""
    PLEXES["RECV-data"] = str(rig.path("put"))
    monkeypatch.setattr(restoring, "VolumeFile", PlexFile)
    await fmrctl("restore", "data", "--from", "kept", "--dry-run")
    await fmrctl("restore", "data", "--from", "kept", "--range", "4M:4K", "--dry-run", status=2)
    await fmrctl("restore", "data", "--from", "kept", "--spool", "put", "--wait")
    for name in ("k1", "k2"):
        await fmrctl("snapshot", "data", "--instant", name, "--name", name)
    doors = [rig.door("kept"), rig.door("old")]
    for door in doors:
        door.opened()
    await fmrctl("prune", "data", "--keep-last", "1", "--dry-run")
    pruned = await fmrctl("prune", "data", "--keep-last", "1")
    assert pruned["removed"] == ["k1"] and pruned["kept"][0]["name"] == "k2"
    assert {each["name"]: each["code"] for each in pruned["left"]} == {"kept": "volume_open", "old": "volume_open"}
    for door in doors:
        door.released()
    await fmrctl("stop", "k2")
    await fmrctl("remove", "k2", "--erase")


async def nights(fmrctl: Fmrctl, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that goes well, one whose hook fails, and each with --dry-run."""
    monkeypatch.setenv("FMRD_CONF", str(rig.path("fmrd.conf")))
    path = rig.path("fmrd.d") / "data.toml"
    path.parent.mkdir()
    plan = f'[snapshot]\ninto = "{rig.path("")}"\nname = "night-%S"\n'
    for text, status in ((plan, 0), (plan + '[hooks]\nbefore = ["/bin/false"]\n', 1)):
        path.write_text(text)
        path.chmod(0o600)
        await fmrctl("nightly", "data", "--dry-run")
        told = await fmrctl("nightly", "data", status=status)
        if status == 0:
            await fmrctl("stop", told["taken"])
            await fmrctl("remove", told["taken"], "--erase")
    path.unlink()


async def snapshots(fmrctl: Fmrctl, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await stores(fmrctl, rig)
    await fmrctl("snapstart", "data", "s", "--dry-run")
    await fmrctl("snapstart", "data", "s")
    await fmrctl("snapwait", "data")
    await fmrctl("snapshot", "data", "--dry-run")
    await fmrctl("snapshot", "data")
    await rig.write_regions(3)
    await rig.write_regions(4, volume="SNAP-data")
    await fmrctl("snapprint", "data")
    rig.registry.arriving.found(["more"])  # as just after a start
    await fmrctl("print")
    rig.registry.arriving.read("more", {})
    for file in ("a.dco", "s.dco"):
        await fmrctl("dump", file)
    for verb in ("refresh", "snapback"):
        await fmrctl(verb, "SNAP-data", "--dry-run")
    await fmrctl("refresh", "SNAP-data", "--wait")
    await rig.write_regions(5)
    await fmrctl("snapback", "SNAP-data", "--from-replica", "--keep-undo", "--wait")
    await fmrctl("undo", "data", "--dry-run")
    await fmrctl("undo", "data", "--wait")
    await fmrctl("snapwait", "data")
    await fmrctl("snapshot", "data")
    await fmrctl("snapclear", "SNAP-data")
    await fmrctl("snapshot", "data", "--instant", "i", "--name", "kept", "--sync", "--wait")
    await fmrctl("snapsync", "kept")
    await fmrctl("snapshot", "data", "--instant", "j", "--name", "old")
    await fmrctl("dump", rig.directory / "state" / "volumes" / "data.dco")
    await streams(fmrctl, rig, monkeypatch)
    await fmrctl("snapsync", "old", "--wait")
    for name in ("kept", "old"):
        await fmrctl("stop", name)
        await fmrctl("remove", name, "--erase")


async def faults(fmrctl: Fmrctl, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies that differ, bytes that nobody gives, a copy of the DCO that is damaged."""
    await fmrctl("grow", "data", "5M")
    await fmrctl("grow", "data", "5M")
    with rig.path("d").open("r+b") as file:
        file.seek(9 * REGION)
        file.write(b"rotten")
    monkeypatch.setattr(verify, "names_of", lambda path, ranges: [["/etc/motd"] for _ in ranges])
    await fmrctl("verify", "data", "--files", status=1)
    await fmrctl("verify", "data", "--from", "data-01")
    with rig.host.failing(rig.path("a"), "pread"), rig.host.failing(rig.path("d"), "pread"):
        with pytest.raises(Failed, match="reading at"):
            await rig.data.read(0, 4096)
        await fmrctl("print", "data")
    damaged = rig.path("damaged.dco")
    shutil.copy(rig.path("a.dco"), damaged)
    with damaged.open("r+b") as file:
        file.write(bytes(4096))
        file.seek(layout.page_offset(0, 0, 0))
        file.write(b"x" * 4096)
    await fmrctl("dump", damaged)


async def ends(fmrctl: Fmrctl, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.path("x").write_bytes(os.urandom(REGION))
    await fmrctl("make", "other", "4M", "x", "y", "--from", "x")
    await fmrctl("snapback", "other", status=1)
    await fmrctl("make", "third", "4M", "x", status=3)
    await fmrctl("grow", "other", status=2)
    for verb in ("stop", "stop", "start", "start"):
        await fmrctl(verb, "other")
    await fmrctl("stop", "other", "data")
    await fmrctl("start", "o*", "data")
    await fmrctl("stop", "--all")
    await fmrctl("rename", "other", "another")
    await fmrctl("rename", "another", "other")
    await fmrctl("start", "--all")
    await fmrctl("plex", "det", "data", "data-01", "data-04", status=3)
    await fmrctl("plex", "att", "data", "*", "--wait")
    await fmrctl("replace", "other", "other-02", "z", "--dry-run")
    await fmrctl("replace", "other", "other-02", "z", "--wait")
    await fmrctl("set", "other", "comment=for the tests")
    await fmrctl("unloop", "other")
    with monkeypatch.context() as patch:
        patch.setattr(loops, "losetup", lambda *words: "/dev/loop9")
        patch.setattr(loops, "alone", lambda path: contextlib.nullcontext())  # no file is there
        await fmrctl("loop", "other")
        patch.setattr(loops, "loops_on", lambda path: [Loop("loop9", ("/dev/loop9",))])
        await fmrctl("unloop", "other")
    await fmrctl("start", "other", "--wait")
    await fmrctl("stop", "other")
    await fmrctl("print")
    await fmrctl("remove", "other")


DECLARED = '[volumes.declared]\nsize = "1M"\nplexes = ["{0}/p"]\nrate = "1G"\n'


async def applied(fmrctl: Fmrctl, rig: Rig) -> None:
    file = rig.path("declared.toml")
    file.write_text(DECLARED.format(rig.directory))
    await fmrctl("apply", file, "--dry-run")
    await fmrctl("apply", file)
    await fmrctl("stop", "declared")
    file.write_text(file.read_text().replace('/p"', f'/p", "{rig.directory}/q"').replace("1M", "2M") + "start = true\n")
    done = await fmrctl("apply", file, "--wait")
    assert [change["action"] for change in done["changes"]] == ["start", "grow", "plex_add"]
    await fmrctl("stop", "declared")
    await fmrctl("remove", "declared")
    for _ in range(2):
        await fmrctl("install-units", "--root", rig.path("root"), "--prefix", "/opt/here", "--dry-run")
        await fmrctl("install-units", "--root", rig.path("root"), "--prefix", "/opt/here")


async def starts(directory: Path, fmrctl: Fmrctl) -> None:
    """Of volumes that do not: one whose plexes are away, one whose home copy is garbage. And of one without any."""
    volumes = directory / "state" / "volumes"
    (volumes / "broken.dco").write_bytes(b"garbage")
    for name in ("a", "d"):
        (directory / name).rename(directory / f"{name}-aside")
    async with serving(directory, fmrctl):
        await fmrctl("print")
    for name in ("a", "d"):
        (directory / f"{name}-aside").rename(directory / name)
    volumes.rename(directory / "lost")
    async with serving(directory, fmrctl):
        await fmrctl("import", "a", "d", "--dry-run")
        await fmrctl("import", "a", "d", "--wait")


def commands(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command of fmrctl, by its words."""
    if isinstance(command, click.Group):
        for word, inner in command.commands.items():
            yield from commands(inner, f"{name} {word}".strip())
    else:
        yield name, command


async def test_what_is_printed_is_documented_and_what_is_documented_is_printed(
    tmp_path: Path, fmrctl: Fmrctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, fmrctl) as rig:
        monkeypatch.setattr(rig.host, "try_clone", lambda source, target: None)
        monkeypatch.setattr(rig.host, "clone_plex", shutil.copy)  # as a file system that shares blocks would
        await plexes(fmrctl, rig)
        await measures(fmrctl, rig)
        await tasks(fmrctl, rig)
        await far(fmrctl, rig)
        await snapshots(fmrctl, rig, monkeypatch)
        await faults(fmrctl, rig, monkeypatch)
        await ends(fmrctl, rig, monkeypatch)
        await nights(fmrctl, rig, monkeypatch)
        await applied(fmrctl, rig)
    await starts(tmp_path, fmrctl)
    async with serving(tmp_path, fmrctl):
        assert len((await fmrctl("history"))["events"]) > 50
    await fmrctl("print", status=4)
    assert fmrctl.seen.never() == []
    with_dry_run = {f"{name} --dry-run" for name, command in COMMANDS.items() if command.dry_run}
    assert fmrctl.ran == COMMANDS.keys() | with_dry_run
    assert sorted(fmrctl.statuses) == [int(status) for status, _ in table("Exit status")] == [0, *STATUSES]


def test_the_version_is_that_of_the_program() -> None:
    assert f"`output_version`, which is {OUTPUT_VERSION} now" in " ".join(DOCUMENT.split())
    assert ["`output_version`", "integer", str(OUTPUT_VERSION)] in table("answer")


def test_every_command_is_in_the_document() -> None:
    assert sorted(name for name, _ in commands(cli) if name not in WITHOUT_JSON) == sorted(COMMANDS)


def test_every_kind_of_event_is_in_the_document() -> None:
    assert {words(kind)[0]: level for kind, level, _ in table("Events")} == {k: v.value for k, v in KINDS.items()}


def test_every_dry_run_is_in_the_document() -> None:
    offered = [name for name, each in commands(cli) if any("--dry-run" in option.opts for option in each.params)]
    assert sorted(offered) == sorted(name for name, command in COMMANDS.items() if command.dry_run)


@pytest.mark.parametrize(("title", "codes"), [("Reasons", REASONS), ("Errors", ERRORS)])
def test_the_codes_are_those_of_the_program(title: str, codes: dict[str, str]) -> None:
    assert [words(code)[0] for code, _ in table(title)] == list(codes)


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        ("volume", "state", set(VolumeState)),
        ("volume", "kstate", {KState.ENABLED, KState.DISABLED}),
        ("plex", "state", {*PlexState, "CLEAN"}),
        ("plex", "kstate", set(KSTATE.values())),
        ("plex", "mode", set(map(mode, PlexState))),
        ("dco_plex", "state", set(PlexState)),
    ],
)
def test_the_words_for_states_are_those_of_the_program(kind: str, name: str, values: set[str]) -> None:
    assert set(OBJECTS[kind][name].one_of) == values


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"surprise": 1}, "not documented"),
        ({"offset_bytes": None}, "is null"),
        ({"offset_bytes": "0"}, "not integer"),
        ({"offset_bytes": True}, "not integer"),
        ({"proven": 1}, "not boolean"),
        ({"plexes": [1]}, "not string"),
        ({"plexes": "a", "files": ["b", None]}, "files is null"),
    ],
)
def test_what_is_not_as_documented_is_seen(change: Json, complaint: str) -> None:
    right: Json = {"offset_bytes": 0, "length_bytes": 1, "plexes": ["a"], "proven": True, "repaired": False}
    Seen().look(right, "mismatch")
    with pytest.raises(AssertionError, match=complaint):
        Seen().look(right | change, "mismatch")
    del right["plexes"]
    with pytest.raises(AssertionError, match="is not there"):
        Seen().look(right, "mismatch")
