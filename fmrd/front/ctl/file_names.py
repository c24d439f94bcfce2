"""This module asks which files of an ext file system own given bytes: debugfs, read-only, on the volume's file."""

import re
import shutil
import subprocess
from collections.abc import Sequence

from fmrd.core.json_object import Json
from fmrd.errors import Failed

MOST_BLOCKS = 512
"""Blocks that are asked for; of a plex that differs everywhere the first ones are enough."""


def names_of(path: str, ranges: Sequence[Json]) -> list[list[str]]:
    """Return for each range the paths of the files in it, from the root of the file system. Failed('io_error') where
    debugfs is not installed, or finds no ext file system there.
    """
    if not ranges:
        return []
    found = re.search(r"^Block size:\s+(\d+)", _ask(path, "stats -h"), re.MULTILINE)
    if found is None:
        raise Failed("io_error", f"{path} holds no ext2, ext3 or ext4 file system that debugfs can read")
    size = int(found[1])
    blocks = [
        list(range(r["offset_bytes"] // size, (r["offset_bytes"] + r["length_bytes"] - 1) // size + 1)) for r in ranges
    ]
    wanted = sorted({block for each in blocks for block in each})[:MOST_BLOCKS]
    inodes = dict(re.findall(r"^(\d+)\t(\d+)$", _ask(path, f"icheck {' '.join(map(str, wanted))}"), re.MULTILINE))
    names: dict[str, str] = {}
    if inodes:
        told = _ask(path, f"ncheck {' '.join(sorted(set(inodes.values())))}")
        names = dict(re.findall(r"^(\d+)\t(.+)$", told, re.MULTILINE))
    owners = [dict.fromkeys(inodes[str(block)] for block in each if str(block) in inodes) for each in blocks]
    return [[names.get(inode, f"inode {inode}") for inode in each] for each in owners]


def _ask(path: str, request: str) -> str:
    program = shutil.which("debugfs", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise Failed("io_error", "debugfs is not installed (package e2fsprogs)")
    done = subprocess.run([program, "-R", request, path], capture_output=True, text=True, errors="replace", check=False)
    return done.stdout
