"""systemd/fmrd-generator: what it makes of lines of fstab, and what systemd makes of that."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
GENERATOR = UNITS / "fmrd-generator"
SYSTEMDS = Path("/usr/lib/systemd/system-generators/systemd-fstab-generator")

pytestmark = pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="systemd is not installed")

Generated = Callable[..., Path]


@pytest.fixture
def generated(tmp_path: Path) -> Generated:
    """What generators leave of these lines: a directory with normal/ and early/."""

    def generate(*lines: str, by: tuple[Path, ...] = (GENERATOR,)) -> Path:
        (tmp_path / "fstab").write_text("".join(f"{line}\n" for line in lines))
        folders = [tmp_path / name for name in ("normal", "early", "late")]
        for folder in folders:
            folder.mkdir(exist_ok=True)
        environment = os.environ | {
            "SYSTEMD_FSTAB": str(tmp_path / "fstab"), "FMRD_KMSG": str(tmp_path / "said"),
            "SYSTEMD_PROC_CMDLINE": "quiet",
        }  # fmt: skip
        for each in by:
            subprocess.run([each, *folders], env=environment, check=True, timeout=30, capture_output=True)
        return tmp_path

    return generate


def units(base: Path) -> list[str]:
    """All that is there, files and links."""
    found = [path for folder in ("normal", "early", "late") for path in (base / folder).rglob("*")]
    return sorted(str(path.relative_to(base)) for path in found if path.is_symlink() or path.is_file())


def settings(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(
    "options", ["nofail", "_netdev", "ro,nofail", "noauto", "x-systemd.automount,wait=5", "nofail 0 0"]
)
def test_a_line_comes_after_fmrd(generated: Generated, options: str) -> None:
    base = generated("# a comment", "", f"data /srv/data fmrd {options}")
    assert units(base) == ["normal/srv-data.mount.d/50-fmrd.conf"]
    assert settings(base / units(base)[0]) == ["[Unit]", "Wants=fmrd.service", "After=fmrd.service"]


def test_lines_of_others_and_lines_that_cannot_be_are_left_alone(generated: Generated) -> None:
    lines = ["UUID=1 / ext4 defaults 0 1", "fmrd /srv/fmrd ext4 nofail 0 0", "#data /srv/data fmrd nofail 0 0",
             "data none fmrd nofail 0 0", "data", "/dev/sdb none swap sw 0 0", r"a\040b /x btrfs"]  # fmt: skip
    assert units(generated(*lines)) == []
    assert units(generated("data /srv/../data fmrd nofail")) == []
    assert "/srv/../data is no directory" in (generated() / "said").read_text()


def test_without_a_fstab_there_is_nothing_to_do(generated: Generated, tmp_path: Path) -> None:
    base = generated()
    (base / "fstab").unlink()
    done = subprocess.run(
        [GENERATOR, base / "normal", base / "early"],
        env=os.environ | {"SYSTEMD_FSTAB": str(base / "fstab")},
        timeout=30,
    )
    assert done.returncode == 0 and units(base) == []


def test_names_are_written_as_systemd_writes_them(generated: Generated) -> None:
    base = generated(r"data /srv/my\040data-1 fmrd nofail 0 0", r"half /srv/50%\040full fmrd ro 0 0")
    assert units(base)[-1] == r"normal/srv-my\x20data\x2d1.mount.d/50-fmrd.conf"
    unit = settings(base / "early" / r"srv-50\x25\x20full.mount")
    assert "Where=/srv/50%% full" in unit and "What=half" in unit


def test_a_line_that_others_wait_for_is_no_local_file_system(generated: Generated) -> None:
    """fmrd comes after local file systems, so none of them can wait for fmrd."""
    base = generated("need /srv/need fmrd ro,x-systemd.requires=other.service,x-systemd.before=late.service 0 0")
    early = base / "early"
    assert units(base) == [
        "early/local-fs.target.requires/srv-need.mount", "early/remote-fs.target.requires/srv-need.mount",
        "early/srv-need.mount",
    ]  # fmt: skip
    assert (early / "local-fs.target.requires" / "srv-need.mount").readlink() == Path("/dev/null")
    assert (early / "remote-fs.target.requires" / "srv-need.mount").resolve() == early / "srv-need.mount"
    unit = settings(early / "srv-need.mount")
    assert {"After=fmrd.service", "Before=remote-fs.target", "Requires=other.service", "Before=late.service"} <= set(
        unit
    )
    assert unit[-3:-1] == ["Where=/srv/need", "Type=fmrd"] and unit[-1].endswith(",nofail"), (
        "or local-fs.target would wait for it"
    )


@pytest.mark.skipif(not SYSTEMDS.exists() or shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("options", ["nofail", "_netdev", "defaults", "noauto", "x-systemd.automount"])
def test_systemd_finds_no_cycle(generated: Generated, options: str) -> None:
    """With the units that systemd makes of the same lines. Where its own unit alone is ordered after fmrd, it does."""
    base = generated("UUID=1 / ext4 defaults 0 1", f"data /srv/data fmrd {options} 0 0", by=(SYSTEMDS, GENERATOR))
    own = base / "own"
    (own / "multi-user.target.wants").mkdir(parents=True)
    text = (UNITS / "fmrd.service").read_text()
    (own / "fmrd.service").write_text(text.replace("/usr/local/bin/fmrd", "/bin/true"))
    (own / "multi-user.target.wants" / "fmrd.service").symlink_to("../fmrd.service")
    assert cycles(base / "early", own, base / "normal") == []
    if options == "defaults":
        (own / "srv-data.mount.d").mkdir()
        (own / "srv-data.mount.d" / "after.conf").write_text("[Unit]\nAfter=fmrd.service\n")
        assert cycles(own, base / "normal") != []


def cycles(*folders: Path) -> list[str]:
    """What systemd says of cycles on the way to a machine that is up, with units in these directories and its own."""
    path = ":".join([*map(str, folders), "/lib/systemd/system"])
    command = ["systemd-analyze", "verify", "--man=no", "--generators=no", "multi-user.target"]
    done = subprocess.run(
        command, env=os.environ | {"SYSTEMD_UNIT_PATH": path}, capture_output=True, text=True, timeout=60
    )
    return [line for line in done.stderr.splitlines() if "ordering cycle" in line]
