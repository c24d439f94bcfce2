"""systemd/fmrd-loop, for real: loop devices come and go under links that keep their names."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import MIB, Daemon, needs_fuse, until

HELPER = Path(__file__).parents[2] / "systemd" / "fmrd-loop"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/loop-control").exists(), reason="loop devices need root and /dev/loop-control"
)


class Place:
    """A directory that stands for the mount of the volumes, and one for the links."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.volumes = base / "volumes"
        self.links = base / "loop"
        self.volumes.mkdir()

    def volume(self, name: str) -> Path:
        path = self.volumes / name
        path.write_bytes(bytes(4 << 20))
        return path

    def environment(self) -> dict[str, str]:
        return os.environ | {"FMRD_MOUNT": str(self.volumes), "FMRD_LOOP": str(self.links), "FMRD_LOOP_WAIT": "0"}

    def run(self, verb: str, volume: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(HELPER), verb, volume]
        return subprocess.run(command, env=self.environment() | environment, capture_output=True, text=True)

    def devices(self, column: str = "NAME") -> list[str]:
        """Loop devices whose file lies here."""
        command = ["losetup", "--list", "--noheadings", "--output", f"{column},BACK-FILE"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [line.split()[0] for line in listed.splitlines() if str(self.base) in line]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for device in made.devices():
        subprocess.run(["losetup", "--detach", device], check=True)


def test_a_volume_is_on_a_loop_device_with_direct_io_under_its_name(place: Place) -> None:
    place.volume("data")
    assert place.run("start", "data").returncode == 0
    assert place.devices() == [os.readlink(place.links / "data")]
    assert place.devices("DIO") == ["1"]


def test_a_second_start_changes_nothing(place: Place) -> None:
    place.volume("data")
    place.run("start", "data")
    again = place.run("start", "data")
    assert again.returncode == 0 and "already" in again.stderr
    assert len(place.devices()) == 1


def test_a_device_on_a_part_of_the_volume_is_not_the_volumes(place: Place) -> None:
    path = place.volume("data")
    others = ("--offset", "1048576"), ("--sizelimit", "1048576")
    found = [subprocess.check_output(["losetup", "-f", "--show", *words, path], text=True).strip() for words in others]
    assert place.run("start", "data").returncode == 0
    [own] = set(place.devices()) - set(found)
    assert os.readlink(place.links / "data") == own
    assert place.run("stop", "data").returncode == 0
    assert sorted(place.devices()) == sorted(found), "what others have made stays"


def test_a_stop_takes_away_the_device_and_the_link_and_may_be_repeated(place: Place) -> None:
    place.volume("data")
    place.run("start", "data")
    assert place.run("stop", "data").returncode == 0
    assert place.devices() == [] and not os.path.lexists(place.links / "data")
    assert place.run("stop", "data").returncode == 0


def test_a_stop_leaves_a_device_alone_that_is_somebody_elses_by_now(place: Place) -> None:
    for name in ("data", "other"):
        place.volume(name)
        place.run("start", name)
    others = os.readlink(place.links / "other")
    place.run("stop", "data")
    (place.links / "data").symlink_to(others)
    assert place.run("stop", "data").returncode == 0
    assert place.devices() == [others]
    assert not os.path.lexists(place.links / "data")


def test_a_start_replaces_a_stale_link(place: Place) -> None:
    place.volume("data")
    place.links.mkdir()
    (place.links / "data").symlink_to("/dev/loop-of-yesterday")
    assert place.run("start", "data").returncode == 0
    assert place.devices() == [os.readlink(place.links / "data")]


def test_the_link_of_another_volume_is_left_alone_however_it_is_named(place: Place) -> None:
    for name in ("data.new", ".data.new", "data"):
        place.volume(name)
    place.run("start", "data.new")
    others = os.readlink(place.links / "data.new")
    assert place.run("start", "data").returncode == 0
    assert os.readlink(place.links / "data.new") == others != os.readlink(place.links / "data")
    assert sorted(os.listdir(place.links)) == ["data", "data.new"]


def test_a_path_through_a_symbolic_link_is_the_same_volume(place: Place) -> None:
    place.volume("data")
    alias = place.base / "alias"
    alias.symlink_to(place.volumes)
    place.run("start", "data", FMRD_MOUNT=str(alias))
    assert place.run("stop", "data", FMRD_MOUNT=str(alias)).returncode == 0
    assert place.devices() == []


def test_a_stop_while_the_device_is_in_use_says_so(place: Place) -> None:
    place.volume("data")
    place.run("start", "data")
    device = os.readlink(place.links / "data")
    with open(device, "rb"):
        stopped = place.run("stop", "data")
        assert stopped.returncode == 1
        assert f"{device} is in use" in stopped.stderr


def test_a_stop_waits_a_moment_for_who_only_looks_at_the_device(place: Place) -> None:
    """As udev does, and any losetup."""
    place.volume("data")
    place.run("start", "data")
    with open(os.readlink(place.links / "data"), "rb"):
        stopping = subprocess.Popen([str(HELPER), "stop", "data"], env=place.environment())
        until(lambda: place.devices("AUTOCLEAR") == ["1"], "the detach was put off")
    assert stopping.wait() == 0
    assert place.devices() == []


def test_a_volume_that_is_not_there_is_named(place: Place) -> None:
    started = place.run("start", "data")
    assert started.returncode == 1
    assert "is volume data started?" in started.stderr


@pytest.mark.parametrize("name", ["", "../data", "a/b", ".hidden"])
def test_what_cannot_be_a_volume_is_refused(place: Place, name: str) -> None:
    refused = place.run("start", name)
    assert refused.returncode == 1
    assert "is no volume's name" in refused.stderr


def test_a_link_that_was_lost_is_made_anew_from_what_the_kernel_says(place: Place) -> None:
    place.volume("data")
    place.run("start", "data")
    [device] = place.devices()
    (place.links / "data").unlink()
    assert place.run("start", "data").returncode == 0
    assert place.devices() == [device] == [os.readlink(place.links / "data")], "one device, not two"
    (place.links / "data").unlink()
    assert place.run("stop", "data").returncode == 0
    assert place.devices() == []


def test_links_where_0_1_0_had_them_lead_to_the_same_devices(place: Place) -> None:
    """A line in fstab names them there; after an upgrade, and after the next boot, when that directory is gone."""
    before = place.base / "before" / "loop"
    before.parent.mkdir()
    place.volume("data")
    assert place.run("start", "data", FMRD_LOOP=str(before)).returncode == 0
    [device] = place.devices()
    environment = place.environment() | {"FMRD_LOOP_BEFORE": str(before)}
    subprocess.run([str(HELPER), "again"], env=environment, check=True)
    assert place.devices() == [device] == [os.readlink(place.links / "data")]
    (before / "data").unlink()
    before.rmdir()
    subprocess.run([str(HELPER), "again"], env=environment, check=True)
    assert place.devices() == [device] == [os.readlink(before / "data")]


def test_two_starts_at_once_make_the_link_of_0_1_0_once(place: Place) -> None:
    """The second one comes between the look and the link."""
    place.volume("data")
    before, programs = place.base / "before" / "loop", place.base / "programs"
    for directory in (before.parent, programs):
        directory.mkdir()
    other = programs / "ln"
    other.write_text(f"""#!/bin/sh
for last; do :; done
[ "$last" != "{before}" ] || /bin/ln -s "{place.links}" "{before}"
exec /bin/ln "$@"
""")
    other.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    assert place.run("start", "data", FMRD_LOOP_BEFORE=str(before), PATH=path).returncode == 0
    assert os.readlink(before) == str(place.links)
    assert [each.name for each in place.links.iterdir()] == ["data"]


def test_a_wrong_verb_is_a_usage_error(place: Place) -> None:
    assert "usage" in place.run("restart", "data").stderr


@needs_fuse
@pytest.mark.parametrize(
    "verbs", [("stop", "start"), ("start",), ("again",)], ids=["restarted", "started again", "fmrd started again"]
)
def test_a_volume_of_a_daemon_comes_back_after_the_daemon_was_killed(daemon: Daemon, verbs: tuple[str, ...]) -> None:
    """systemd restarts the unit with fmrd; a person may only start it. The dead device does not stay behind."""
    environment = os.environ | {"FMRD_MOUNT": str(daemon.mount), "FMRD_LOOP": str(daemon.base / "loop")}

    def helper(verb: str) -> None:
        subprocess.run([str(HELPER), verb, *(["data"] if verb != "again" else [])], env=environment, check=True)

    daemon.make("data", 16 * MIB, daemon.base / "a", daemon.base / "b")
    helper("start")
    device = daemon.base / "loop" / "data"
    dead = Path("/sys/block") / Path(os.readlink(device)).name / "loop" / "backing_file"
    with open(device, "r+b") as volume:
        volume.write(b"before" * MIB)
        os.fsync(volume)
    daemon.kill()
    daemon.start()
    for verb in verbs:
        helper(verb)
    assert not dead.exists() or dead.read_text() != "/data\n", "a device of the mount that is gone"
    with open(device, "rb") as volume:
        assert volume.read(6 * MIB) == b"before" * MIB
    helper("stop")
    until(lambda: daemon.volume("data")["open_count"] == 0, "the loop device is gone")
    assert daemon.ctl("stop", "data").status == 0
