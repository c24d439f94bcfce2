"""Writes blocks into a file, fsyncs each, and tells the world outside; or says what the file holds.

``writer.py write FILE REPORT TOLD``: until SIGTERM. Each block holds its number, again and again. REPORT has, as JSON,
how many were written, how long the longest took (a write and its fsync), and the error that ended it. What is fsynced
goes to TOLD, a virtio port, so it is known whatever becomes of this machine; only one can have it open.
``writer.py check FILE``: the number in each block, as JSON; one that is not all of one number is an error.
"""

import json
import os
import signal
import struct
import sys
import time

BLOCKS = 1024
BLOCK_BYTES = 4096
STEP = 389
"""Prime: the blocks come in an order that jumps about, each once before any comes again."""


def block(number: int) -> bytes:
    return struct.pack("<Q", number) * (BLOCK_BYTES // 8)


def write(path: str, report: str, told: str) -> None:
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    said: dict[str, object] = {"written": 0, "longest": 0.0, "error": None}
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(file, BLOCKS * BLOCK_BYTES)
    number = max(held(file).values())
    reporting = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    world = os.open(told, os.O_WRONLY)
    while not stopped and not said["error"]:
        number += 1
        where = number * STEP % BLOCKS
        began = time.monotonic()
        try:
            os.pwrite(file, block(number), where * BLOCK_BYTES)
            os.fsync(file)
        except OSError as error:
            said["error"] = str(error)
        else:
            os.write(world, b"%d %d\n" % (where, number))
            said["written"] = int(str(said["written"])) + 1
        said["longest"] = max(float(str(said["longest"])), time.monotonic() - began)
        os.pwrite(reporting, json.dumps(said).encode().ljust(200), 0)


def held(file: int) -> dict[int, int]:
    found = {}
    for where in range(BLOCKS):
        content = os.pread(file, BLOCK_BYTES, where * BLOCK_BYTES)
        [found[where]] = struct.unpack("<Q", content[:8])
        if content != block(found[where]):
            raise SystemExit(f"block {where} is torn: {content[:8]!r} and other numbers")
    return found


def check(path: str) -> None:
    file = os.open(path, os.O_RDONLY)
    print(json.dumps(held(file)))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(*sys.argv[2:])
    else:
        check(*sys.argv[2:])
