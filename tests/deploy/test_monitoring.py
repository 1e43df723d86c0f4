"""Prometheus and Grafana: promtool accepts the files, the alerts fire when they should, and every metric is one of ours."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from aggregator.console import create_app
from aggregator.console.devices import Fleet
from aggregator.console.metrics import Recorded, expiries, exposition
from aggregator.settings import ServerHome
from aggregator.store import AttemptRow, Database, DropoutRow, ReleaseRow, RoundRow
from fedge.identity.tls import new_tls_authority

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
    "fedge_privacy_epsilon": set(),
    "fedge_release_info": {"version"},
    "fedge_degraded_total": {"reason"},
    "fedge_budget_left_usd": set(),
    # Beside them, what the alerts need.
    "fedge_round_last_finished_timestamp_seconds": set(),
    "fedge_round_period_seconds": set(),
    "fedge_rounds_paused": set(),
    "fedge_canary_decisions_total": {"decision"},
    "fedge_canary_devices": {"state"},
    "fedge_certificate_expiry_timestamp_seconds": {"certificate"},
    "fedge_queue_questions": set(),
    # Where central asks a language model.
    "fedge_upstream_requests_total": {"outcome"},
    "fedge_upstream_tokens_total": {"direction", "basis"},
    # What devices say of themselves, added up by the server.
    "fedge_fleet_devices": {"energy_source"},
    "fedge_fleet_devices_on_release": {"version"},
    "fedge_fleet_queue_questions": set(),
    "fedge_fleet_silent_devices": set(),
}
FLEET: Fleet = {
    "members": 5,
    "reporting": 4,
    "silent": 1,
    "on_active_release": 3,
    "share_on_active_release": 0.75,
    "devices_on_version": {"7": 3, "unknown": 1},
    "energy_sources": {"unknown": 2, "mains": 1, "battery": 1},
    "energy_measured": 1,
    "queue": 12,
    "waiting": 2,
}
ROUNDS = [
    RoundRow(
        round=1,
        state="finished",
        cohort=8,
        survivors=7,
        started=0.0,
        finished=4.0,
        seconds={"check_in": 1.5, "unmask": 0.5},
        metrics={"canary": {"decision": "reject", "taken": 3, "rolled_back": 1, "answered": 9, "errors": 0}},
    ),
    RoundRow(
        round=2,
        state="failed",
        cohort=6,
        survivors=0,
        started=9.0,
        finished=12.5,
        seconds={"check_in": 2.5},
        release="ab" * 32,
        metrics={"epsilon": 2.25, "canary": None},
    ),
]
RELEASE = ReleaseRow(release_id="ab" * 32, version=7, round=2, parent=None, published=1.0, manifest=b"{}")


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
    recorded = Recorded(
        rounds=rows, version=RELEASE.version, expiries={"server": 5.0}, period_s=60.0, paused=True, fleet=FLEET
    )
    done = run("promtool", "check", "metrics", text=exposition(recorded).decode())
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_servers_figures_are_those_of_the_recorded_rounds():
    text = exposition(Recorded(rounds=ROUNDS, version=RELEASE.version, period_s=60.0, paused=True, fleet=FLEET)).decode()
    for line in (
        'fedge_rounds_total{outcome="failed"} 1.0',
        'fedge_rounds_total{outcome="finished"} 1.0',
        'fedge_round_duration_seconds_sum{phase="check_in"} 4.0',
        'fedge_round_duration_seconds_count{phase="check_in"} 2.0',
        'fedge_round_participants{state="cohort"} 6.0',
        'fedge_round_participants{state="survivors"} 0.0',
        "fedge_privacy_epsilon 2.25",
        'fedge_release_info{version="7"} 1.0',
        "fedge_round_last_finished_timestamp_seconds 12.5",
        "fedge_round_period_seconds 60.0",
        "fedge_rounds_paused 1.0",
        'fedge_canary_decisions_total{decision="reject"} 1.0',
        'fedge_canary_decisions_total{decision="promote"} 0.0',
        'fedge_canary_devices{state="rolled_back"} 1.0',
        'fedge_fleet_devices{energy_source="battery"} 1.0',
        'fedge_fleet_devices_on_release{version="7"} 3.0',
        "fedge_fleet_queue_questions 12.0",
        "fedge_fleet_silent_devices 1.0",
    ):
        assert line in text.splitlines()


def test_without_noise_there_is_no_epsilon_that_could_pass_for_a_small_one():
    samples = [line for line in exposition(Recorded(rounds=ROUNDS[:1])).decode().splitlines() if not line.startswith("#")]
    assert not [line for line in samples if line.startswith("fedge_privacy_epsilon")]


def test_no_label_of_the_servers_figures_names_a_device(tmp_path):
    device = "kitchen-device-7"
    with Database.open(f"sqlite:///{tmp_path / 'aggregator.sqlite'}") as database:
        for row in ROUNDS:
            database.save_round(row)
        attempt = {"round": 2, "attempt": 1, "purpose": "update"}
        database.add_attempt(AttemptRow(**attempt, outcome="aborted", cohort=6, survivors=0, started=9.0, finished=9.5))
        database.add_dropouts([DropoutRow(**attempt, device_id=device, stage="check-in", reason=f"{device} is away")])
        database.add_release(RELEASE)
        client = TestClient(create_app(database), base_url="http://127.0.0.1:8350")
        text = client.get("/metrics").text
    families = list(text_string_to_metric_families(text))
    assert families and device not in text
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        for sample in family.samples:
            assert set(sample.labels) <= METRICS[name], sample


def test_what_runs_out_is_read_from_what_the_server_publishes(tmp_path):
    home = ServerHome(tmp_path)
    authority = new_tls_authority(not_before=0.0, not_after=9_000.0)
    (tmp_path / "tls").mkdir()
    (home.tls / "ca.crt").write_bytes(authority.certificate)
    metadata = home.tuf / "repository" / "metadata"
    metadata.mkdir(parents=True)
    (metadata / "timestamp.json").write_text('{"signed": {"expires": "1970-01-01T00:20:00Z"}}')
    with Database.open(home.database_url) as database:
        assert expiries(home, database) == {"authority": 9_000.0, "tuf_timestamp": 1_200.0}
        console = new_tls_authority(not_before=0.0, not_after=7_000.0)
        (tmp_path / "console.crt").write_bytes(console.certificate)
        home.settings_file.write_text(f'[console]\ntls_certificate = "{tmp_path / "console.crt"}"\n')
        assert expiries(home, database)["console"] == 7_000.0


def operators_alerts(expects) -> list[dict]:
    """Each alert of the operators once where it must fire and once where it must not."""

    def case(interval: str, series: dict[str, str], *expected: dict) -> dict:
        listed = [{"series": name, "values": values} for name, values in series.items()]
        return {"interval": interval, "input_series": listed, "alert_rule_test": list(expected)}

    period = {"fedge_round_period_seconds": "3600x400"}
    newest = "fedge_round_last_finished_timestamp_seconds"
    expiry = "fedge_certificate_expiry_timestamp_seconds"
    queue = [f'fedge_queue_questions{{instance="{name}"}}' for name in "ab"]
    central, device = (f'fedge_queries_total{{answered_by="{who}"}}' for who in ("central", "device"))
    return [
        case(  # the only round ended at 0: overdue after three hours and ten minutes, and five minutes more
            "1m",
            {**period, newest: "0x400", "fedge_rounds_paused": "0x400"},
            expects("FedgeRoundOverdue", "189m", fires=False),
            expects("FedgeRoundOverdue", "200m", fires=True, severity="page"),
        ),
        case(  # a round an hour
            "1m",
            {**period, newest: " ".join(f"{hour * 3600}x59" for hour in range(6)), "fedge_rounds_paused": "0x400"},
            expects("FedgeRoundOverdue", "300m", fires=False),
        ),
        case(
            "1m",
            {**period, newest: "0x400", "fedge_rounds_paused": "1x400"},
            expects("FedgeRoundOverdue", "300m", fires=False),
        ),
        case(  # 20 % of the queries for a day, then half of them
            "10m",
            {device: "0+80x150 12000+50x60", central: "0+20x150 3000+50x60"},
            expects("FedgeFallbackRising", "24h", fires=False),
            expects("FedgeFallbackRising", "30h", fires=True),
        ),
        case(  # ever as many
            "10m",
            {device: "0+50x210", central: "0+50x210"},
            expects("FedgeFallbackRising", "30h", fires=False),
        ),
        case(  # of eight hours; five are left at 3 h, three at 5 h
            "5m",
            {f'{expiry}{{certificate="device"}}': "28800x120"},
            expects("FedgeCertificateExpiring", "3h", fires=False),
            expects("FedgeCertificateExpiring", "5h", fires=True, severity="page", certificate="device"),
        ),
        case(
            "5m",
            {f'{expiry}{{certificate="server"}}': "604800x120", f'{expiry}{{certificate="tuf_timestamp"}}': "43200x120"},
            expects("FedgeCertificateExpiring", "5h", fires=False),
            expects("FedgeCertificateExpiring", "7h", fires=True, severity="page", certificate="tuf_timestamp"),
        ),
        case(
            "1m",
            {
                'fedge_canary_decisions_total{decision="reject"}': "0x60 1x600",
                'fedge_canary_devices{state="rolled_back"}': "0x660",
            },
            expects("FedgeCanaryFailing", "59m", fires=False),
            expects("FedgeCanaryFailing", "90m", fires=True),
            expects("FedgeCanaryFailing", "10h", fires=False),
        ),
        case(
            "1m",
            {
                'fedge_canary_decisions_total{decision="promote"}': "0x60 1x60",
                'fedge_canary_devices{state="taken"}': "5x120",
                'fedge_canary_devices{state="rolled_back"}': "0x120",
            },
            expects("FedgeCanaryFailing", "90m", fires=False),
        ),
        case(
            "1m",
            {'fedge_canary_devices{state="rolled_back"}': "0x60 2x60"},
            expects("FedgeCanaryFailing", "90m", fires=True),
        ),
        case(  # two devices, each a question a minute more
            "1m",
            {queue[0]: "0+1x300", queue[1]: "0+1x300"},
            expects("FedgeQueueGrowing", "60m", fires=False),
            expects("FedgeQueueGrowing", "110m", fires=True),
        ),
        case(  # full, but not growing
            "1m",
            {queue[0]: "400x300", queue[1]: "400x300"},
            expects("FedgeQueueGrowing", "200m", fires=False),
        ),
        case(  # the same where no agent is scraped, by what devices tell the server
            "1m",
            {"fedge_fleet_queue_questions": "0+2x300"},
            expects("FedgeQueueGrowing", "60m", fires=False),
            expects("FedgeQueueGrowing", "110m", fires=True),
        ),
        case(
            "1m",
            {"fedge_fleet_queue_questions": "800x300"},
            expects("FedgeQueueGrowing", "200m", fires=False),
        ),
        case(  # by both: one alert, not two
            "1m",
            {queue[0]: "0+2x300", "fedge_fleet_queue_questions": "0+2x300"},
            expects("FedgeQueueGrowing", "110m", fires=True),
        ),
        case(  # few agents are scraped and all is well there, not so with the others
            "1m",
            {queue[0]: "0x300", "fedge_fleet_queue_questions": "0+2x300"},
            expects("FedgeQueueGrowing", "110m", fires=True),
        ),
    ]


@promtool
def test_alerts_fire_when_they_should_and_not_before(root, tmp_path):
    """promtool's own unit tests of rules, over made series."""
    summaries = {rule["alert"]: rule["annotations"]["summary"] for rule in rules(root) if "alert" in rule}

    def expects(alert: str, at: str, *, fires: bool, severity: str = "ticket", **more: str) -> dict:
        summary = summaries[alert].replace("{{ $labels.certificate }}", more.get("certificate", ""))
        alerts = [{"exp_labels": {"severity": severity, **more}, "exp_annotations": {"summary": summary}}]
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
    tests += operators_alerts(expects)
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(root / "deploy/prometheus/rules.yml")], "tests": tests}))
    done = run("promtool", "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_and_not_to_fire(root):
    made: dict[str, set[bool]] = {rule["alert"]: set() for rule in rules(root) if "alert" in rule}
    operators_alerts(lambda alert, at, *, fires, **_: made[alert].add(fires) or {})
    operators = {alert for alert, seen in made.items() if seen}
    assert operators == {
        "FedgeRoundOverdue", "FedgeFallbackRising", "FedgeCertificateExpiring", "FedgeCanaryFailing", "FedgeQueueGrowing",
    }  # fmt: skip
    assert all(made[alert] == {True, False} for alert in operators)


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
    sources = (root / "edge_client/service/metrics.py").read_text() + (root / "aggregator/console/metrics.py").read_text()
    given = set(re.findall(r'"(fedge_[a-z_]+)"', sources))
    assert len(given) >= 8
    assert {name for name in given if name not in METRICS and f"{name}_total" not in METRICS} == set()
    assert {name for name in METRICS if name not in given and name.removesuffix("_total") not in given} == set()


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
