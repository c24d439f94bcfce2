"""The systemd units: they are well formed, and leave the volumes visible to everybody."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"

HIDES_MOUNTS = (
    "PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateIPC", "PrivateNetwork", "PrivateUsers", "ProtectSystem",
    "ProtectHome", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups",
    "ProtectProc", "ProcSubset", "ProtectHostname", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths",
    "ExecPaths", "NoExecPaths", "BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem", "MountFlags", "MountImages",
    "MountAPIVFS", "RootDirectory", "RootImage", "ExtensionImages", "ExtensionDirectories", "DynamicUser",
    "LogNamespace", "NetworkNamespacePath",
)  # fmt: skip
"""Each gives a service a mount namespace of its own (systemd.exec), so that nobody else would see its FUSE mount."""

FROM_254_ON = ("RestartSteps", "RestartMaxDelaySec")
"""Debian 12's systemd is older, says that it ignores them, and does."""

BARS_DEVICES = ("ProtectClock", "DeviceAllow", "DevicePolicy")
"""Each bars /dev/fuse, or plexes on block devices."""


def settings_of(name: str) -> dict[str, str]:
    lines = [line for line in (UNITS / name).read_text().splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    """With the programs where this checkout has them, since verify also looks for those."""
    backup = UNITS.parent / "scripts" / "backup"
    helpers = {f"/usr/local/sbin/{name}": UNITS / name for name in ("fmrd-loop", "fmrd-export", "fmrd-far")}
    programs = helpers | {"/usr/local/sbin/fmrd-backup": backup}
    for unit in [*UNITS.glob("*.service"), *UNITS.glob("*.socket"), *UNITS.glob("*.timer")]:
        text = unit.read_text()
        for installed, here in programs.items():
            text = text.replace(installed, str(here))
        text = text.replace("/usr/local/bin/fmrd", sys.executable).replace("/usr/local/bin/fmrctl", sys.executable)
        for name in (unit.name, unit.name.replace("@.", "@data.")):
            (tmp_path / name).write_text(text)
    units = sorted(map(str, tmp_path.iterdir()))
    assert len(units) == 23
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "fmrd" in line]
    complaints = [line for line in complaints if not any(f"Unknown key '{new}'" in line for new in FROM_254_ON)]
    assert (done.returncode, complaints) == (0, []), done.stderr


def test_the_daemon_shares_its_mounts_and_reaches_every_device() -> None:
    assert not set(settings_of("fmrd.service")) & {*HIDES_MOUNTS, *BARS_DEVICES}


def test_the_daemon_may_mount_lock_its_memory_and_be_an_io_flusher() -> None:
    settings = settings_of("fmrd.service")
    kept = settings["CapabilityBoundingSet"].split()
    assert {"CAP_SYS_ADMIN", "CAP_SYS_RESOURCE", "CAP_IPC_LOCK", "CAP_DAC_OVERRIDE"} <= set(kept)
    filters = re.findall(r"^SystemCallFilter=(.*)$", (UNITS / "fmrd.service").read_text(), re.MULTILINE)
    assert filters == ["@system-service @mount", "~@resources"], "the first says what is allowed at all"
    assert settings["LimitMEMLOCK"] == "infinity"
    assert int(settings["OOMScoreAdjust"]) < -500


@pytest.mark.parametrize("name", ["fmrd-export@.service", "fmrd-loop@.service", "fmrd-verify@.service"])
def test_what_lives_long_sees_the_mounts_of_everybody_else(name: str) -> None:
    """And holds none that is gone for everybody else: a loop device keeps the mount of its file."""
    assert not set(settings_of(name)) & set(HIDES_MOUNTS)


OTHERS = sorted(path.name for path in UNITS.glob("*@.service"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", OTHERS)
def test_a_unit_is_exposed_less_than_4_2(name: str) -> None:
    """Of fmrd.service itself the test of the package says so: systemd rates it from one version to the next."""
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", UNITS / name]
    said = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[-1]
    assert float(re.findall(r": ([0-9.]+) ", said)[-1]) < 4.2, said


def test_the_far_side_lets_go_of_a_client_that_is_gone() -> None:
    """Else a server that takes one client at a time lets nobody in for hours after a partition."""
    settings = settings_of("fmrd-far@.socket")
    assert settings["KeepAlive"] == "yes"
    pause, probes = int(settings["KeepAliveIntervalSec"]), int(settings["KeepAliveProbes"])
    assert int(settings["KeepAliveTimeSec"]) + pause * probes <= 15
    assert "--filter=limit" in (UNITS / "fmrd-far").read_text()


def test_the_state_is_private_and_outlives_a_restart() -> None:
    settings = settings_of("fmrd.service")
    assert (settings["StateDirectory"], settings["StateDirectoryMode"]) == ("fmrd", "0700")
    assert (settings["RuntimeDirectory"], settings["RuntimeDirectoryPreserve"]) == ("fmrd", "restart")


def test_no_start_limit_ever_empties_the_descriptor_store() -> None:
    settings = settings_of("fmrd.service")
    assert settings["StartLimitIntervalSec"] == "0" and "StartLimitBurst" not in settings
    assert int(settings["RestartSteps"]) > 1 and int(settings["RestartMaxDelaySec"]) <= 60


def test_no_missing_disk_of_a_plex_stops_the_daemon() -> None:
    assert settings_of("fmrd.service")["RequiresMountsFor"] == "/var/lib/fmrd"


def test_links_of_loop_devices_lie_where_no_stop_takes_them_away() -> None:
    gone = f"/run/{settings_of('fmrd.service')['RuntimeDirectory']}/"
    [where] = re.findall(r"FMRD_LOOP:-([^}]+)", (UNITS / "fmrd-loop").read_text())
    assert not f"{where}/".startswith(gone)
    for text in (UNITS.parent / "README.md", UNITS / "fmrd-loop@.service"):
        assert f"{where}/data" in text.read_text() and f"{gone}loop" not in text.read_text()


def test_a_loop_device_comes_after_the_daemon_and_goes_before_it() -> None:
    settings = settings_of("fmrd-loop@.service")
    assert settings["Wants"] == settings["After"] == "fmrd.service"
    assert not set(settings) & {"Requires", "BindsTo", "PartOf"}, "a restart of fmrd would take it away"
    assert settings["RemainAfterExit"] == "yes"
    assert settings["ExecStart"].removesuffix(" start %i") == settings["ExecStop"].removesuffix(" stop %i")


def test_a_backup_runs_every_night_and_also_after_a_night_off() -> None:
    settings = settings_of("fmrd-backup@.timer")
    assert settings["Persistent"] == "true" and settings["OnCalendar"].startswith("*-*-* ")
    assert settings_of("fmrd-backup@.service")["EnvironmentFile"] == "/etc/fmrd/backup-%i.conf"


def test_a_night_runs_every_night_by_its_plan_and_also_after_a_night_off() -> None:
    settings = settings_of("fmrd-nightly@.timer")
    assert settings["Persistent"] == "true" and settings["OnCalendar"].startswith("*-*-* ")
    night = settings_of("fmrd-nightly@.service")
    assert night["ExecStart"].endswith("/fmrctl nightly %i") and night["ConditionPathExists"] == "/etc/fmrd.d/%i.toml"


def test_whoever_thaws_a_file_system_outlives_the_daemon() -> None:
    assert settings_of("fmrd.service")["KillMode"] == "process"


def test_systemd_keeps_the_mount_while_the_daemon_is_restarted() -> None:
    settings = settings_of("fmrd.service")
    assert int(settings["FileDescriptorStoreMax"]) >= 2
    assert settings["Environment"] == f"FDSTORE={settings['FileDescriptorStoreMax']}"
    assert settings["Restart"] == "on-failure"
    assert settings["ExecStart"].endswith("/fmrd --keeper"), "a main process that no disk holds up"
    assert settings["NotifyAccess"] == "all", "the one that serves is a child of it"
