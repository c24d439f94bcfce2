"""What packages do: the units that come with one, a purge, an upgrade from 0.1.0 in use, and a way back."""

from tests.vm.failing import well_again
from tests.vm.fmrd import (
    READY_SECONDS,
    ask,
    need,
    only_what_it_missed,
    same,
    states,
    wait_until_active,
    wait_until_ready,
    writing,
)
from tests.vm.living import INSTALL
from tests.vm.machine import Machine

OLDER = "/media/fmrd/older"
FIRST_FMRD = f"""set -e
mkdir -p /opt/fmrd
cp -r {OLDER}/fmrd /opt/fmrd/
for each in fmrd=daemon fmrctl=cli; do
    printf '%s\\n' '#!/usr/bin/python3 -P' 'import sys' 'sys.path.insert(0, "/opt/fmrd")' \\
        'import outcome; outcome.Outcome.__class_getitem__ = classmethod(lambda cls, item: cls)' \\
        "from fmrd.front.${{each#*=}} import main" 'main()' >/usr/local/bin/${{each%=*}}
    chmod 755 /usr/local/bin/${{each%=*}}
done
install -m 644 {OLDER}/systemd/*.service /etc/systemd/system/
install {OLDER}/systemd/fmrd-loop /usr/local/sbin/
systemctl daemon-reload
systemctl enable -q --now fmrd"""
"""What README of 0.1.0 says, but for a virtual environment, which would need a network: Debian's outcome is told
that it has what 0.1.0 wants of a newer one, a type with a parameter.
"""
AWAY_WITH_IT = "rm -rf /etc/systemd/system/fmrd*.service /usr/local/sbin/fmrd-* /usr/local/bin/fmr* /opt/fmrd"
"""What docs/RELEASE.md says before the package comes."""


def mounts(names: list[str]) -> str:
    return " ".join(f"/srv/{name}" for name in names)


def units(vm: Machine) -> str:
    """fmrd-verify@, fmrd-backup@ and fmrd-export@, in their sandboxes"""
    vm.run("systemctl start fmrd-verify@files", 180)
    vm.run(
        """set -e
        mkdir -p /etc/fmrd /var/backups/files
        printf '%s\\n' BACKUP_MOUNTPOINT=/srv/files BACKUP_TO=/var/backups/files >/etc/fmrd/backup-files.conf
        echo kept >/srv/files/in-backup
        fmrctl snapstart files /var/backups/files.plex --wait
        systemctl start fmrd-backup@files
        tar -tf /var/backups/files/files-*.tar | grep in-backup
        ! grep fmrd-backup /proc/mounts
        ! losetup --list --noheadings --output BACK-FILE | grep backup-files""",
        400,
    )
    vm.run(
        """set -e
        systemctl start fmrd-export@backup-files
        for _ in $(seq 60); do ! test -S /run/fmrd-export/backup-files.sock || break; sleep 1; done
        nbdinfo --size 'nbd+unix:///backup-files?socket=/run/fmrd-export/backup-files.sock' | grep -x 67108864
        systemctl stop fmrd-export@backup-files
        fmrctl snapclear backup-files
        fmrctl stop backup-files
        fmrctl remove backup-files --erase --yes
        rm -r /var/backups/files /etc/fmrd/backup-files.conf""",
        400,
    )
    return "all copies compared, an archive of a refreshed snapshot made, an export read"


def purged(vm: Machine) -> str:
    """dpkg --purge, and the package once more"""
    shown = ask(vm, "print")["volumes"]
    names = [volume["name"] for volume in shown]
    plexes = [plex["path"] for volume in shown for plex in volume["plexes"]]
    vm.run(f"umount {mounts(names)}", 120)
    said = vm.run("dpkg --purge fmrd 2>&1", 240)
    unsaid = [each for each in [f"volume {name}" for name in names] + plexes if each not in said]
    need(not unsaid, f"a purge says nothing of {unsaid}: {said}")
    vm.run("! command -v fmrctl && ! pgrep -x fmrd && ! grep fuse.fmrd /proc/mounts")
    vm.run(
        " && ".join(f"test -e {each}" for each in [*plexes, *(f"/var/lib/fmrd/volumes/{name}.dco" for name in names)])
    )
    vm.run(INSTALL, 300 + READY_SECONDS)
    wait_until_ready(vm)
    vm.run("systemctl start " + " ".join(f"fmrd-loop@{name}" for name in names), 200)
    well_again(vm)
    vm.run(" && ".join(f"mountpoint /srv/{name}" for name in names))
    need({state for name in names for state in states(vm, name)} == {"ACTIVE"}, f"not all ACTIVE: {plexes}")
    return f"{len(plexes)} plexes and the state are named, and stay; installed again: all ACTIVE, mounted"


def upgraded(vm: Machine) -> str:
    """the first version becomes the package, with a volume mounted, under a writer"""
    names = [volume["name"] for volume in ask(vm, "print")["volumes"]]
    vm.run(
        f"""set -e
        umount {mounts(names)}
        systemctl disable -q --now {" ".join(f"fmrd-loop@{name}" for name in names)}
        dpkg --purge fmrd
        sed -i '/fmrd-loop/d' /etc/fstab
        mv /var/lib/fmrd /var/lib/fmrd-before
        rm /srv/disk1/files.plex* /srv/disk2/files.plex*""",
        300,
    )
    vm.run(FIRST_FMRD, READY_SECONDS)
    options = "_netdev,nofail,x-systemd.requires=fmrd-loop@older.service"
    vm.run(
        f"""set -e
        fmrctl make older 48M /srv/disk1/older.plex /srv/disk2/older.plex
        systemctl enable -q --now fmrd-loop@older
        mkfs.ext4 -q /run/fmrd/loop/older
        echo '/run/fmrd/loop/older /srv/older ext4 {options} 0 0' >>/etc/fstab
        mkdir -p /srv/older && systemctl daemon-reload && mount /srv/older
        fmrctl plex det older older-02""",
        300,
    )
    with writing(vm, "older") as writer:
        writer.works(10, 120)
        vm.run(AWAY_WITH_IT)
        vm.run(INSTALL, 300)
        vm.run("systemctl restart fmrd", READY_SECONDS)
        writer.works(10, 180)
        report = writer.stop()
    wait_until_active(vm, "older")
    said = only_what_it_missed(vm, "older-02")
    same(vm, "older")
    vm.run("systemctl is-enabled fmrd fmrd-loop@older && test -b /run/fmrd-loop/older")
    # As 0.1.0 has its line in fstab, which nobody has changed: also when the directory of that is gone.
    vm.run("umount /srv/older && systemctl stop fmrd && systemctl start fmrd", READY_SECONDS)
    vm.run("mount /srv/older && mountpoint /srv/older && umount /srv/older")
    return (
        f"no error, {report['written']} writes, one waited {report['longest']:.0f} s; {said}; mounted by its old line"
    )


def way_back(vm: Machine) -> str:
    """and back to the first one, of a volume that it would get wrong"""
    vm.run(
        """set -e
        fmrctl set older write_behind=older-02:1M
        ! mountpoint -q /srv/older || umount /srv/older
        systemctl stop fmrd-loop@older
        dpkg --remove fmrd
        cat /srv/disk?/older.plex* | sha256sum >/run/before""",
        300,
    )
    vm.run(FIRST_FMRD, READY_SECONDS)
    said = vm.run("fmrctl print 2>&1")
    need("dco_feature" in said, f"0.1.0 says of it: {said}")
    vm.run("systemctl stop fmrd && cat /srv/disk?/older.plex* | sha256sum | cmp - /run/before", READY_SECONDS)
    vm.run(AWAY_WITH_IT)
    vm.run(INSTALL + " && systemctl restart fmrd", 300 + READY_SECONDS)
    wait_until_ready(vm)
    wait_until_active(vm, "older")
    [line] = [line for line in said.splitlines() if "dco_feature" in line][:1]
    return f"refused ({line.strip()}), and nothing written; served again by the package"
