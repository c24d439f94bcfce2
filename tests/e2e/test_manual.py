"""What the manual pages show is run as it stands there, and shells complete what the daemon has."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from fmrd.front.ctl.cli import cli
from fmrd.front.setup.completing import script
from fmrd.front.setup.pages import PROSE
from fmrd.front.setup.sources import sources
from fmrd.front.vx.main import run as run_vx
from tests.e2e.harness import BIN, MIB, Daemon, needs_fuse, needs_program

pytestmark = needs_fuse

PAGES = sorted((sources() / PROSE).glob("*.md"))


@pytest.fixture
def door() -> str:
    """What is typed comes to the same engine, whatever the door."""
    return "channel"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_examples_run_one_after_the_other(
    daemon: Daemon, tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of fmrctl and of VxVM's tools; what units and other programs do has its tests elsewhere."""
    disks = [tmp_path / "srv" / f"disk{number}" for number in (1, 2, 3)]
    for disk in disks:
        disk.mkdir(parents=True)
    conf = tmp_path / "fmrd.conf"
    conf.write_text("[vx.disks]\n" + "".join(f'{disk.name} = "{disk}"\n' for disk in disks))
    monkeypatch.setenv("FMRD_CONF", str(conf))
    for block in page.read_text().split("\n## Examples\n")[1].split("```")[1::2]:
        for line in block.splitlines():
            tool, *words = shlex.split(line.removeprefix("# ").replace("/srv/", f"{tmp_path}/srv/")) or [""]
            if line.startswith("# fmrctl "):
                answer = daemon.ctl(*(_smaller(word) for word in words))
                assert answer.status == 0, f"{page.name}: {line}: {answer.err}"
            elif line.startswith("# vx"):
                assert run_vx([tool, *words], daemon.socket) == 0, f"{page.name}: {line}"


def _smaller(word: str) -> str:
    return "20M" if word == "20G" else word


def completed(daemon: Daemon, *words: str) -> set[str]:
    """What bash would be offered for the last word."""
    environment = os.environ | {
        "FMRD_SOCKET": str(daemon.socket), "_FMRCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": shlex.join(["fmrctl", *words]), "COMP_CWORD": str(len(words)),
    }  # fmt: skip
    done = subprocess.run([BIN / "fmrctl"], env=environment, capture_output=True, text=True, timeout=60)
    assert not done.stderr, done.stderr
    return {line.partition(",")[2] for line in done.stdout.splitlines() if line}


def test_what_the_daemon_has_is_completed(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("data", MIB, tmp_path / "a", tmp_path / "b")
    daemon.make("other", MIB, tmp_path / "c")
    daemon.json("snapshot", "data", "--instant", tmp_path / "s")
    daemon.json("plex", "add", "other", tmp_path / "d", "--wait")
    assert completed(daemon, "print", "") == {"SNAP-data", "data", "other"}
    assert completed(daemon, "print", "o") == {"other"}
    assert completed(daemon, "plex", "det", "data", "") == {"data-01", "data-02"}
    assert completed(daemon, "snapback", "") == {"SNAP-data"}
    assert completed(daemon, "snapshot", "data", "") == {"SNAP-data", "other"}, "not what stands there already"
    assert completed(daemon, "explain", "full_n") == {"full_new_plex"}
    assert "rdpol=round" in completed(daemon, "set", "data", "rd")
    assert completed(daemon, "plex", "d") == {"det", "dis"}
    daemon.stop()
    assert completed(daemon, "print", "") == set(), "without a daemon nothing, and no complaint"


def _script(tmp_path: Path, shell: str) -> Path:
    path = tmp_path / f"completion.{shell}"
    path.write_text(script(cli, shell))
    return path


def _environment(daemon: Daemon) -> dict[str, str]:
    return os.environ | {"FMRD_SOCKET": str(daemon.socket), "PATH": f"{BIN}:{os.environ['PATH']}"}


@needs_program("bash")
def test_bash_completes(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("data", MIB, tmp_path / "a")
    typed = f"source {_script(tmp_path, 'bash')}; COMP_WORDS=(fmrctl print d); COMP_CWORD=2; _fmrctl_completion fmrctl"
    done = subprocess.run(["bash", "-c", f'{typed}; echo "${{COMPREPLY[*]}}"'], env=_environment(daemon),
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert (done.stdout, done.stderr) == ("data\n", "")


@needs_program("fish")
def test_fish_completes(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("data", MIB, tmp_path / "a")
    typed = f"source {_script(tmp_path, 'fish')}; complete -C 'fmrctl plex det data '"
    done = subprocess.run(["fish", "--no-config", "-c", typed], env=_environment(daemon) | {"HOME": str(tmp_path)},
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.stdout.startswith("data-01\t"), done.stderr


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes(daemon: Daemon, tmp_path: Path) -> None:
    """Its own part of the work is done by a terminal; here its function is asked what it would offer."""
    daemon.make("data", MIB, tmp_path / "a")
    stubs = 'compdef() { : }; compadd() { print -r -- "$@" }; _describe() { print -rl -- ${(P)3} }'
    typed = f"{stubs}; words=(fmrctl print d); CURRENT=3; source {_script(tmp_path, 'zsh')}; _fmrctl_completion"
    done = subprocess.run(
        ["zsh", "-f", "-c", typed], env=_environment(daemon), capture_output=True, text=True, timeout=60
    )
    assert "data:ENABLED ACTIVE" in done.stdout, done.stdout + done.stderr
