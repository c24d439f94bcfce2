"""promtool checks what is shipped for Prometheus, the metrics themselves, and the queries of the dashboard."""

import json
import subprocess
from pathlib import Path

import pytest
import trio

from fmrd.front.metrics.text import written
from tests.e2e.harness import needs_program
from tests.engine.rig import daemon
from tests.front.test_monitoring import SHIPPED, queries

pytestmark = needs_program("promtool")


@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
        ("check", "config", "prometheus.yml"),
    ],
    ids=lambda words: " ".join(words),
)
def test_promtool_is_content(words: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *words], cwd=SHIPPED, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_can_read_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    """As rules: with the variables of Grafana replaced."""
    plain = [query.replace("$__rate_interval", "5m").replace("$volume", ".*") for query in queries()]
    rules = [{"record": f"fmrd:query{n}", "expr": query} for n, query in enumerate(plain)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_promtool_finds_nothing_wrong_with_the_metrics(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make()
        await rig.det("b")
        await rig.write_regions(1, 2)
        text, _ = await written(rig.registry, "")
    with trio.fail_after(120):
        done = await trio.run_process(
            ["promtool", "check", "metrics"], stdin=text, capture_stdout=True, capture_stderr=True, check=False
        )
    assert (done.returncode, done.stderr.decode()) == (0, "")
