"""The machine's disk: a Debian 13 with what fmrd needs, built once and kept until this recipe changes.

fmrd itself is not in it: it comes on a disk of its own, made anew for each run (``disk_of_fmrd``).
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUEST = Path(__file__).parent / "guest"
BEFORE = "c3f6bb0"
"""The commit of 0.1.0, from which an upgrade is tried."""
SUITE = "trixie"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    "linux-image-cloud-amd64", "initramfs-tools", "zstd", "systemd-sysv", "udev", "dbus", "kmod", "dmsetup",
    "util-linux", "mount", "e2fsprogs", "procps", "fuse3", "python3", "python3-trio",
    "python3-bitarray", "python3-click", "python3-rich", "python3-outcome", "python3-prometheus-client",
    "nbdkit", "libnbd-bin", "python3-pyfuse3",
)  # fmt: skip
"""Of Python's what the package of fmrd depends on, for it is installed there without a network; and what 0.1.0 does."""
SIZE = "1500M"

MODULES = "virtio_pci virtio_blk virtio_scsi sd_mod ext4"
"""All that is needed to find the root: a small initrd is unpacked in seconds rather than in half a minute."""

AGENT = """\
[Unit]
Description=Runs the scripts of scripts/test-vm
[Service]
ExecStart=/usr/bin/python3 /opt/agent.py
Restart=always
[Install]
WantedBy=multi-user.target
"""

CUSTOMIZE = r"""
set -eu
root=$1
mkdir -p "$root/media/fmrd" "$root/var/log/journal"
printf '%s\n' 'LABEL=root / ext4 defaults 0 1' 'LABEL=fmrd /media/fmrd ext4 ro 0 0' >"$root/etc/fstab"
echo fmrd-vm >"$root/etc/hostname"
echo '127.0.0.1 localhost fmrd-vm' >"$root/etc/hosts"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer getty.target getty@tty1.service modprobe@configfs.service modprobe@drm.service \
    modprobe@efi_pstore.service systemd-hwdb-update.service systemd-logind.service systemd-pstore.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
chroot "$root" systemctl enable agent.service
sed -i 's/^MODULES=.*/MODULES=list/' "$root/etc/initramfs-tools/initramfs.conf"
echo "$in_initrd" | tr ' ' '\n' >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u
rm -rf "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale
"""


def recipe() -> str:
    """A name that is another one when anything of the image is."""
    agent = (GUEST / "agent.py").read_text()
    parts = [SUITE, MIRROR, *PACKAGES, SIZE, MODULES, AGENT, agent, CUSTOMIZE]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fmrd-vm"


def image() -> Path:
    """Return the folder with root.ext4, vmlinuz and initrd.img; build it where it is not there."""
    folder = cache() / recipe()
    if not folder.is_dir():
        cache().mkdir(parents=True, exist_ok=True)
        for old in cache().iterdir():
            shutil.rmtree(old)
        with tempfile.TemporaryDirectory(dir=cache()) as place:
            build(Path(place)).rename(folder)
    return folder


def build(place: Path) -> Path:
    """Some minutes. Root is needed for its owners and device nodes."""
    if os.getuid():
        raise SystemExit("test-vm: building the machine takes root (once)")
    print("test-vm: building the machine, some minutes", flush=True)
    system, made = place / "system", place / "made"
    made.mkdir()
    customize = place / "customize"
    customize.write_text("#!/bin/sh" + CUSTOMIZE)
    customize.chmod(0o755)
    (place / "agent.service").write_text(AGENT)
    environment = os.environ | {"in_initrd": MODULES}
    command = [
        "mmdebstrap", "--quiet", "--variant=minbase", "--format=directory", f"--include={','.join(PACKAGES)}",
        f"--customize-hook=copy-in {place / 'agent.service'} /etc/systemd/system",
        f"--customize-hook=copy-in {GUEST / 'agent.py'} /opt",
        f'--customize-hook={customize} "$1"', SUITE, str(system), MIRROR,
    ]  # fmt: skip
    subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL)
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(system / name, made / name)
    file_system("root", system, made / "root.ext4", SIZE)
    return made


def file_system(label: str, content: Path, path: Path, size: str) -> None:
    """Make an ext4 image."""
    command: list[str | Path] = ["mke2fs", "-q", "-t", "ext4", "-L", label, "-d", content, path, size]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def disk_of_fmrd(path: Path) -> None:
    """Make an ext4 image with this checkout's package, 0.1.0, and the programs that the scenarios use."""
    with tempfile.TemporaryDirectory() as scratch:
        content = Path(scratch) / "content"
        content.mkdir()
        subprocess.run([ROOT / "scripts" / "build-deb", content], check=True, stdin=subprocess.DEVNULL)
        older = content / "older"
        older.mkdir()
        packed = subprocess.run(
            ["git", "-C", ROOT, "archive", BEFORE, "fmrd", "systemd"], check=True, stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "-x", "-C", older], input=packed.stdout, check=True)
        shutil.copytree(GUEST, content / "guest", ignore=shutil.ignore_patterns("__pycache__"))
        file_system("fmrd", content, path, "32M")
