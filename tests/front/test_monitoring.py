"""What is shipped for Prometheus and Grafana asks for metrics that there are, with labels that they have."""

import json
import re
from pathlib import Path

from fmrd.front.metrics.families import families
from fmrd.front.metrics.gathering import Gathered
from fmrd.front.metrics.server import DEFAULT_PORT

SHIPPED = Path(__file__).parents[2] / "monitoring"
README = (SHIPPED.parent / "README.md").read_text()
DASHBOARD = json.loads((SHIPPED / "grafana.json").read_text())
ALERTS = (SHIPPED / "alerts.yml").read_text()
NAME = re.compile(r"\bfmrd_[a-z_]+\b")
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",), "gauge": ("",)}


def names() -> set[str]:
    """Of all samples that there may be."""
    return {family.name + suffix for family in families(Gathered()) for suffix in SUFFIXES[family.type]}


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    asked = {name for query in queries() for name in NAME.findall(query)}
    assert len(asked) > 15 and asked <= names()
    chosen = [query for query in queries()[6:] if "fmrd_events" not in query and "fmrd_hook" not in query]
    assert all("$volume" in query for query in chosen), "each but the sums, and what is told, follows the choice"


def test_its_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_the_alerts_ask_for_metrics_that_there_are() -> None:
    asked = set(NAME.findall(ALERTS))
    assert len(asked) > 8 and asked <= names()


def test_every_metric_is_told_in_the_readme() -> None:
    section = README.split("## Measured\n")[1].split("\n## ")[0]
    told = {name.removesuffix("_total") for name in NAME.findall(section)}
    there = {family.name for family in families(Gathered())} - {"fmrd_build"}
    assert told == there


def test_the_example_scrapes_where_fmrd_listens() -> None:
    for name in ("prometheus.yml", "fmrd-metrics.conf"):
        assert f"127.0.0.1:{DEFAULT_PORT}" in (SHIPPED / name).read_text()


def test_systemd_lets_fmrd_listen_where_that_is_asked_for() -> None:
    """The unit allows no network; what is added to it does, of this machine alone."""
    unit = (SHIPPED.parent / "systemd" / "fmrd.service").read_text().splitlines()
    assert {"RestrictAddressFamilies=AF_UNIX", "IPAddressDeny=any"} <= set(unit)
    added = (SHIPPED / "fmrd-metrics.conf").read_text().splitlines()
    assert {"RestrictAddressFamilies=AF_INET", "IPAddressAllow=localhost"} <= set(added)
