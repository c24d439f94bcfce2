"""Figures of a real volume: what fmrctl stat shows, and what a scraper is given."""

import json
import re
import socket
import urllib.request
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.e2e.harness import MIB, Daemon, needs_fuse, read_at, until, write_at

pytestmark = needs_fuse
REQUESTS = 300


def url_of(daemon: Daemon) -> str:
    found = re.search(r"metrics on (http://\S+)", daemon.log())
    assert found, daemon.log()
    return found[1]


def scraped(url: str) -> dict[tuple[str, str, str], float]:
    """(name, plex, operation or state) -> value, of what is not in buckets; the plex '' is the volume itself."""
    request = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read().decode()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples if "le" not in s.labels]
    return {
        (s.name, s.labels.get("plex", ""), s.labels.get("operation", s.labels.get("state", ""))): float(s.value)
        for s in samples
    }


def test_what_is_written_and_read_is_seen_by_stat_and_by_a_scraper(stopped_daemon: Daemon, tmp_path: Path) -> None:
    daemon = stopped_daemon
    daemon.start("--metrics", "127.0.0.1:0", "--metrics-file", str(tmp_path / "fmrd.prom"))
    daemon.make("data", "16M", tmp_path / "a", tmp_path / "b")
    for n in range(REQUESTS):
        write_at(daemon.path("data"), n * 4096, b"x" * 4096, sync=n == 0)
    assert read_at(daemon.path("data"), 0, 4096) == b"x" * 4096
    volume, first, second = daemon.json("stat", "data")["figures"]
    assert (volume["plex"], first["plex"], second["plex"]) == (None, "data-01", "data-02")
    for figure in (volume, first, second):
        assert figure["write_bytes"] == REQUESTS * 4096 and figure["writes"] == REQUESTS
        assert 0 < figure["write_seconds"] < 10 and figure["flushes"] >= 1
    assert volume["reads"] >= 1 and volume["read_bytes"] >= 4096
    lines = daemon.fmrctl("stat", "data", "0.3", "2", "--json").stdout.splitlines()
    first_of, then = (json.loads(line)["figures"][0] for line in lines)
    assert (first_of["writes"], then["writes"]) == (REQUESTS, 0) and 0.3 <= then["seconds"] < 30
    found = scraped(url_of(daemon))
    assert found["fmrd_volume_requests_total", "", "write"] == REQUESTS
    assert found["fmrd_plex_operation_bytes_total", "data-02", "write"] == REQUESTS * 4096
    assert 0 < found["fmrd_plex_operation_seconds_sum", "data-01", "write"] < 10
    until(lambda: "fmrd_volume_started" in (tmp_path / "fmrd.prom").read_text(), "the file is there")
    assert daemon.stop() == 0
    assert not (tmp_path / "fmrd.prom").exists()


def test_a_detach_and_what_is_missed_are_seen(stopped_daemon: Daemon, tmp_path: Path) -> None:
    daemon = stopped_daemon
    daemon.start("--metrics", f"unix:{tmp_path / 'metrics.sock'}")
    daemon.make("data", "16M", tmp_path / "a", tmp_path / "b")
    daemon.json("plex", "det", "data", "data-02")
    write_at(daemon.path("data"), MIB, b"x")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "metrics.sock"))
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        with client.makefile("rb") as answer:
            text = answer.read().decode()
    assert 'fmrd_plex_missing_bytes{plex="data-02",volume="data"} 65536.0' in text
    assert 'fmrd_plex_state{plex="data-02",state="STALE",volume="data"} 1.0' in text


def test_a_place_that_is_taken_keeps_no_volume_down(stopped_daemon: Daemon, tmp_path: Path) -> None:
    """It is told, and asked for again: who has it may be an fmrd that was left behind."""
    daemon = stopped_daemon
    daemon.may_log_errors = True
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        daemon.start("--metrics", f"127.0.0.1:{port}")
        assert f"metrics_failed: 127.0.0.1:{port}: Address already in use" in daemon.log()
        daemon.make("data", "16M", tmp_path / "a")
    until(lambda: "metrics on " in daemon.log(), "the place is free")
    assert scraped(url_of(daemon))["fmrd_volume_plexes", "", ""] == 1


def test_a_map_is_drawn_and_written(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("data", "16M", tmp_path / "a", tmp_path / "b")
    daemon.json("plex", "det", "data", "data-02")
    write_at(daemon.path("data"), 8 * MIB, b"x" * MIB)
    done = daemon.fmrctl("map", "data", "data-02")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["data  16M", "plex data-02 STALE: 1M (6.2 %) missing"]
    assert {line[8:][:1] for line in lines if line.startswith("      0 ")} <= {"·", ".", "█", "#"}
    svg = tmp_path / "data.svg"
    assert daemon.fmrctl("map", "data", "--svg", svg).stdout == f"the picture is in {svg}\n"
    assert "plex data-02 misses 1M" in svg.read_text()
    refused = daemon.fmrctl("map", "data", "--svg", tmp_path)
    assert (refused.returncode, refused.stderr.startswith("fmrctl: io_error: ")) == (1, True), refused.stderr
