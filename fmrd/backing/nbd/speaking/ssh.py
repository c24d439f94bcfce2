"""A file on another host, by ssh: no server has to be set up there. nbdkit is started for it, speaks by ssh's standard
input and output, and has the file locked for as long as it runs: while anything of an earlier session may be carried
out there, the next one is not let in.

Keys, names and known hosts are ssh's own business (its configuration, an agent): nobody is ever asked for a password.
"""

import contextlib
import fcntl
import os
import shlex
import socket
import subprocess
import threading

from fmrd.backing.nbd.speaking.channel import Channel
from fmrd.core.far.uris import NbdUri
from fmrd.core.printable import printable
from fmrd.errors import Failed

LOCKED, NO_FILE, NO_PROGRAM, SSH_FAILED = 75, 76, 127, 255
"""What the command there ends with."""
WORDS_BYTES = 4096
END_SECONDS = 2.0


class SshChannel(Channel):
    """A connection to a server that was started for it. OSError where there is no ssh."""

    def __init__(self, uri: NbdUri, patience_seconds: float) -> None:
        self._words = _short_memory()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    command(uri, patience_seconds), stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=self._words,
                    start_new_session=True,
                )  # fmt: skip
            except BaseException:
                ours.close()
                os.close(self._words)
                raise
        self._uri = uri
        super().__init__(ours)

    def drop(self) -> None:
        """What ssh still has is dropped, too."""
        super().drop()
        self._process.kill()

    def close(self) -> None:
        super().close()
        os.close(self._words)
        threading.Thread(target=self._process.wait, name="fmrd ssh", daemon=True).start()

    def explain(self, error: Exception) -> None:
        """It ended before it said anything; raise what is known of that: FmrdError, but for the lock."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        status = self._process.poll()
        said = printable(os.pread(self._words, WORDS_BYTES, 0).rstrip(b"\0").decode("utf-8", "replace").strip())
        there, words = self._uri.server, f" ({said})" if said else ""
        if status == LOCKED:
            return
        if status == NO_FILE:
            raise Failed(
                "plex_missing", f"there is no {self._uri.path} on {there}{words}", "truncate -s SIZE makes one"
            )
        if status == NO_PROGRAM:
            raise Failed("plex_missing", f"{there} lacks nbdkit or flock{words}", "apt-get install nbdkit util-linux")
        how = "ssh failed" if status == SSH_FAILED else f"the command there ended with {status}"
        raise Failed(
            "plex_missing", f"{there}: {how}{words}", "try it by hand, as the user that fmrd runs as"
        ) from error


def command(uri: NbdUri, patience_seconds: float) -> list[str]:
    """Return what is run here, and there by a plain shell whatever the user's own is."""
    file = shlex.quote(uri.path)
    there = (
        f"PATH=$PATH:/usr/sbin:/sbin; [ -e {file} ] || exit {NO_FILE}; "
        f"command -v nbdkit >/dev/null || exit {NO_PROGRAM}; exec flock -n -E {LOCKED} {file} nbdkit -s file {file}"
    )
    alive = max(1, int(patience_seconds / 6))
    options = ["BatchMode=yes", f"ServerAliveInterval={alive}", "ServerAliveCountMax=2", "ConnectTimeout=10",
               "ControlPath=none", "ClearAllForwardings=yes"]  # fmt: skip
    words = ["ssh", "-T", *(f"-o{option}" for option in options)]
    words += ["-p", str(uri.port)] if uri.port else []
    words += ["-l", uri.user] if uri.user else []
    return [*words, "--", uri.host, f"exec sh -c {shlex.quote(there)}"]


def _short_memory() -> int:
    """What ssh and nbdkit say first is kept there, and no more than that however long they run."""
    descriptor = os.memfd_create("fmrd-ssh", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, WORDS_BYTES)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return descriptor
