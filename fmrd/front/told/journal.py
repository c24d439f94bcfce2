"""The journal of systemd gets events with fields of their own: `journalctl FMRD_VOLUME=data FMRD_EVENT=plex_failed`."""

import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from fmrd.core.printable import escaped
from fmrd.engine.events.ring import Event, Level

SOCKET = Path("/run/systemd/journal/socket")
PRIORITIES = {Level.INFO: 6, Level.WARNING: 4, Level.ERROR: 3}
"""Those of syslog."""


def connected(environment: Mapping[str, str], error: int) -> bool:
    """Is standard error (``error`` its descriptor) the journal's, as systemd tells those that it starts?"""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(error)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino)) and not stat.S_ISREG(status.st_mode)


class Journal:
    """A listener of Events. Where the journal takes no more, an event is dropped, and counted in the next one."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._lost = 0

    def add(self, event: Event) -> None:
        lost = {"FMRD_LOST": str(self._lost)} if self._lost else {}
        try:
            self._socket.sendto(_datagram(fields_of(event) | lost), str(self._path))
            self._lost = 0
        except OSError:
            self._lost += 1

    def close(self) -> None:
        self._socket.close()


def fields_of(event: Event) -> dict[str, str]:
    """Each a line of text."""
    found = {
        "MESSAGE": event.line, "PRIORITY": str(PRIORITIES[event.level]), "SYSLOG_IDENTIFIER": "fmrd",
        "FMRD_EVENT": event.kind, "FMRD_CURSOR": event.cursor, "FMRD_VOLUME": event.volume, "FMRD_PLEX": event.plex,
        "FMRD_ACTION": event.action,
    }  # fmt: skip
    for name in ("uid", "verb", "code", "errno"):
        if event.details.get(name) is not None:
            found[f"FMRD_{name.upper()}"] = str(event.details[name])
    return {name: escaped(value) for name, value in found.items() if value}


def _datagram(fields: Mapping[str, str]) -> bytes:
    return "".join(f"{name}={value}\n" for name, value in fields.items()).encode(errors="backslashreplace")
