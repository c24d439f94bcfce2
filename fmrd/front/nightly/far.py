"""The far side of a night: what it holds, and the stream that makes it what the new snapshot is."""

import os
import subprocess
import tempfile
from contextlib import suppress

from fmrd.core.names import is_name
from fmrd.errors import Failed, FmrdError
from fmrd.front.ctl.app import App
from fmrd.front.maps.sending import Sending, Wish, decode_token
from fmrd.front.nightly.plan import Send
from fmrd.front.nightly.programs import TAIL_BYTES, run, tail_of
from fmrd.front.streams.files import widen

ANSWER_SECONDS = 120.0
"""For a question to the far side; a stream may take as long as it takes."""
RECEIVE = ("fmrctl", "receive")


class Far:
    """The volume on the other side of ``send.through``."""

    def __init__(self, app: App, send: Send) -> None:
        self._app = app
        self._send = send
        self.holds = ""
        """The snapshot that it holds, by name; empty where that is not known."""

    def follow(self, volume: str, snapshot: str, *, dry_run: bool) -> str:
        """Make it what the snapshot is, by what changed since what it holds, where that is there still: else by all of
        it. First a stream goes on that was cut. Return a sentence. Failed('stream_cut') and what send says.
        """
        self.holds = self._asked("--holds")
        if dry_run:
            of = f"what changed since {self.holds}" if self._is_ours(volume, self.holds) else "all of it"
            return f"would send {of} by {' '.join(self._send.through)} to volume {self._send.volume}"
        went_on = self._go_on(volume)
        if self.holds == snapshot:
            return f"{snapshot} is there"
        since = self.holds if self._is_ours(volume, self.holds) else None
        sending = Sending(self._app, Wish(snapshot, since), None)
        written = self._stream(sending)
        self.holds = snapshot
        of = f"what changed since {since}" if since else "all of it"
        return f"{went_on}{of}, {written} bytes, by {' '.join(self._send.through)} to volume {self._send.volume}"

    def _go_on(self, volume: str) -> str:
        """Where a stream of one of our snapshots was cut, send its rest; what cannot go on begins anew."""
        try:
            token = decode_token(self._asked("--token"))
            if not self._is_ours(volume, token.wish.snapshot):
                return ""
            sending = Sending(self._app, token.wish, token)
        except FmrdError:
            return ""
        self._stream(sending)  # cut again, it goes on here the next time
        self.holds = token.wish.snapshot
        return f"the rest of {token.wish.snapshot}; "

    def _is_ours(self, volume: str, name: str) -> bool:
        if not is_name(name):
            return False
        return any(each["name"] == name and each["snapshot_of"] == volume for each in self._app.ask("print")["volumes"])

    def _asked(self, option: str) -> str:
        """Return the first word of what it answers; empty where it says no. Failed('failed') where it cannot be
        reached.
        """
        command = [*self._send.through, *RECEIVE, self._send.volume, option]
        try:
            ran = run(command, ANSWER_SECONDS)
        except TimeoutError:
            raise Failed("failed", f"{command[0]} did not answer within {ANSWER_SECONDS:.0f} s") from None
        if ran.status and option == "--holds":
            raise Failed("failed", f"{' '.join(command)} failed ({ran.last})")
        found = ran.said.decode(errors="replace").split() if not ran.status else []
        return found[0] if found else ""

    def _stream(self, sending: Sending) -> int:
        """Send one stream to its end, and return how many bytes it had when the far side has taken it over."""
        command = [*self._send.through, *RECEIVE, self._send.volume, "--wait"]
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said)
            assert process.stdin is not None
            widen(process.stdin)
            written, problem = 0, None
            try:
                written = sending.run(process.stdin, rate=self._send.rate, packed=self._send.compress).written
            except BrokenPipeError:
                pass  # what it says tells more
            except FmrdError as error:
                problem = error
            finally:
                with suppress(OSError):
                    process.stdin.close()
                status = process.wait()
            if problem is not None:
                raise problem
            if status or not written:
                said.seek(max(0, os.fstat(said.fileno()).st_size - TAIL_BYTES))
                raise Failed("stream_cut", f"{' '.join(command)} ended with status {status} ({tail_of(said.read())})")
        return written
