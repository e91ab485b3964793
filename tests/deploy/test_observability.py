"""Rules, alerts, runbooks and dashboards fit together, and ask for metrics that exist."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway.metrics import Metrics
from tests.debian import program
from tests.processes import ROOT

OBSERVABILITY = ROOT / "deploy/observability"
RULES = sorted((OBSERVABILITY / "rules").glob("*.yml"))
DASHBOARDS = sorted((OBSERVABILITY / "grafana/dashboards").glob("*.json"))
RUNBOOKS = ROOT / "docs/runbooks"
OUR_METRIC = re.compile(r"\bflywheel_\w+")
RECORDED = re.compile(r"\bflywheel:\w+:\w+")


def rules() -> list[dict]:
    return [rule for file in RULES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def queries(dashboard: Path) -> list[str]:
    panels = json.loads(dashboard.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def our_metrics() -> set[str]:
    """Every series that a gateway can have."""
    names = set()
    for metric in Metrics().registry.collect():
        kinds = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(metric.type, ("",))
        names |= {metric.name + suffix for suffix in kinds}
    return names


def promtool(*arguments: object, folder: Path = OBSERVABILITY) -> None:
    run = subprocess.run(
        [*program("promtool"), *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_configuration_and_rules_are_valid() -> None:
    promtool("check", "config", "prometheus.yml")


def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    text = (ROOT / "tests/deploy/alerts.yml").read_text().replace("rules/", f"{OBSERVABILITY}/rules/")
    (tmp_path / "alerts.yml").write_text(text)
    promtool("test", "rules", tmp_path / "alerts.yml")


def test_every_alert_is_tested() -> None:
    tested = (ROOT / "tests/deploy/alerts.yml").read_text()
    assert [rule["alert"] for rule in rules() if "alert" in rule and rule["alert"] not in tested] == []


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    assert set(alerts) == {page.stem for page in RUNBOOKS.glob("*.md")}
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
        assert (RUNBOOKS / f"{name}.md").read_text().startswith(f"# {name}\n")
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_runbooks_lead_nowhere_that_is_not_there() -> None:
    links = {link for page in RUNBOOKS.glob("*.md") for link in re.findall(r"\]\(([^)]+)\)", page.read_text())}
    assert links
    assert all((RUNBOOKS / link).exists() for link in links)


@pytest.mark.parametrize("source", [*RULES, *DASHBOARDS, *sorted(RUNBOOKS.glob("*.md"))], ids=lambda path: path.stem)
def test_our_metrics_that_are_asked_for_exist(source: Path) -> None:
    text = source.read_text()
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert set(OUR_METRIC.findall(text)) <= our_metrics()
    assert set(RECORDED.findall(text)) <= recorded


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_queries_of_a_dashboard_are_valid(dashboard: Path, tmp_path: Path) -> None:
    expressions = [query.replace("$__rate_interval", "1m") for query in queries(dashboard)]
    assert expressions
    as_rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(expressions)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": as_rules}]}))
    promtool("check", "rules", file)
