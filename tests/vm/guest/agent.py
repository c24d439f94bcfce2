"""Runs in the machine as a service: takes scripts from a virtio port, one JSON line each, and says what came of them.

A script that hangs holds up no other: each has a thread, and is left behind when its time is over.
"""

import json
import os
import signal
import subprocess
import threading
import time
from typing import Any, BinaryIO

PORT = "/dev/virtio-ports/fmrd.agent"


def wait_for_port() -> BinaryIO:
    while True:
        try:
            return open(PORT, "r+b", buffering=0)
        except OSError:
            time.sleep(0.1)


def run(asked: dict[str, Any]) -> dict[str, Any]:
    """``status`` is None where the script did not end in time."""
    began = time.monotonic()
    with open(os.memfd_create("output"), "w+b") as output:
        process = subprocess.Popen(
            ["bash", "-c", asked["script"]], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            status: int | None = process.wait(asked["timeout"])
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = None
        output.seek(0)
        said = output.read().decode(errors="replace")
    return {"id": asked["id"], "status": status, "output": said, "seconds": time.monotonic() - began}


def main() -> None:
    port = wait_for_port()
    lock = threading.Lock()

    def say(answer: dict[str, Any]) -> None:
        line = memoryview(json.dumps(answer).encode() + b"\n")
        with lock:
            while line:
                line = line[port.write(line) :]

    with open("/proc/sys/kernel/random/boot_id") as file:
        say({"boot": file.read().strip()})
    waiting = b""
    while received := port.read(1 << 16):
        *lines, waiting = (waiting + received).split(b"\n")
        for line in lines:
            asked = json.loads(line)
            threading.Thread(target=lambda asked=asked: say(run(asked)), daemon=True).start()


if __name__ == "__main__":
    main()
