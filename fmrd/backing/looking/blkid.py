"""libblkid's probe: which file systems, arrays, containers and partition tables are recognised on a descriptor.

It reads what lies there now and asks no cache. Through the library, which is on every Debian; else through the command
``blkid -p``; where neither is there that is ``CannotProbe``, never "nothing found".
"""

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache

Values = dict[str, str]
"""TYPE, USAGE, LABEL, UUID, PTTYPE, PTUUID of one signature, as far as it has them. Not escaped."""

LIBRARY = "libblkid.so.1"
KEYS = ("TYPE", "USAGE", "LABEL", "UUID", "PTTYPE", "PTUUID")
UNCLEAR = {"TYPE": "unclear", "USAGE": "other"}
"""Several signatures contradict each other, and none of them can be named."""

_LABEL, _UUID, _TYPE, _USAGE, _MAGIC, _BADCSUM = 1 << 1, 1 << 3, 1 << 5, 1 << 7, 1 << 9, 1 << 10
_FORCE_GPT, _PARTS_MAGIC = 1 << 1, 1 << 3
"""A table without its protective MBR, of which only the backup is left, counts."""
_FOUND, _NOTHING, _AMBIVALENT = 0, 1, -2
_MOST_SIGNATURES = 16


class CannotProbe(Exception):
    """The message says why."""


def signatures(descriptor: int) -> list[Values]:
    """All that is recognised; empty for what is blank as far as libblkid knows. OSError where reading fails."""
    library = _library()
    return _by_library(library, descriptor) if library is not None else _by_command(descriptor)


@cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(LIBRARY, use_errno=True)
        probe, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
        library.blkid_new_probe.restype = probe
        library.blkid_free_probe.argtypes, library.blkid_free_probe.restype = [probe], None
        library.blkid_probe_set_device.argtypes = [probe, number, ctypes.c_int64, ctypes.c_int64]
        for name in ("enable_superblocks", "set_superblocks_flags", "enable_partitions", "set_partitions_flags"):
            getattr(library, f"blkid_probe_{name}").argtypes = [probe, number]
        for name in ("blkid_do_safeprobe", "blkid_do_probe", "blkid_reset_probe"):
            getattr(library, name).argtypes = [probe]
        library.blkid_probe_lookup_value.argtypes = [
            probe, text, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_size_t),
        ]  # fmt: skip
    except (OSError, AttributeError):
        return None
    return library


def _by_library(library: ctypes.CDLL, descriptor: int) -> list[Values]:
    probe = library.blkid_new_probe()
    if not probe:
        raise MemoryError("libblkid has no memory for a probe")
    try:
        _must(library.blkid_probe_set_device(probe, descriptor, 0, 0))
        library.blkid_probe_enable_superblocks(probe, 1)
        library.blkid_probe_set_superblocks_flags(probe, _LABEL | _UUID | _TYPE | _USAGE | _MAGIC | _BADCSUM)
        library.blkid_probe_enable_partitions(probe, 1)
        library.blkid_probe_set_partitions_flags(probe, _FORCE_GPT | _PARTS_MAGIC)
        ctypes.set_errno(0)
        result = library.blkid_do_safeprobe(probe)
        if result == _AMBIVALENT:
            library.blkid_reset_probe(probe)
            return list(_one_by_one(library, probe)) or [UNCLEAR]
        if result == _NOTHING:
            return []
        _must(result)
        return [_values(library, probe)]
    finally:
        library.blkid_free_probe(probe)


def _one_by_one(library: ctypes.CDLL, probe: int) -> Iterator[Values]:
    for _ in range(_MOST_SIGNATURES):
        if library.blkid_do_probe(probe) != _FOUND:
            return
        yield _values(library, probe)


def _values(library: ctypes.CDLL, probe: int) -> Values:
    found = {}
    for key in KEYS:
        data, length = ctypes.c_void_p(), ctypes.c_size_t()
        if library.blkid_probe_lookup_value(probe, key.encode(), ctypes.byref(data), ctypes.byref(length)) == 0:
            found[key] = os.fsdecode(ctypes.string_at(data, length.value).rstrip(b"\0"))
    return found


def _must(result: int) -> None:
    if result != _FOUND:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code)) if code else OSError(f"libblkid's probe failed ({result})")


def _by_command(descriptor: int) -> list[Values]:
    program = shutil.which("blkid", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise CannotProbe(f"neither {LIBRARY} nor the program blkid (package util-linux) is installed")
    command = [program, "-p", "-o", "export", f"/proc/self/fd/{descriptor}"]
    done = subprocess.run(
        command, capture_output=True, check=False, pass_fds=(descriptor,), stdin=subprocess.DEVNULL,
        env={"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin"},
    )  # fmt: skip
    found = parse_export(done.stdout)
    if done.returncode == 0 and found:
        return [found]
    if done.returncode == 2 and not found and not done.stderr:  # the same status tells that it could not be opened
        return []
    if done.returncode == 8:
        return [UNCLEAR]
    raise CannotProbe(f"{program} -p ended with status {done.returncode}: {os.fsdecode(done.stderr.strip())}")


def parse_export(output: bytes) -> Values:
    """The lines KEY=VALUE of ``blkid -o export``, with a backslash before what a shell would take for its own."""
    pairs = [line.partition("=") for line in os.fsdecode(output).split("\n")]
    return {key: re.sub(r"\\(.)", r"\1", value) for key, mark, value in pairs if mark and key in KEYS}
