"""Set-up as the README tells it, and a daemon that is restarted, stopped and killed in every way that systemd has."""

import json

from tests.vm.fmrd import (
    READY_SECONDS,
    SIZES,
    ask,
    disk,
    need,
    plex,
    states,
    wait_until_active,
    wait_until_ready,
    writing,
)
from tests.vm.machine import Failed, Machine, until

DEVICE_SECONDS = 90
"""README says 30, which are over here before a disk has been seen."""
INSTALL = "dpkg -i /media/fmrd/fmrd_*.deb"
DROP_IN = "/run/systemd/system/fmrd.service.d"


def set_up(vm: Machine) -> str:
    """the README's set-up"""
    vm.power_on()
    # The dependencies are there already, see image.py.
    answer = vm.ask(INSTALL, 300 + READY_SECONDS)
    need(answer["status"] == 0, answer["output"])
    vm.run("systemctl is-enabled fmrd && systemctl is-active fmrd && fmrctl print")
    return f"the package installed, fmrd enabled and ready after {answer['seconds']:.0f} s"


def make_on_devices(vm: Machine) -> str:
    """make on whole disks by-id, while udev looks at them"""
    vm.run("systemd-run -q --unit=looking sh -c 'while udevadm trigger --settle --subsystem-match=block; do :; done'")
    vm.run(f"fmrctl make data {SIZES['data']} {disk('one')} {disk('two')} --wait", 200)
    need(states(vm, "data") == ["ACTIVE", "ACTIVE"], f"plexes of data: {states(vm, 'data')}")
    vm.run("systemctl is-active looking && systemctl stop looking")
    settled = vm.ask("udevadm trigger --subsystem-match=block && udevadm settle --timeout=60", 90)
    need(settled["status"] == 0, f"udevadm settle: status {settled['status']} after {settled['seconds']:.0f} s")
    mount(vm, "data")
    return f"both plexes ACTIVE; udevadm settle took {settled['seconds']:.1f} s; mounted"


def mount(vm: Machine, name: str) -> None:
    """As the README's worked example."""
    options = f"_netdev,nofail,x-systemd.requires=fmrd-loop@{name}.service"
    vm.run(
        f"""set -e
        systemctl enable -q --now fmrd-loop@{name}
        mkfs.ext4 -q /run/fmrd-loop/{name}
        echo '/run/fmrd-loop/{name} /srv/{name} ext4 {options} 0 0' >>/etc/fstab
        mkdir -p /srv/{name} && systemctl daemon-reload && mount /srv/{name}
        mountpoint /srv/{name}""",
        120,
    )


def make_on_file_systems(vm: Machine) -> str:
    """plexes that are files, on disks that are nofail and waited for"""
    for number, name in enumerate(("three", "four"), 1):
        vm.run(
            f"""set -e
            mkfs.ext4 -q {disk(name)}
            mkdir -p /srv/disk{number}
            echo '{disk(name)} /srv/disk{number} ext4 nofail,x-systemd.device-timeout={DEVICE_SECONDS} 0 2' >>/etc/fstab
            systemctl daemon-reload && mount /srv/disk{number}"""
        )
    # What 'systemctl edit fmrd' makes.
    vm.run(
        """set -e
        mkdir -p /etc/systemd/system/fmrd.service.d
        printf '[Unit]\\nWantsMountsFor=/srv/disk1 /srv/disk2\\n' >/etc/systemd/system/fmrd.service.d/override.conf
        systemctl daemon-reload"""
    )
    vm.run(f"fmrctl make files {SIZES['files']} /srv/disk1/files.plex /srv/disk2/files.plex --wait", 120)
    mount(vm, "files")
    wait_until_active(vm, "files")
    return "both plexes ACTIVE; mounted"


def loops_in_use(vm: Machine) -> list[str]:
    """What loop devices lie on, each as often as one does."""
    return sorted(vm.run("losetup --noheadings --list --output BACK-FILE").split())


def restarted(vm: Machine) -> str:
    """systemctl restart fmrd under a writer"""
    with writing(vm, "data") as writer:
        writer.works()
        vm.run("systemctl restart fmrd", READY_SECONDS)
        writer.works()
        report = writer.stop()
    wait_until_active(vm, "data", "files")
    return f"no error; the longest of {report['written']} writes waited {report['longest']:.0f} s"


def told(vm: Machine) -> str:
    """events reach the journal with their fields, and hooks have a network"""
    vm.run(
        """set -e
        mkdir -p /etc/fmrd/hooks.d
        cat >/etc/fmrd/hooks.d/notes <<'END'
#!/bin/sh
set -e
/usr/bin/python3 -SE -c 'import socket; socket.socket(socket.AF_INET)'
echo "$FMRD_EVENT $FMRD_PLEX" >>/root/seen
(sleep 1000 &)
END
        cat >/etc/fmrd/hooks.d/hangs <<'END'
#!/bin/sh
exec sleep 1000
END
        chmod 755 /etc/fmrd/hooks.d/notes /etc/fmrd/hooks.d/hangs
        fmrctl plex det data data-02
        fmrctl plex att data data-02 --wait""",
        120,
    )
    vm.until("grep 'plex_detached data-02' /root/seen", "the hook was run, and has a network", 120)
    vm.until("journalctl -o cat FMRD_EVENT=plex_detached FMRD_PLEX=data-02 | grep detached", "the journal has it", 60)
    vm.until("journalctl -o cat FMRD_EVENT=hook_failed | grep 'hangs'", "the hook that hangs was told", 180)
    vm.run("rm -r /etc/fmrd/hooks.d")
    vm.until("! pgrep -f '[s]leep 1000'", "what hooks started is gone", 120)
    wait_until_active(vm, "data")
    return "both, and a hook that hangs was killed and told"


def killed(vm: Machine) -> str:
    """kill -9 under a writer"""
    with writing(vm, "data") as writer:
        writer.works()
        vm.run("systemctl kill --signal=KILL fmrd")
        writer.works(seconds=READY_SECONDS)
        report = writer.stop()
    wait_until_ready(vm)
    wait_until_active(vm, "data", "files")
    return f"no error; the longest of {report['written']} writes waited {report['longest']:.0f} s"


def stopped_and_started(vm: Machine) -> str:
    """umount, systemctl stop and start, mount: twice"""
    vm.run("echo kept >/srv/data/kept && sync /srv/data/kept")
    before = loops_in_use(vm)
    for _ in range(2):
        vm.run("umount /srv/data /srv/files && systemctl stop fmrd", READY_SECONDS)
        vm.run("systemctl start fmrd", READY_SECONDS)
        vm.run("mount /srv/data && mountpoint /srv/data && mount /srv/files && mountpoint /srv/files")
        vm.run("grep kept /srv/data/kept")
    after = loops_in_use(vm)
    need(len(after) == len(before) == 2, f"loop devices lay on {before}, and now on {after}")
    wait_until_active(vm, "data", "files")
    return "mounted each time, with its files; one loop device a volume, as before"


def killed_again_and_again(vm: Machine) -> str:
    """killed six times within a minute, under a writer"""
    with writing(vm, "data") as writer:
        writer.works()
        began = float(vm.run("cut -d' ' -f1 /proc/uptime"))
        for _ in range(6):
            pid = vm.run("systemctl show --property=MainPID --value fmrd").strip()
            vm.run(f"kill -9 {pid}")
            vm.until(
                f'pid=$(systemctl show --property=MainPID --value fmrd); test "$pid" != 0 && test "$pid" != {pid}',
                "systemd starts it again", READY_SECONDS,
            )  # fmt: skip
        took = float(vm.run("cut -d' ' -f1 /proc/uptime")) - began
        need(took < 60, f"they took {took:.0f} s: the machine is too slow for this")
        writer.works(seconds=READY_SECONDS)
        report = writer.stop()
    wait_until_ready(vm)
    wait_until_active(vm, "data", "files")
    return f"within {took:.0f} s; no error; a write waited {report['longest']:.0f} s at most"


def broken_upgrade(vm: Machine) -> str:
    """an upgrade that does not start, mended after ten tries, under a writer"""
    with writing(vm, "data") as writer:
        writer.works()
        vm.run(
            f"""set -e
            mkdir -p {DROP_IN}
            printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n' >{DROP_IN}/broken.conf
            systemctl daemon-reload
            ! systemctl restart fmrd""",
            READY_SECONDS,
        )
        tries = 10
        until(lambda: restarts(vm) >= tries, f"systemd tries {tries} times", READY_SECONDS)
        stored = vm.run("systemctl show --property=NFileDescriptorStore --value fmrd").strip()
        vm.run(f"rm {DROP_IN}/broken.conf && systemctl daemon-reload")
        writer.works(seconds=READY_SECONDS)
        report = writer.stop()
    wait_until_ready(vm)
    wait_until_active(vm, "data", "files")
    return f"{stored} descriptors kept meanwhile; no error; a write waited {report['longest']:.0f} s at most"


def restarts(vm: Machine) -> int:
    return int(vm.run("systemctl show --property=NRestarts --value fmrd"))


def leads_back(vm: Machine) -> str:
    """a plex that lies on a volume of the same daemon"""
    loop = vm.run("readlink -f /run/fmrd-loop/data").strip()
    # Of a volume on which nobody has anything mounted, as device-mapper takes its device for itself.
    vm.run("umount /srv/files")
    vm.run('dmsetup create back --table "0 $(blockdev --getsz /run/fmrd-loop/files) linear /run/fmrd-loop/files 0"')
    try:
        seen = [
            refused(vm, what, command)
            for what, command in {
                "a volume's own file": "plex add files /run/fmrd/volumes/data",
                "a loop device on one": f"plex add data {loop}",
                "import of one": f"import {loop}",
                "device-mapper on one": "plex add data /dev/mapper/back",
                "a file in a file system on one": "plex add files /srv/data/plex",
            }.items()
        ]
    finally:
        vm.run("dmsetup remove --retry back && mount /srv/files")
    ask(vm, "print")
    return "refused: " + "; ".join(seen)


def refused(vm: Machine, what: str, command: str) -> str:
    answer = vm.ask(f"fmrctl {command} --json 2>/dev/null", 120)
    if answer["status"] not in (1, 3):
        raise Failed(f"{what}: fmrctl {command}: status {answer['status']}, {answer['output'][-500:]}")
    code = json.loads(answer["output"])["error"]["code"]
    return f"{what} ({code})"


def freezing_itself(vm: Machine) -> str:
    """--freeze of the file system that holds fmrd's state, or a plex"""
    command = "snapshot files --instant /srv/disk1/old --freeze"
    vm.run("mount --bind / /mnt")
    try:
        seen = [refused(vm, where, f"{command} {where}") for where in ("/srv/disk2", "/mnt")]
    finally:
        vm.ask("fsfreeze --unfreeze /srv/disk2; fsfreeze --unfreeze /; umount /mnt", 120)
        vm.ask("fmrctl remove SNAP-files --erase", 120)
    need(all("refused_freeze" in each for each in seen), f"refused as something else: {seen}")
    vm.run("touch /var/lib/frozen /srv/disk2/frozen && rm /var/lib/frozen /srv/disk2/frozen")
    need(plex(vm, "files-02")["state"] == "ACTIVE", "files-02 is no longer ACTIVE")
    return "refused: " + "; ".join(seen)
