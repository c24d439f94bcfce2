"""Every command line of README and of the manual pages' examples was run by a test: here, as it stands there, or by one
that is named.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fmrd.front.setup.pages import PROSE
from tests.e2e.harness import needs_fuse, needs_loops, needs_program, until
from tests.e2e.stage import ROOT, Stage, needs_a_stage, stage

README = (ROOT / "README.md").read_text()
PAGES = {path.stem: path.read_text().split("\n## Examples\n")[1] for path in sorted((ROOT / PROSE).glob("*.md"))}
CONFIGURES = ("[", "nbd://", "EXPORT_OPTIONS", "toml")
"""A block, or a line, that begins like that is no command."""
INLINE = re.compile(r"`((?:fmrctl|fmrd|fmrd-vx|fmrd-loop|losetup|systemctl|mount|pipx?|journalctl|nbdkit|echo) [^`]+)`")
PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b|\.\.\.|^fmrd-export NAME$|^fmrd --[a-z]+$|^mount (-o|UUID=)$|^losetup -d$")
"""What shows a form, not a line."""
MENTION = re.compile(r"^fmrctl ((plex|task|stream) )?[a-z-]+$|^(mount|losetup|nbdkit) -\S+( \S+,\S+)?$|^echo check ")
"""A command by its name, without what it is given, and another program's."""


RECIPES = (
    "every night", "every five minutes", "after a cut", "into a file, and back", "a whole disk",
    "only what changed, onto a copy of data-monday",
)  # fmt: skip
FAR_RECIPES = ("by ssh", "by NBD, there", "by NBD, here")


def shown_in(markdown: str) -> Iterator[str]:
    """Each line that somebody could type, without its prompt and what is said beside it."""
    for block in markdown.split("```")[1::2]:
        lines = block.strip("\n").splitlines()
        if lines[0].startswith(CONFIGURES):
            continue
        if lines[0].removeprefix("# ") in (*RECIPES, *FAR_RECIPES, "in a Ceph cluster"):
            yield lines[0]  # all of it, by its title
            continue
        prompts = [re.match(r"(here|there)?[#$] +", line) for line in lines]
        for line, prompt in zip(lines, prompts, strict=True):
            if prompt or not any(prompts):
                yield re.split(r"  +", line[prompt.end() :] if prompt else line)[0]


def inline_in(markdown: str) -> Iterator[str]:
    """The same of what stands in the middle of text."""
    prose = "".join(markdown.split("```")[::2])
    for line in INLINE.findall(prose):
        if not PLACEHOLDER.search(
            line.replace("SNAP-", "").replace("FMRD_VOLUME=", "").replace("DEGRADED", "")
        ) and not MENTION.search(line):
            yield line


STORIES: dict[str, list[str]] = {
    "a worked example": [
        "fmrctl make data 20G /srv/disk1/data.plex /srv/disk2/data.plex",
        "systemctl enable --now fmrd-loop@data",
        "mkfs.ext4 /run/fmrd-loop/data",
        "echo '/run/fmrd-loop/data /srv/data ext4 _netdev,nofail,x-systemd.requires=fmrd-loop@data.service 0 0' "
        ">>/etc/fstab",
        "mkdir -p /srv/data && systemctl daemon-reload && mount /srv/data",
        "fmrctl plex det data data-02",
        "umount /srv/disk2",
        "(written)",
        "mount /srv/disk2",
        "fmrctl plex att --dry-run data data-02",
        "fmrctl plex att --wait data data-02",
        "fmrctl recover",
        "fmrctl recover --waiting",
        "fmrctl status",
        "fmrctl map data",
        "fmrctl explain DEGRADED",
        "fmrctl history data",
        "fmrctl events --since 2h --no-follow",
        "fmrctl make web1 4M /srv/disk1/web1.plex",
        "fmrctl print 'web*'",
        "fmrctl plex att data '*'",
        "fmrctl task list --all",
        "umount /srv/data",
        "systemctl stop fmrd-loop@data",
        "losetup --find --show --direct-io=on /run/fmrd/volumes/data",
    ],
    "snapshots": [
        "(mounted)",
        "fmrctl snapstart data /srv/disk3/data.plex",
        "fmrctl snapwait data",
        "fmrctl snapshot data --freeze /srv/data",
        "mount -o loop,ro /run/fmrd/volumes/SNAP-data /mnt",
        "umount /mnt",
        "fmrctl refresh SNAP-data --freeze /srv/data",
        "(copied)",
        "fmrctl snapprint",
        "umount /srv/data",
        "systemctl stop fmrd-loop@data",
        "fmrctl restore data --from SNAP-data --range 1G:64M",
        "fmrctl snapback --from-replica SNAP-data",
        "(copied)",
        "fmrctl snapshot data",
        "fmrctl snapback SNAP-data",
        "(copied)",
        "fmrctl snapshot data",
        "fmrctl snapclear SNAP-data",
        "fmrctl snapshot data --instant /srv/disk3/old",
        "fmrctl stop SNAP1-data",
        "fmrctl remove SNAP1-data",
        "fmrctl mark data night",
        "fmrctl changed data --mark night",
        "fmrctl mark data night --reset",
        "fmrctl set data write_behind=data-02:1G",
        "(lost)",
        "fmrctl import /srv/disk1/data.plex /srv/disk2/data.plex",
    ],
    "an export": [
        "(mounted)",
        "fmrctl snapshot data --instant /srv/disk3/night --freeze /srv/data",
        "(certificates)",
        "echo 'EXPORT_OPTIONS=--listen 10.0.0.1:10809 --tls /etc/fmrd/tls' >/etc/fmrd/export-SNAP-data.conf",
        "cat /etc/fmrd/export-SNAP-data.conf",
        "systemctl start fmrd-export@SNAP-data",
        "until nbdinfo 'nbds://10.0.0.1/SNAP-data'; do sleep 0.05; done",
        "nbdfuse --connections=1 /mnt/nbd/night nbds://10.0.0.1/SNAP-data &",
        "mount -o loop,ro /mnt/nbd/night /mnt/night",
        "ls /mnt/night/lost+found",
    ],
    "smaller ones": [
        "fmrctl make data 64M /srv/disk1/data.plex /srv/disk2/data.plex",
        "mkfs.ext4 /run/fmrd/volumes/data",
        "systemctl enable --now fmrd-verify@data.timer",
        "fmrctl verify data --repair",
        "fmrctl snapshot data --name night --instant /srv/disk3/night",
        "(certificates)",
        "echo 'EXPORT_OPTIONS=--listen 10.0.0.1:10809 --tls /etc/fmrd/tls' >/etc/fmrd/export-night.conf",
        "systemctl start fmrd-export@night",
        "until nbdinfo 'nbds://10.0.0.1/night'; do sleep 0.05; done",
    ],
    "a night": [
        "(made)",
        "mkdir -p /etc/fmrd.d /srv/disk3/snapshots",
        r"""printf '%s\n' '[snapshot]' 'into = "/srv/disk3/snapshots"' '[prune]' 'last = 2' >/etc/fmrd.d/data.toml""",
        "systemctl enable --now fmrd-nightly@data.timer",
        "ls /srv/disk3/snapshots/data-*.dco",
    ],
    "a store": [
        "(made)",
        "fmrctl make mail 64M /srv/disk1/mail.plex /srv/disk2/mail.plex",
        "fmrctl store add nightly /srv/snapshots size=20G autogrow=+5G:60G",
        "fmrctl snapshot data --instant --store nightly --name data-mon",
        "fmrctl snapshot mail --instant --store nightly --name mail-mon",
        "fmrctl store print",
    ],
    "several put back together": [
        "(made)",
        "fmrctl make log 4M /srv/disk1/log.plex /srv/disk2/log.plex",
        "fmrctl snapstart data /srv/disk3/data.plex",
        "fmrctl snapstart log /srv/disk3/log.plex",
        "fmrctl snapwait data",
        "fmrctl snapwait log",
        "fmrctl snapshot data log",
        "fmrctl snapback SNAP-data SNAP-log --from-replica --keep",
    ],
    "hooks": [
        "mkdir -p /etc/fmrd/hooks.d && install scripts/hooks/mail /etc/fmrd/hooks.d/",
        "echo MAIL_TO=me@example.org >/etc/fmrd/hooks.conf",
        "rm /etc/fmrd/hooks.d/mail",
        "mkdir -p /etc/fmrd/hooks.d",
        r"""printf '%s\n' '#!/bin/sh' 'echo "$FMRD_LEVEL: $FMRD_MESSAGE" >>/srv/disk1/seen' >/etc/fmrd/hooks.d/note""",
        "chmod 755 /etc/fmrd/hooks.d/note",
        "(made)",
        "fmrctl plex det data data-02",
        "fmrctl plex att data data-02 --wait",
        "tail -n 1 -F /srv/disk1/seen",
        "fmrctl stat data 5",
    ],
    "words of VxVM": [
        "printf '%s\n' '[vx.disks]' 'a = \"/srv/disk1\"' 'b = \"/srv/disk2\"' 'c = \"/srv/disk3\"' >/etc/fmrd.conf",
        "fmrd-vx --link /usr/local/sbin",
        "vxassist -g dg make vol01 64m layout=mirror nmirror=2",
        "vxassist -g dg -b snapstart vol01",
        "vxassist -g dg snapwait vol01",
        "vxassist -g dg snapshot vol01 snapvol01",
        "vxsnap -g dg restore vol01 source=snapvol01 destroy=no",
    ],
    "a backup": [
        "(mounted)",
        "mkdir -p /etc/fmrd",
        "fmrctl snapstart data /srv/disk3/data.plex",
        "fmrctl snapwait data",
        r"printf '%s\n' BACKUP_MOUNTPOINT=/srv/data BACKUP_TO=/backup >/etc/fmrd/backup-data.conf",
        "systemctl enable --now fmrd-backup@data.timer",
        "tar -tf /backup/data-*.tar",
    ],
    "a daemon of one's own": [
        "fmrd --state ~/fmrd/state --mount ~/fmrd/volumes --socket ~/fmrd/sock",
        "fmrctl --help",
        "fmrd-vx --help",
    ],
}
"""Title -> what is typed, one after the other. In brackets: what happens in between."""

GOES_ON = {
    "tail -n 1 -F /srv/disk1/seen": "info: volume data is well: all of its plexes are in sync",
    "fmrctl stat data 5": "pl data-02",
    "fmrd --state ~/fmrd/state --mount ~/fmrd/volumes --socket ~/fmrd/sock": " ready: volumes in ",
}
"""What does not end by itself -> what it says, and then is ended."""

IN_A_MACHINE = "takes systemd itself: scripts/test-vm, by hand"
ELSEWHERE: dict[str, tuple[str, str]] = {
    **{f"# {title}": ("tests/e2e/test_recipes.py", title) for title in RECIPES},
    **{f"# {title}": ("tests/e2e/test_far_recipes.py", title) for title in FAR_RECIPES},
    "# in a Ceph cluster": ("tests/ceph/test_recipe.py", "takes a cluster"),
    "truncate -s 20500M /srv/far.plex": ("tests/e2e/test_far_recipes.py", "by NBD, there"),
    "fmrctl nightly data": ("tests/e2e/test_nightly.py", "with README's plan, a hook and a second daemon"),
    "fmrctl nightly data --dry-run": ("tests/e2e/test_nightly.py", "the same"),
    "systemctl enable --now fmrd-far@srv-far.plex.socket": ("tests/e2e/test_far_recipes.py", "its script on a socket"),
    "./scripts/demo": ("scripts/test-deb", "half a minute; the tier runs it from the package"),
    "./scripts/test": (".ci/run", "it runs this"),
    "scripts/build-deb": ("scripts/test-deb", "a tier of its own"),
    "apt install ./dist/fmrd_0.2.0_all.deb": ("tests/deb/inside", "takes a bare Debian"),
    "apt install python3-venv python3-dev gcc pkg-config libfuse3-dev fuse3": ("scripts/bootstrap", "installs these"),
    "python3 -m venv /opt/fmrd": ("scripts/bootstrap", "makes one elsewhere"),
    "/opt/fmrd/bin/pip install .": ("scripts/bootstrap", "does it in a checkout"),
    "/opt/fmrd/bin/fmrctl install-units": ("tests/front/test_installing.py", "into a root of its own"),
    "pipx install .": ("scripts/bootstrap", "is venv and pip, which that calls"),
    "pip install 'fmrd[zstd]'": ("scripts/bootstrap", "takes a network; that installs extras by the same words"),
    "pip install 'fmrd[top]'": ("scripts/bootstrap", "the same"),
    "systemctl daemon-reload": ("tests/vm/living.py", IN_A_MACHINE),
    "systemctl enable --now fmrd": ("tests/vm/changing.py", IN_A_MACHINE),
    "systemctl restart fmrd": ("tests/vm/living.py", IN_A_MACHINE),
    "systemctl stop fmrd": ("tests/vm/living.py", IN_A_MACHINE),
    "systemctl edit fmrd": ("tests/vm/living.py", f"an editor; what it writes is there. It {IN_A_MACHINE}"),
    "systemctl edit --runtime fmrd": ("tests/vm/living.py", f"an editor, too; {IN_A_MACHINE}"),
    "journalctl FMRD_VOLUME=data": ("tests/vm/living.py", IN_A_MACHINE),
    "fmrctl undo data": ("tests/e2e/test_snapshots.py", "takes XFS or btrfs under the plexes"),
    "fmrctl --json events": ("tests/e2e/test_told.py", "goes on; what it prints is looked at there"),
    "echo 1 >/sys/block/loop0/queue/rotational": ("tests/e2e/test_typed.py", "that device may be somebody's"),
    "install /usr/share/doc/fmrd/examples/hooks/mail /etc/fmrd/hooks.d/": ("tests/deb/inside", "the package has it"),
    "mount /srv/data": ("tests/e2e/test_hand.py", "by mount.fmrd, which has to lie in /sbin"),
    "echo 'data /srv/data fmrd nofail 0 0' >>/etc/fstab": ("tests/e2e/test_hand.py", "the same"),
}  # fmt: skip
"""What is not typed on a stage -> who runs it, and why it is not typed there."""


def test_every_line_is_typed_or_has_its_reason() -> None:
    """A line that is changed in a document, or a new one, has to be typed, too; and so has what stands in text."""
    typed = {line for story in STORIES.values() for line in story}
    by_manuals = ("fmrctl ", "vx")  # of their own test
    shown = {*shown_in(README), *inline_in(README)}
    shown |= {line for page in PAGES.values() for line in shown_in(page) if not line.startswith(by_manuals)}
    left = sorted(shown - typed - ELSEWHERE.keys())
    assert left == [], "neither typed nor told why not"
    gone = sorted(ELSEWHERE.keys() - shown)
    assert gone == [], "not shown any more"
    assert not [who for who, _ in ELSEWHERE.values() if not (ROOT / who).exists()]


@pytest.fixture
def typing(tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path) as made:
        made.start()
        yield made


def _mounted(typing: Stage) -> None:
    for line in STORIES["a worked example"][:5]:
        typing.type(line)


def _copied(typing: Stage) -> None:
    until(lambda: "running" not in typing.type("fmrctl task list"), "copies end")


def _certificates(typing: Stage) -> None:
    """Of one authority, for servers and clients of either name."""
    typing.shell(
        """mkdir -p /etc/fmrd/tls && cd /etc/fmrd/tls
        key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
        openssl req -x509 $key -keyout ca-key.pem -out ca-cert.pem -subj /CN=ca -days 2
        for each in server client; do
            openssl req -new $key -keyout $each-key.pem -out $each.csr -subj /CN=$each
            openssl x509 -req -in $each.csr -CA ca-cert.pem -CAkey ca-key.pem -CAcreateserial -days 2 \\
                -extfile <(echo subjectAltName=IP:10.0.0.1,DNS:backup.example) -out $each-cert.pem
        done
        mkdir -p /etc/pki && for each in nbdkit fmrd libnbd; do cp -r . /etc/pki/$each; done"""
    )


def _lost(typing: Stage) -> None:
    """The state directory, while the daemon is stopped."""
    typing.stop()
    typing.shell("rm -r /var/lib/fmrd")
    typing.start()


BETWEEN: dict[str, Callable[[Stage], object]] = {
    "(written)": lambda typing: typing.shell("cp -r /etc/fstab /srv/data/ && sync"),
    "(mounted)": _mounted,
    "(copied)": _copied,
    "(made)": lambda typing: typing.type(STORIES["a worked example"][0]),
    "(certificates)": _certificates,
    "(lost)": _lost,
}


@needs_fuse
@needs_loops
@needs_a_stage
@needs_program("unshare", "nsenter", "ip", "mkfs.ext4", "debugfs", "nbdkit", "nbdfuse", "openssl")
@pytest.mark.parametrize("story", STORIES)
def test_what_is_shown_is_typed(typing: Stage, story: str) -> None:
    for line in STORIES[story]:
        if line in BETWEEN:
            BETWEEN[line](typing)
        elif line in GOES_ON:
            typing.says(line, GOES_ON[line])
        elif line.endswith(" &"):
            typing.behind(line.removesuffix(" &"))
            typing.shell(f"until [ -e {line.split()[2]} ]; do sleep 0.05; done")
        else:
            typing.type(line)
