"""Hooks that hang, fail, flood, fork, or are not to be trusted: each is told, and holds up nothing."""

import errno
import json
import os
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import trio

from fmrd.engine.events.ring import Events
from fmrd.front.told import hook_run
from fmrd.front.told import hooks as module
from fmrd.front.told.hooks import Hooks
from fmrd.front.told.trusted import why_not
from tests.e2e.harness import needs_program
from tests.waiting import until

SHIPPED = Path(__file__).parents[2] / "scripts" / "hooks"


def hook(directory: Path, name: str, script: str) -> Path:
    directory.mkdir(exist_ok=True, mode=0o755)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "hooks.d"


@asynccontextmanager
async def running(directory: Path, seconds: float = 20.0) -> AsyncIterator[Events]:
    events = Events(lambda: 1000.0)
    made = Hooks(directory, events, seconds)
    events.listeners.append(made.add)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            yield events
            nursery.cancel_scope.cancel()


def complaints(events: Events) -> list[str]:
    return [event.message for event in events.after(0)[0] if event.kind == "hook_failed"]


async def one_complaint(events: Events) -> str:
    await until(lambda: complaints(events))
    [only] = complaints(events)
    return only


async def test_a_hook_gets_the_event_in_its_environment_and_as_json(directory: Path, tmp_path: Path) -> None:
    hook(directory, "good", f"env >{tmp_path}/env.new; cat >{tmp_path}/json; mv {tmp_path}/env.new {tmp_path}/env")
    async with running(directory) as events:
        event = events.tell("plex_failed", "it failed", volume="data", plex="data-02", action="mend it", errno=5)
        await until((tmp_path / "env").exists)
    found = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert len(found.pop("FMRD_HOOK_RUN")) == 32
    assert {name: value for name, value in found.items() if name.startswith("FMRD_")} == {
        "FMRD_EVENT": "plex_failed", "FMRD_LEVEL": "warning", "FMRD_VOLUME": "data", "FMRD_PLEX": "data-02",
        "FMRD_MESSAGE": "it failed", "FMRD_ACTION": "mend it", "FMRD_CURSOR": event.cursor, "FMRD_TIME": "1000",
    }  # fmt: skip
    assert json.loads((tmp_path / "json").read_text()) == event.json()


async def test_one_that_hangs_is_killed_and_the_others_go_on(directory: Path, tmp_path: Path) -> None:
    hook(directory, "hangs", f"echo $$ >{tmp_path}/pid; exec sleep 1000")
    hook(directory, "good", f"echo $FMRD_EVENT >>{tmp_path}/seen")
    async with running(directory, seconds=1.5) as events:
        for _ in range(3):
            events.tell("volume_well", "well", volume="data")
        await until(lambda: (tmp_path / "seen").exists() and (tmp_path / "seen").read_text().count("\n") == 3)
        said = await one_complaint(events)
        assert "hangs was killed: it had not ended after 1.5 s" in said
        await until(lambda: gone(int((tmp_path / "pid").read_text() or "1")) or None)
        runs = events.counts.runs
        await until(lambda: runs["good", "done"] == 3)
        assert runs["hangs", "killed"] >= 1 and runs["hangs", "failed"] == runs["good", "killed"] == 0


def gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_one_that_fails_is_told_once_with_what_it_said(directory: Path, tmp_path: Path) -> None:
    hook(directory, "fails", f"echo run >>{tmp_path}/seen; echo 'no \033[31mroute' >&2; exit 3")
    async with running(directory) as events:
        for _ in range(3):
            events.tell("volume_well", "well", volume="data")
        await until(lambda: (tmp_path / "seen").exists() and (tmp_path / "seen").read_text().count("\n") == 3)
        assert "fails failed with status 3 (no \\x1b[31mroute)" in await one_complaint(events)
        await until(lambda: events.counts.runs["fails", "failed"] == 3)


async def test_one_that_floods_gets_a_broken_pipe(directory: Path) -> None:
    hook(directory, "floods", "exec yes")
    async with running(directory) as events:
        events.tell("volume_well", "well")
        assert "floods failed with status -13" in await one_complaint(events)


async def test_what_one_leaves_behind_is_killed(directory: Path, tmp_path: Path) -> None:
    hook(directory, "forks", f"for n in 1 2 3; do sleep 1000 & echo $! >>{tmp_path}/pids; done")
    async with running(directory) as events:
        events.tell("volume_well", "well")
        assert "forks left 3 process(es) behind" in await one_complaint(events)
        for number in (tmp_path / "pids").read_text().split():
            await until(lambda number=number: gone(int(number)))  # type: ignore[misc]  # bound in the loop


async def test_what_leaves_its_session_is_killed_and_told_too(directory: Path, tmp_path: Path) -> None:
    script = f"setsid sh -c 'echo $$ >{tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 1000' &"
    hook(directory, "daemon", f"{script}\nwhile [ ! -e {tmp_path}/pid ]; do sleep 0.05; done")
    async with running(directory) as events:
        events.tell("volume_well", "well")
        assert "daemon left 1 process(es) behind, which were killed" in await one_complaint(events)
        await until(lambda: gone(int((tmp_path / "pid").read_text())))


async def test_what_still_runs_ends_with_the_daemon(directory: Path, tmp_path: Path) -> None:
    hook(directory, "hangs", f"echo $$ >{tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 1000")
    async with running(directory, seconds=1000) as events:
        events.tell("volume_well", "well")
        await until((tmp_path / "pid").exists)
    await until(lambda: gone(int((tmp_path / "pid").read_text())))


async def test_one_that_is_behind_loses_events_and_that_is_told_once(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUED", 2)
    hook(directory, "slow", f"echo run >>{tmp_path}/seen; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done")
    async with running(directory) as events:
        events.tell("volume_well", "well")
        await until((tmp_path / "seen").exists)
        for _ in range(5):
            before = len(events.after(0)[0])
            events.tell("volume_well", "well")
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert len(events.after(0)[0]) - before in (1, 2)
        assert "slow is behind" in await one_complaint(events)
        assert events.counts.runs["slow", "dropped"] == 3
        (tmp_path / "go").touch()


@pytest.mark.parametrize("call", ["pipe", "memfd_create", "pidfd_open"])
async def test_without_descriptors_it_is_told_and_the_daemon_goes_on(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Which is when plexes fail, too, so hooks are run just then."""
    hook(directory, "good", f"mkdir {tmp_path}/ran")

    def exhausted(*args: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with running(directory) as events:
        with monkeypatch.context() as none_left:
            none_left.setattr(os, call, exhausted)
            events.tell("plex_failed", "it failed", volume="data")
            assert "Too many open files" in await one_complaint(events)
        shutil.rmtree(tmp_path / "ran", ignore_errors=True)
        events.tell("plex_failed", "it failed", volume="data")
        await until((tmp_path / "ran").exists)


async def test_without_threads_it_is_told_and_the_daemon_goes_on(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(directory, "good", "true")

    def exhausted(path: Path) -> str | None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module, "why_not", exhausted)
    async with running(directory) as events:
        events.tell("plex_failed", "it failed", volume="data")
        assert "can't start new thread" in await one_complaint(events)


def test_one_that_is_taken_away_just_then_is_not_run(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, look = hook(directory, "good", "true"), os.path.realpath

    def look_late(path: Path, *, strict: bool) -> str:
        found = look(path, strict=strict)
        monkeypatch.setattr(Path, "stat", taken_away(Path(found), Path.stat))
        return found

    def taken_away(real: Path, stat: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        looks = iter(range(9))

        def once(self: Path, **more: bool) -> os.stat_result:
            if self == real and next(looks):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return stat(self, **more)

        return once

    monkeypatch.setattr(os.path, "realpath", look_late)
    assert why_not(path) == "is not run: No such file or directory"


async def test_verbs_and_hooks_themselves_are_no_events_for_hooks(directory: Path, tmp_path: Path) -> None:
    hook(directory, "notes", f"echo $FMRD_EVENT >>{tmp_path}/seen; exit 1")
    async with running(directory) as events:
        events.tell("verb", "somebody did something")
        events.tell("volume_well", "well")
        await one_complaint(events)
    assert (tmp_path / "seen").read_text() == "volume_well\n"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.chmod(0o777), "others may write"),
        (lambda path: path.chmod(0o775), "others may write"),
        (lambda path: path.chmod(0o644), "not executable"),
        (lambda path: path.parent.chmod(0o777), "others may write"),
        (lambda path: (path.unlink(), path.mkdir()), "no file"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere")), "No such file"),
        pytest.param(lambda path: os.chown(path, 65534, -1), "belongs to user 65534",
                     marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")),
        pytest.param(lambda path: os.chown(path.parent, 65534, -1), "belongs to user 65534",
                     marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")),
    ],
)  # fmt: skip
async def test_what_others_could_have_put_there_is_not_run(
    directory: Path, tmp_path: Path, spoil: Callable[[Path], object], why: str
) -> None:
    path = hook(directory, "bad", f"touch {tmp_path}/ran")
    assert why_not(path) is None
    spoil(path)
    async with running(directory) as events:
        events.tell("volume_well", "well")
        events.tell("volume_well", "well")
        said = await one_complaint(events)
        assert "bad is not run" in said and why in said
    assert not (tmp_path / "ran").exists()


def test_a_link_is_followed_to_what_it_names(directory: Path, tmp_path: Path) -> None:
    target = hook(tmp_path / "elsewhere", "real", f"touch {tmp_path}/ran")
    directory.mkdir()
    (directory / "link").symlink_to(target)
    assert why_not(directory / "link") is None
    target.parent.chmod(0o777)
    assert "others may write" in (why_not(directory / "link") or "")


async def test_what_is_left_by_editors_is_no_hook(directory: Path, tmp_path: Path) -> None:
    for name in ("mail.dpkg-old", "mail~", ".mail.swp", "#mail#"):
        hook(directory, name, f"touch {tmp_path}/ran")
    hook(directory, "good", f"touch {tmp_path}/good")
    async with running(directory) as events:
        events.tell("volume_well", "well")
        await until((tmp_path / "good").exists)
    assert not (tmp_path / "ran").exists() and not complaints(events)


async def test_without_a_directory_there_are_no_hooks(tmp_path: Path) -> None:
    async with running(tmp_path / "missing") as events:
        events.tell("volume_well", "well")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not complaints(events)


async def test_where_systemd_started_fmrd_it_starts_hooks_too(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit of fmrd has neither network nor set-uid programs."""
    hook(directory, "good", "exit 3")
    stub = hook(tmp_path / "bin", "systemd-run", f'printf "%s\\n" "$@" >{tmp_path}/args; cat >{tmp_path}/json; exit 3')
    monkeypatch.setenv("INVOCATION_ID", "1")
    monkeypatch.setattr(hook_run, "SYSTEMD", tmp_path)
    monkeypatch.setattr(hook_run.os, "geteuid", lambda: 0)
    monkeypatch.setattr(hook_run.shutil, "which", lambda name, path: str(stub))
    async with running(directory) as events:
        event = events.tell("volume_well", "all is well", volume="data")
        assert "good failed with status 3" in await one_complaint(events)
    words = (tmp_path / "args").read_text().splitlines()
    assert words[-1] == str(directory / "good") and {"--pipe", "--wait", "--collect"} < set(words)
    assert "--setenv=FMRD_MESSAGE=all is well" in words and "--property=RuntimeMaxSec=20" in words
    assert json.loads((tmp_path / "json").read_text()) == event.json()


# The shipped ones

FAILED = {
    "PATH": os.environ["PATH"], "FMRD_EVENT": "plex_failed", "FMRD_LEVEL": "warning", "FMRD_VOLUME": "data",
    "FMRD_MESSAGE": "it is $(DEGRADED)", "FMRD_ACTION": "mend it", "FMRD_CURSOR": "a.1", "FMRD_TIME": "1000",
}  # fmt: skip


def installed(tmp_path: Path, name: str, settings: str) -> Path:
    """As the README says: a copy in hooks.d, its settings beside the directory."""
    (tmp_path / "hooks.conf").write_text(settings)
    return hook(tmp_path / "hooks.d", name, (SHIPPED / name).read_text().partition("\n")[2])


def run(path: Path, stdin: str = "{}", **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [path], env=FAILED | changes, input=stdin, capture_output=True, text=True, timeout=30, check=False
    )


def test_the_mail_that_is_sent(tmp_path: Path) -> None:
    hook(tmp_path / "bin", "sendmail", f'[ "$1" = -t ] && cat >>{tmp_path}/mail')
    mail = installed(tmp_path, "mail", f"MAIL_TO=me@example.org\nSENDMAIL={tmp_path}/bin/sendmail\n")
    assert run(mail).returncode == 0
    sent = (tmp_path / "mail").read_text()
    assert sent.startswith("To: me@example.org\nSubject: fmrd on ") and "data: plex_failed\n" in sent
    assert "\nit is $(DEGRADED)\n" in sent and "What to do: mend it" in sent
    assert run(mail, FMRD_LEVEL="info", FMRD_EVENT="copy_done").returncode == 0
    assert (tmp_path / "mail").read_text() == sent, "no mail for what is only news"
    assert run(mail, FMRD_LEVEL="info", FMRD_EVENT="volume_well", FMRD_ACTION="").returncode == 0
    assert "data: volume_well" in (tmp_path / "mail").read_text()


def test_the_line_of_syslog(tmp_path: Path) -> None:
    hook(tmp_path / "bin", "logger", f'printf "%s\\n" "$@" >{tmp_path}/line')
    syslog = installed(tmp_path, "syslog", f"LOGGER={tmp_path}/bin/logger\n")
    assert run(syslog, FMRD_LEVEL="error").returncode == 0
    assert (tmp_path / "line").read_text().splitlines() == [
        "--tag", "fmrd", "--priority", "daemon.err", "--", "plex_failed: it is $(DEGRADED). What to do: mend it",
    ]  # fmt: skip


@needs_program("curl")
def test_the_message_to_a_telephone(tmp_path: Path) -> None:
    got: list[tuple[dict[str, str], bytes]] = []

    class Ntfy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Ntfy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"NTFY_URL=http://127.0.0.1:{server.server_port}/topic\n"
        ntfy = installed(tmp_path, "ntfy", url)
        assert run(ntfy).returncode == 0
        assert run(ntfy, FMRD_LEVEL="info", FMRD_EVENT="copy_done").returncode == 0
        (tmp_path / "hooks.conf").write_text(f"{url}NTFY_JSON=yes\n")
        assert run(ntfy, '{"kind": "plex_failed"}').returncode == 0
        server.shutdown()
    [(headers, body), (_, event)] = got
    assert (headers["Title"], headers["Priority"]) == ("fmrd: data", "high")
    assert body == b"it is $(DEGRADED)\nWhat to do: mend it" and json.loads(event) == {"kind": "plex_failed"}
    (tmp_path / "hooks.conf").write_text("")
    assert "NTFY_URL is not set" in run(ntfy).stderr
