"""Prometheus and Grafana: promtool accepts the files, the alerts fire when they should, and every metric is one of ours."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from aggregator.console.metrics import exposition
from aggregator.store.rows import RoundRow

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian's prometheus) is not installed")

# DESIGN: the names that fedge's parts give.
METRICS = {
    "fedge_queries_total": {"answered_by"},
    "fedge_query_duration_seconds": {"answered_by", "le"},
    "fedge_energy_joules_total": {"source"},
    "fedge_cost_usd_total": {"payer", "kind"},
    "fedge_rounds_total": {"outcome"},
    "fedge_round_duration_seconds": {"phase"},
    "fedge_round_participants": {"state"},
    "fedge_update_bytes_total": {"direction"},
    "fedge_release_info": {"version"},
    "fedge_degraded_total": {"reason"},
    "fedge_budget_left_usd": set(),
}
ROUNDS = [
    RoundRow(round=1, state="finished", cohort=8, survivors=7, started=0.0, seconds={"check_in": 1.5, "unmask": 0.5}),
    RoundRow(round=2, state="failed", cohort=6, survivors=0, started=9.0, seconds={"check_in": 2.5}),
]


def run(*command: object, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, input=text, timeout=60
    )


def rules(root: Path) -> list[dict]:
    return [
        rule
        for group in yaml.safe_load((root / "deploy/prometheus/rules.yml").read_text())["groups"]
        for rule in group["rules"]
    ]


def dashboard(root: Path) -> dict:
    return json.loads((root / "deploy/grafana/dashboards/fedge.json").read_text())


def used_metrics(expression: str) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bfedge_[a-z_]+", expression)}


@promtool
def test_promtool_accepts_the_configuration_and_the_rules(root):
    done = run("promtool", "check", "config", root / "deploy/prometheus/prometheus.yml")
    assert done.returncode == 0, done.stderr
    assert f"{len(rules(root))} rules found" in done.stdout


@promtool
@pytest.mark.parametrize("rows", [[], ROUNDS])
def test_promtool_accepts_the_servers_figures(rows):
    done = run("promtool", "check", "metrics", text=exposition(rows).decode())
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_servers_figures_are_those_of_the_recorded_rounds():
    text = exposition(ROUNDS).decode()
    for line in (
        'fedge_rounds_total{outcome="failed"} 1.0',
        'fedge_rounds_total{outcome="finished"} 1.0',
        'fedge_round_duration_seconds_sum{phase="check_in"} 4.0',
        'fedge_round_duration_seconds_count{phase="check_in"} 2.0',
        'fedge_round_participants{state="cohort"} 6.0',
        'fedge_round_participants{state="survivors"} 0.0',
    ):
        assert line in text.splitlines()


@promtool
def test_alerts_fire_when_they_should_and_not_before(root, tmp_path):
    """promtool's own unit tests of rules, over made series."""
    summaries = {rule["alert"]: rule["annotations"]["summary"] for rule in rules(root) if "alert" in rule}

    def expects(alert: str, at: str, *, fires: bool, severity: str = "ticket", **more: str) -> dict:
        alerts = [{"exp_labels": {"severity": severity, **more}, "exp_annotations": {"summary": summaries[alert]}}]
        return {"alertname": alert, "eval_time": at, "exp_alerts": alerts if fires else []}

    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": 'fedge_rounds_total{outcome="failed"}', "values": "0x30 1x30 2x30 3x300"}],
            "alert_rule_test": [
                expects("FedgeRoundsFail", "80m", fires=False),
                expects("FedgeRoundsFail", "120m", fires=True),
            ],
        },
        {
            "interval": "1m",
            "input_series": [{"series": 'fedge_rounds_total{outcome="uncertified"}', "values": "0+1x300"}],
            "alert_rule_test": [expects("FedgeRoundsFail", "200m", fires=False)],
        },
        {
            "interval": "1m",
            "input_series": [
                {"series": 'up{job="fedge-devices", instance="a"}', "values": "1x30 0x60"},
                {"series": 'up{job="fedge-devices", instance="b"}', "values": "0x90"},
            ],
            "alert_rule_test": [
                expects("FedgeNoDevices", "29m", fires=False),
                expects("FedgeNoDevices", "50m", fires=True, severity="page"),
            ],
        },
        {
            "interval": "1m",
            "input_series": [
                {"series": 'fedge_queries_total{answered_by="device"}', "values": "0+60x600"},
                {"series": 'fedge_queries_total{answered_by="central"}', "values": "0+180x600"},
            ],
            "promql_expr_test": [
                {
                    "expr": "fedge:fallback_rate:1h",
                    "eval_time": "120m",
                    "exp_samples": [{"labels": "fedge:fallback_rate:1h", "value": 0.75}],
                }
            ],
            "alert_rule_test": [
                expects("FedgeFallbackHigh", "120m", fires=False),
                expects("FedgeFallbackHigh", "500m", fires=True),
            ],
        },
        {
            "interval": "1m",
            "input_series": [{"series": 'fedge_energy_joules_total{source="ina219"}', "values": "0+120x60"}],
            "promql_expr_test": [
                {
                    "expr": "fedge:power_watts:5m",
                    "eval_time": "30m",
                    "exp_samples": [{"labels": 'fedge:power_watts:5m{source="ina219"}', "value": 2.0}],
                }
            ],
        },
    ]
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(root / "deploy/prometheus/rules.yml")], "tests": tests}))
    done = run("promtool", "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_and_dashboard_ask_for_metrics_and_labels_that_exist(root):
    expressions = [rule["expr"] for rule in rules(root)]
    expressions += [target["expr"] for panel in dashboard(root)["panels"] for target in panel["targets"]]
    recorded = {rule["record"] for rule in rules(root) if "record" in rule}
    used: set[str] = set()
    for expression in expressions:
        used |= used_metrics(expression)
        assert set(re.findall(r"\bfedge:[a-z0-9_:]+", expression)) <= recorded
        for labels in re.findall(r"\bby \(([^)]*)\)", expression):
            known = set().union(*(METRICS.get(name, set()) for name in used_metrics(expression)))
            assert {label.strip() for label in labels.split(",")} <= known, expression
    assert used <= set(METRICS)
    assert len(used) >= 8


def test_every_metric_of_the_agent_and_the_server_is_a_name_of_the_design(root):
    sources = (root / "edge_client/service/figures.py").read_text() + (root / "aggregator/console/metrics.py").read_text()
    given = set(re.findall(r'"(fedge_[a-z_]+)"', sources))
    assert len(given) >= 8
    assert {name for name in given if name not in METRICS and f"{name}_total" not in METRICS} == set()


def test_the_dashboard_draws_from_the_provisioned_source(root):
    provisioned = yaml.safe_load((root / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())
    (source,) = provisioned["datasources"]
    assert source["url"] == "http://127.0.0.1:9090"
    panels = dashboard(root)["panels"]
    assert {target["datasource"]["uid"] for panel in panels for target in panel["targets"]} == {source["uid"]}
    assert len({panel["id"] for panel in panels}) == len(panels)
    (folder,) = yaml.safe_load((root / "deploy/grafana/provisioning/dashboards/fedge.yml").read_text())["providers"]
    compose = yaml.safe_load((root / "docker-compose.yml").read_text())
    assert f"./deploy/grafana/dashboards:{folder['options']['path']}:ro" in compose["services"]["grafana"]["volumes"]


def test_panels_do_not_lie_on_each_other(root):
    taken: set[tuple[int, int]] = set()
    for panel in dashboard(root)["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
