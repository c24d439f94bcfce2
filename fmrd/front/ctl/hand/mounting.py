"""mount.fmrd: `mount -t fmrd VOLUME DIRECTORY`, and in /etc/fstab
`data /srv/data fmrd nofail 0 0`, which systemd/fmrd-generator lets come after fmrd.

It waits for the volume, puts it on a loop device, mounts what is on that, and lets the device go when that is
unmounted. Its options: ``fstype=TYPE`` (found out by mount without it), ``wait=SECONDS`` (60). All others go to mount.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fmrd.core.names import VOLUME_LENGTH, is_name
from fmrd.core.printable import escaped
from fmrd.errors import BadRequest, Failed, FmrdError
from fmrd.front.conf.reading import read_conf
from fmrd.front.ctl.hand.loops import alone, losetup, put_on_loop
from fmrd.front.places import default_places

USAGE, MOUNT_FAILED = 1, 32
"""Exit statuses of mount(8)."""
LOOK_SECONDS = 0.2
OF_FSTAB = frozenset({"defaults", "auto", "noauto", "nofail", "_netdev", "user", "users", "nouser", "owner", "group"})
"""Said to mount and systemd, not to a file system."""


@dataclass(frozen=True)
class Wish:
    """What mount(8) asks for."""

    volume: str
    directory: str
    options: tuple[str, ...]
    fstype: str = "auto"
    wait_seconds: float = 60.0
    fake: bool = False

    @property
    def read_only(self) -> bool:
        return "ro" in self.options


def read(words: Sequence[str]) -> Wish:
    """Read ``VOLUME DIRECTORY [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]``; BadRequest."""
    left, given = list(words), list[str]()
    options = ""
    fake = False
    while left:
        word = left.pop(0)
        if word in ("-o", "-N", "-t"):
            value = left.pop(0) if left else ""
            options = f"{options},{value}" if word == "-o" else options
        elif word.startswith("-") and set(word[1:]) <= set("sfnv"):
            fake = fake or "f" in word
        else:
            given.append(word)
    if len(given) != 2:
        raise BadRequest("bad_request", "usage: mount.fmrd VOLUME DIRECTORY [-o OPTIONS]")
    if not is_name(given[0], VOLUME_LENGTH):
        raise BadRequest("bad_name", f"{given[0]!r} is not the name of a volume")
    fstype, wait, others = "auto", 60.0, list[str]()
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name == "fstype":
            fstype = value
        elif name == "wait":
            wait = _seconds(value)
        elif option not in OF_FSTAB and not option.startswith(("x-", "X-", "comment=")):
            others.append(option)
    return Wish(given[0], given[1], tuple(others), fstype, wait, fake)


def mount(wish: Wish) -> None:
    """Do it. Failed('volume_missing'), ('loop_failed') or ('mount_failed'); then no loop device is left behind."""
    named = os.environ.get("FMRD_MOUNT") or read_conf().daemon.get("mount")
    place = Path(named or default_places().mount) / wish.volume
    path = f"{os.path.realpath(place.parent)}/{wish.volume}"
    until = time.monotonic() + wish.wait_seconds
    while not os.path.isfile(path):
        if time.monotonic() > until:
            hint = f"fmrctl status {wish.volume}"
            raise Failed("volume_missing", f"there is no {path}: is volume {wish.volume} started?", hint)
        time.sleep(LOOK_SECONDS)
    if wish.fake:
        return
    options = ["-o", ",".join(wish.options)] if wish.options else []
    with alone(path):
        found = put_on_loop(path, wish.volume, read_only=wish.read_only)
        device, ours = str(found["device"]), "notice" not in found
        words = ["mount", "-t", wish.fstype, *options, device, wish.directory]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if ours:  # of one in use the kernel puts it off until its last user has gone
            losetup("--detach", device)
    if done.returncode != 0:
        said = escaped(" ".join(done.stderr.split()))
        raise Failed("mount_failed", f"volume {wish.volume} on {wish.directory}: {said}")


def _seconds(text: str) -> float:
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise BadRequest("bad_request", f"wait={text}: a number of seconds")
    return float(text)


def main() -> None:
    """Exit as mount(8) does: 0, 1 for usage, 32."""
    try:
        mount(read(sys.argv[1:]))
    except FmrdError as error:
        print(escaped(f"mount.fmrd: {error.code}: {error.message}"), file=sys.stderr)
        if error.hint:
            print(escaped(f"hint: {error.hint}"), file=sys.stderr)
        sys.exit(USAGE if isinstance(error, BadRequest) else MOUNT_FAILED)


if __name__ == "__main__":
    main()
