"""Alerts and dashboard are valid for Prometheus and use only existing metrics."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.servers import PROJECT

PROMETHEUS = PROJECT / "ops" / "prometheus"
DASHBOARD = json.loads((PROJECT / "ops" / "grafana" / "dashboard.json").read_text())
RULES = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
CASES = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
SOURCES = (PROJECT / "core/metrics.py").read_text() + (PROJECT / "sweep/stats.py").read_text()


def promtool(*arguments: str, folder: Path = PROMETHEUS) -> tuple[int, str]:
    tool = shutil.which("promtool")
    assert tool, "python3 scripts/system_packages.py installs it"
    command = [tool, *arguments]
    completed = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    return completed.returncode, completed.stdout + completed.stderr


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def metrics_in(query: str) -> set[str]:
    named = re.sub(r"(?s)\{[^{}]*\}|\[[^\]]*\]|\"[^\"]*\"", "", query)
    return {word for word in re.findall(r"[a-z]+_[a-z_]+", named) if "quantile" not in word}


def base(metric: str) -> str:
    return re.sub(r"_(bucket|sum|count|total)$", "", metric)


def test_every_alert_fires_and_clears() -> None:
    status, output = promtool("test", "rules", "alerts_test.yml")

    assert status == 0, output


@pytest.mark.parametrize("alert", [rule["alert"] for rule in RULES])
def test_alert_has_a_test_that_fires_and_one_that_clears(alert: str) -> None:
    checks = [c for case in CASES for c in case["alert_rule_test"] if c["alertname"] == alert]

    assert {bool(check.get("exp_alerts")) for check in checks} == {True, False}


def test_configuration_is_valid() -> None:
    status, output = promtool("check", "config", "--syntax-only", "prometheus.yml")

    assert status == 0, output


def test_queries_of_the_dashboard_are_valid(tmp_path: Path) -> None:
    expressions = [query.replace("$__rate_interval", "5m") for query in queries()]
    rules = [{"record": f"q:{i}", "expr": expr} for i, expr in enumerate(expressions)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "q", "rules": rules}]}))

    status, output = promtool("check", "rules", "rules.yml", folder=tmp_path)

    assert status == 0, output


@pytest.mark.parametrize("query", [*queries(), *(rule["expr"] for rule in RULES)])
def test_query_uses_existing_metrics(query: str) -> None:
    unknown = {name for name in metrics_in(query) if base(name) not in SOURCES}

    assert metrics_in(query) != set() or query.startswith("up{")
    assert unknown == set()


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_panels_use_the_selected_data_source() -> None:
    sources = [target["datasource"]["uid"] for panel in panels() for target in panel["targets"]]

    assert set(sources) == {"${datasource}"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
