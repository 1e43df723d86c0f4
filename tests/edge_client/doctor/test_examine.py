"""The whole examination, and the command."""

import json
import time

import pytest
from typer.testing import CliRunner

from cli.main import app
from edge_client.doctor import Machine, examine
from edge_client.settings import DeviceHome
from fedge.errors import FedgeError

CHECKS = {"architecture", "c_library", "python", "onnxruntime", "telemetry", "memory"} | {
    *("power", "disk", "proxies", "settings", "clock")
}
QUICK = Machine(trial="print(1)")


def test_a_joined_device_that_reaches_its_servers_has_no_failure(fleet):
    present = time.time()
    fleet.give(holds=(present - 60, present + 24 * 3600))
    fleet.settings(fleet.grpc_server())
    findings = examine(fleet.home, machine=QUICK, server_time=lambda home, settings: present)
    assert {finding.check for finding in findings} >= CHECKS | {"certificate", "door", "central"}
    assert [finding for finding in findings if finding.outcome == "fail"] == []
    assert "of the server's" in next(finding.says for finding in findings if finding.check == "clock")


def test_a_clock_that_stands_in_1970_is_blamed_by_name(fleet):
    fleet.give(holds=(1_767_000_000.0, 1_767_086_400.0))
    fleet.settings(1)
    findings = {finding.check: finding for finding in examine(fleet.home, machine=QUICK, now=lambda: 5000.0)}
    assert (findings["clock"].outcome, "1970" in findings["clock"].says) == ("fail", True)


def test_a_server_that_does_not_tell_the_time_is_no_reason_to_stop(fleet):
    def refused(home, settings):
        raise FedgeError("no")

    fleet.settings(fleet.grpc_server())
    findings = examine(fleet.home, machine=QUICK, server_time=refused)
    assert next(finding for finding in findings if finding.check == "clock").outcome == "ok"


def test_a_machine_is_examined_before_it_joins(tmp_path):
    findings = examine(DeviceHome(tmp_path), machine=QUICK)
    assert {finding.check for finding in findings} == CHECKS
    assert all(finding.remedy for finding in findings if finding.outcome != "ok")


def test_the_command_prints_json_and_fails_when_a_check_does(fleet):
    fleet.home.settings_file.write_text("nonsense = 1\n")
    result = CliRunner().invoke(app, ["device", "doctor", "--home", str(fleet.home.folder), "--json"])
    findings = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [finding["check"] for finding in findings if finding["outcome"] == "fail"] == ["settings"]
    assert set(findings[0]) == {"check", "outcome", "says", "remedy"}


@pytest.mark.parametrize("joined", [False, True])
def test_the_command_prints_a_line_a_check(fleet, tmp_path, joined):
    fleet.settings(fleet.grpc_server())
    home = fleet.home.folder if joined else tmp_path / "none"
    result = CliRunner().invoke(app, ["device", "doctor", "--home", str(home)])
    lines = result.stdout.splitlines()
    assert result.exit_code == 0, result.output
    assert len(lines) == (len(CHECKS) if not joined else len(CHECKS) + 4)
    assert all(line[:4] in {"ok  ", "warn"} for line in lines)
