"""A real Prometheus scrapes a volume through a detach, a copy and a failure, and its alerts go off."""

import contextlib
import json
import signal
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.harness import MIB, Daemon, needs_fuse, needs_program, until, write_at
from tests.e2e.nbd import failing, nbd_disk

pytestmark = [needs_fuse, needs_program("prometheus", "nbdkit", "nbdfuse", "fusermount3")]
ALERTS = Path(__file__).parents[2] / "monitoring" / "alerts.yml"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Prometheus:
    """One that scrapes five times a second."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/query"

    def asked(self, query: str) -> list[float]:
        """The values of what is found just now."""
        with contextlib.suppress(OSError):  # it is still coming up
            words = urllib.parse.urlencode({"query": query})
            with urllib.request.urlopen(f"{self._url}?{words}", timeout=30) as answer:
                return [float(each["value"][1]) for each in json.load(answer)["data"]["result"]]
        return []

    def sees(self, query: str) -> None:
        until(lambda: self.asked(query), query, 60)


@contextlib.contextmanager
def prometheus(where: Path, target: str) -> Iterator[Prometheus]:
    where.mkdir()
    config = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [{"job_name": "fmrd", "static_configs": [{"targets": [target]}]}],
    }
    (where / "prometheus.yml").write_text(json.dumps(config))
    port = free_port()
    command = [
        "prometheus", f"--config.file={where / 'prometheus.yml'}", f"--storage.tsdb.path={where / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (where / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=where) as process:
        try:
            yield Prometheus(port)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def test_a_volume_through_a_detach_a_copy_and_a_failure(stopped_daemon: Daemon, tmp_path: Path) -> None:
    daemon, port, where = stopped_daemon, free_port(), tmp_path / "nbd"
    daemon.start("--metrics", f"127.0.0.1:{port}")
    with nbd_disk(where, *failing(where, "pwrite")) as disk, prometheus(tmp_path / "p", f"127.0.0.1:{port}") as seen:
        sick = f"{disk.path},dco={tmp_path / 'dco'}"
        daemon.make("data", "16M", tmp_path / "a", sick, options=("--force", "--wait"))
        seen.sees('fmrd_volume_plexes_in_sync{volume="data"} == 2')
        daemon.json("plex", "det", "data", "data-02")
        for n in range(8):
            write_at(daemon.path("data"), n * MIB, b"x" * 4096)
        seen.sees('fmrd_plex_state{plex="data-02",state="STALE"} == 1')
        seen.sees(f'fmrd_plex_missing_bytes{{plex="data-02"}} == {8 * 65536}')
        seen.sees('ALERTS{alertname="FmrdVolumeDegraded",alertstate="pending"}')
        seen.sees('fmrd_volume_requests_total{operation="write"} == 8')
        seen.sees('fmrd_events_total{kind="plex_detached"} == 1')
        task = daemon.json("plex", "att", "data", "data-02", "--rate", "1")["task"]
        seen.sees('fmrd_task_total_bytes{type="PLXATT"} > 0')
        daemon.json("task", "set", task["id"], "rate=0")
        daemon.in_sync("data")
        seen.sees('fmrd_volume_plexes_in_sync{volume="data"} == 2')
        seen.sees('absent(ALERTS{alertname="FmrdVolumeDegraded"})')
        disk.fail("pwrite")
        write_at(daemon.path("data"), 0, b"y")
        seen.sees('fmrd_plex_state{plex="data-02",state="IOFAIL"} == 1')
        seen.sees('fmrd_plex_errors_total{plex="data-02"} >= 1')
        seen.sees('fmrd_events_total{kind="plex_failed"} == 1')
        seen.sees('ALERTS{alertname="FmrdPlexFailed",alertstate="pending",plex="data-02"}')
        assert seen.asked('fmrd_volume_request_errors_total{volume="data"}') == [0], "nobody who uses it noticed"
        assert seen.asked("up") == [1]
        disk.heal("pwrite")
        daemon.stop()
