"""fmrctl install-units: what is put in place names programs that are there, and what somebody changed is kept."""

import json
import re
from pathlib import Path

import pytest

from fmrd.front.ctl.cli import run
from fmrd.front.setup import installing
from fmrd.front.setup.sources import sources


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As in a virtual environment."""
    folder = tmp_path / "venv" / "bin"
    folder.mkdir(parents=True)
    for name in installing.PROGRAMS:
        (folder / name).write_text("#!/bin/sh\n")
    monkeypatch.setattr(installing, "_programs", lambda: folder)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def install(root: Path, capsys: pytest.CaptureFixture[str], *options: str, status: int = 0) -> dict[str, object]:
    assert run(["--json", "install-units", "--root", str(root), *options]) == status
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def test_every_unit_is_there_and_names_programs_that_are(
    root: Path, programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(root, capsys)["changed"]
    units = root / "etc/systemd/system"
    assert {p.name for p in units.iterdir()} == {p.name for p in (sources() / "systemd").glob("*.*")}
    called = set()
    for text in (p.read_text() for p in [*units.iterdir(), *(root / "etc/udev/rules.d").iterdir()]):
        called |= set(re.findall(r"^Exec\w+=-?(\S+)", text, re.MULTILINE)) | set(
            re.findall(r'\{program\}="(\S+)', text)
        )
    assert f"{programs}/fmrd" in called and f"{programs}/fmrctl" in called
    for program in called:
        path = Path(program) if program.startswith(str(programs)) else root / program.lstrip("/")
        assert path.is_file(), program
        assert path.stat().st_mode & 0o100 or path.parent == programs
    generator = root / "etc/systemd/system-generators/fmrd-generator"
    assert generator.stat().st_mode & 0o111 == 0o111 and generator.read_bytes().startswith(b"#!/bin/sh\n")
    assert (root / "usr/local/share/man/man8/fmrctl.8").is_file()
    assert (root / "usr/local/share/zsh/site-functions/_fmrctl").is_file()
    assert (root / "usr/local/bin/fmrctl").readlink() == programs / "fmrctl"


def test_a_second_time_changes_nothing(root: Path, programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(root, capsys)
    assert install(root, capsys, "--dry-run")["changes"] == install(root, capsys)["changes"] == []


def test_a_dry_run_writes_nothing(root: Path, programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(root, capsys, "--dry-run")["changed"]
    assert not root.exists()


def test_a_newer_one_replaces_what_an_older_one_put_there_but_not_what_somebody_changed(
    root: Path, programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(root, capsys)
    unit, script = root / "etc/systemd/system/fmrd.service", root / "usr/local/sbin/fmrd-loop"
    noted = root / "usr/local" / installing.NOTED
    old = b"# an older one"
    script.write_bytes(old)
    noted.write_text(
        json.dumps(
            json.loads(noted.read_text()) | {"/usr/local/sbin/fmrd-loop": installing.hashlib.sha256(old).hexdigest()}
        )
    )
    assert [change["name"] for change in install(root, capsys)["changes"]] == ["/usr/local/sbin/fmrd-loop"]  # type: ignore[attr-defined]  # a list
    unit.write_text("mine")
    refused = install(root, capsys, status=3)
    assert refused["error"]["code"] == "file_changed" and "fmrd.service" in refused["error"]["message"]  # type: ignore[index]  # an object
    assert unit.read_text() == "mine"
    install(root, capsys, "--force")
    assert unit.read_text() != "mine"


def test_another_prefix_is_told_to_all(root: Path, programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(root, capsys, "--prefix", "/opt/fmrd")
    text = "".join(p.read_text() for p in (root / "etc").rglob("*.*") if p.is_file())
    assert "/usr/local" not in re.sub(r"^#.*$", "", text, flags=re.MULTILINE)


def test_a_program_of_that_name_is_kept(root: Path, programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "usr/local/bin").mkdir(parents=True)
    (root / "usr/local/bin/fmrctl").write_text("another's")
    install(root, capsys)
    assert (root / "usr/local/bin/fmrctl").read_text() == "another's"
