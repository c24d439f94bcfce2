"""A file on another host by ssh: a server is started for it, and has it locked while anything may be carried out. Here
the other host is this one, by a program in the place of ssh; tests of the real one are those of who has it.
"""

import os
import signal
from pathlib import Path

import pytest
import trio

from fmrd.backing.host import LinuxHost
from fmrd.backing.nbd.exports import Exports
from fmrd.backing.nbd.speaking import opening
from fmrd.backing.nbd.speaking.ssh import command
from fmrd.core.far.uris import read_uri
from fmrd.errors import Failed
from tests.e2e.harness import needs_program, until
from tests.nbd_servers import ssh_to_here

pytestmark = needs_program("nbdkit", "flock")

SIZE = 4 << 20


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, and a host ``there`` that has it."""
    monkeypatch.setenv("PATH", f"{ssh_to_here(tmp_path)}:{os.environ['PATH']}")
    monkeypatch.setattr(opening, "BUSY_SECONDS", 0.2)
    path = tmp_path / "far away" / "it's a plex"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(SIZE)
    return path


def uri(path: Path, host: str = "there") -> str:
    return str(read_uri(f"ssh://me@{host}{str(path).replace(' ', '%20')}"))


def asked(there: Path) -> list[str]:
    return (there.parent.parent / "bin" / "ssh").with_name("asked").read_text().splitlines()


def test_it_is_a_plex_like_others_and_its_fence_is_the_lock(there: Path, tmp_path: Path) -> None:
    host = LinuxHost(tmp_path / "state")
    assert host.look(uri(there), None).blank
    plex = host.open_plex(uri(there), 0)
    assert (plex.fence, plex.far, plex.length) == ("lock", "ssh", SIZE)
    plex.pwrite(4095, b"by ssh" * 1000)
    plex.fdatasync()
    assert plex.pread(4095, 6000) == b"by ssh" * 1000
    plex.close()
    assert there.read_bytes()[4095:10095] == b"by ssh" * 1000
    assert "-oBatchMode=yes" in asked(there)[0] and "-l me -- there" in asked(there)[0]


async def test_who_comes_while_it_is_locked_is_told_and_when_it_is_free_is_let_in(there: Path) -> None:
    first, second = Exports(), Exports()
    plex = await trio.to_thread.run_sync(first.open_plex, uri(there), 0)
    with pytest.raises(Failed, match="plex_busy") as caught:
        await trio.to_thread.run_sync(second.open_plex, uri(there), 0)
    assert "locked" in caught.value.message and "me@there" in caught.value.message
    await trio.to_thread.run_sync(plex.close)
    opening.BUSY_SECONDS = 30.0
    again = await trio.to_thread.run_sync(second.open_plex, uri(there), 0)
    await trio.to_thread.run_sync(again.close)


async def test_what_is_given_up_is_killed_and_what_it_began_keeps_the_next_one_out(there: Path) -> None:
    exports = Exports()
    plex = await trio.to_thread.run_sync(exports.open_plex, uri(there), 0)
    errors: list[Exception | None] = []
    process = int(asked(there)[-1].split()[0])
    os.kill(process, signal.SIGSTOP)
    plex.begin_pwrite(0, bytes(1 << 20), errors.append)
    plex.hang_up()
    await trio.to_thread.run_sync(until, lambda: errors, "it is told of it")
    assert isinstance(errors[0], OSError)
    await trio.to_thread.run_sync(plex.close)
    await trio.to_thread.run_sync(until, lambda: not os.path.exists(f"/proc/{process}"), "ssh is gone")


@pytest.mark.parametrize(
    ("host", "name", "words"),
    [("there", "missing", "there is no"), ("nowhere", "x", r"\x1b[31mnowhere"), ("bare", "x", "lacks nbdkit")],
)
def test_why_nobody_answers_is_told(there: Path, host: str, name: str, words: str) -> None:
    with pytest.raises(Failed, match="plex_missing") as caught:
        Exports().open_plex(uri(there.with_name(name), host), 0)
    assert words in caught.value.message and caught.value.hint
    assert not there.with_name("missing").exists(), "a lock makes no file"


def test_no_ssh_here_is_told(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(there.parent))
    with pytest.raises(Failed, match="plex_missing"):
        Exports().open_plex(uri(there), 0)


def test_nothing_of_a_uri_is_taken_for_an_option_or_a_command(there: Path) -> None:
    words = command(read_uri("ssh://there:2222/a%20b;rm%20-rf%20x"), 30.0)
    assert words[words.index("--") + 1] == "there" and words[-1].count("rm -rf") == 3
    assert "'\"'\"'/a b;rm -rf x'\"'\"'" in words[-1] and words[words.index("-p") + 1] == "2222"
