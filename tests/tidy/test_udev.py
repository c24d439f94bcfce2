"""The udev rules: what they name is there, and they stand where they must among the rules of others."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "udev").glob("*.rules"))
LINES = {path.name: [line for line in path.read_text().splitlines() if line and line[0] != "#"] for path in RULES}


def test_the_first_comes_before_blkid_and_the_second_before_those_who_act_on_it() -> None:
    """60-persistent-storage*.rules and 63-md-raid-arrays.rules look, 64-btrfs.rules and 69-lvm.rules act."""
    first, second = (path.name for path in RULES)
    assert first < "60-persistent-storage.rules" < "63-md-raid-arrays.rules" < second < "64-btrfs.rules"


@pytest.mark.parametrize("name", LINES)
def test_each_jump_has_its_label(name: str) -> None:
    text = "\n".join(LINES[name])
    assert set(re.findall(r'GOTO="(\w+)"', text)) == set(re.findall(r'LABEL="(\w+)"', text))


def test_what_they_call_and_start_is_in_the_tree() -> None:
    text = "\n".join(line for lines in LINES.values() for line in lines)
    [program] = re.findall(r'IMPORT\{program\}="/usr/local/lib/fmrd/(\w+) \$devnode"', text)
    assert (ROOT / "udev" / program).stat().st_mode & 0o111
    [unit] = set(re.findall(r'SYSTEMD_WANTS\}\+="(fmrd-\w+@)\$kernel.service"', text))
    assert (ROOT / "systemd" / f"{unit}.service").is_file()


def test_a_member_is_no_file_system_to_anybody() -> None:
    said = dict(re.findall(r'ENV\{(\w+)\}="([^"]*)"', "\n".join(LINES["63-z-fmrd.rules"])))
    assert (said["ID_FS_TYPE"], said["ID_FS_USAGE"], said["UDISKS_IGNORE"]) == ("fmrd_member", "raid", "1")
    assert said["ID_FS_LABEL"] == said["ID_FS_LABEL_ENC"] == ""


def test_what_a_disk_says_of_itself_is_imported_by_name_only() -> None:
    """A probe's output becomes udev's properties: it prints nothing that a disk could have written."""
    printed = re.findall(r'print\(f?"(\w+)=', (ROOT / "udev" / "probe").read_text())
    assert printed == ["FMRD_MEMBER", "FMRD_FAMILY", "FMRD_PLEX"]


def _verifies() -> bool:
    udevadm = shutil.which("udevadm") or shutil.which("udevadm", path="/usr/bin:/usr/sbin:/sbin:/bin")
    return udevadm is not None and subprocess.run([udevadm, "verify", "--help"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _verifies(), reason="udevadm verify is not there (systemd 254 and later)")
def test_udev_finds_nothing_wrong() -> None:
    done = subprocess.run(["udevadm", "verify", *RULES], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
