"""A whole agent that reports: what it looks at, how often, and that it can be told not to."""

import random
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest

from aggregator.fleet.inventory import Wanted
from edge_client import fleet_plugins
from edge_client.daemon import AgentProcess
from edge_client.membership.heartbeat import LOOK_S, report_pace
from edge_client.store import open_file
from edge_client.store.releases import InstalledRelease
from fedge.errors import InputError
from fedge.presence import REPORT_APART_S
from fedge.settings_text import with_values

FIRST, SECOND = "11" * 32, "22" * 32


@pytest.fixture
def agent(federation):
    """Starts a whole agent with its part in the fleet; no rounds, and central is away."""
    running = []

    def start(home, **values):
        change(home, **{"central_timeout_s": 0.2, "api.port": 0, "node.mode": "off", **values})
        process = AgentProcess(home, plugs=fleet_plugins.fleet_plugs(home, home.settings()))
        running.append(process)
        for loop in process.loops:
            if loop.name == "presence":
                loop.start()
        return process

    yield start
    for process in running:
        process.close()


def change(home, **values):
    home.settings_file.write_text(with_values(home.settings_file.read_text(), values))


def entry(federation, name="kitchen"):
    found = federation.authority.listed(Wanted(device=name), now=federation.clock())
    assert len(found) == 1
    return found[0]


def test_an_agent_reports_at_its_start_what_waits_and_nothing_of_what_it_was_asked(federation, agent, patient, wait_for):
    patient()
    home = federation.enroll("kitchen")
    store = open_file(home.store)
    store.health.enter(SECOND, "rolled_back", at=1.0, reason="its model failed 3 times")
    store.close()
    process = agent(home)
    assert process.health().detail["report_s"] == 60.0
    found = wait_for(lambda: federation.authority.listed(Wanted(device="kitchen"), now=federation.clock())[0]["profile"])
    assert found == home.settings().profile
    found = entry(federation)
    assert (found["release"], found["given_up"], found["queue"], found["on_trial"]) == (None, SECOND, 0, False)
    process.agent.ask("the secret word is xylophone", queue=True)
    assert len(process.store.outbox) == 1
    reporter = next(loop for loop in process.loops if loop.name == "presence")
    process.store.health.enter(FIRST, "rolled_back", at=2.0, reason="worse")
    reporter.wake()
    wait_for(lambda: entry(federation)["given_up"] == FIRST)
    assert entry(federation)["queue"] == 1
    with closing(sqlite3.connect(federation.home.authority / "enrolment.sqlite")) as connection:
        assert "xylophone" not in "\n".join(connection.iterdump())


def test_with_zero_an_agent_never_reports(federation, agent):
    process = agent(federation.enroll("kitchen"), report_s=0.0)
    assert "membership" in [loop.name for loop in process.loops]
    assert "presence" not in [loop.name for loop in process.loops]
    assert process.health().detail["report_s"] == 0.0


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan"), "often"])
def test_a_period_that_cannot_be_is_refused(federation, value):
    home = federation.enroll("kitchen")
    change(home, report_s=value)
    with pytest.raises(InputError, match="report_s"):
        home.settings()


def test_a_device_looks_less_often_than_the_door_wants_reports_apart():
    for period_s in (0.1, 5.0, 60.0, 3600.0):
        pace = report_pace(period_s)
        for failures in range(6):
            assert pace.wait_s(failures, random.Random(failures)) >= LOOK_S / 2
        assert pace.wait_s(0, random.Random(1)) > REPORT_APART_S


def test_what_a_device_runs_on_and_what_measures_it_is_read_from_its_kernel(federation, agent, tmp_path):
    files = {
        "class/hwmon/hwmon0/name": "ina219",
        "class/hwmon/hwmon0/power1_input": 4_000_000,
        "class/power_supply/BAT0/type": "Battery",
        "class/power_supply/BAT0/status": "Discharging",
    }
    for name, content in files.items():
        path = tmp_path / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    process = agent(federation.enroll("kitchen"), sysfs=str(tmp_path / "sys"), report_s=0.0)
    assert fleet_plugins.presence_of(process).sensor == "", "none has spoken yet"
    process.meter.power.rest()
    seen = fleet_plugins.presence_of(process)
    assert (seen.supply, seen.sensor) == ("battery", "ina219")
    (tmp_path / "sys" / "class/power_supply/BAT0/status").write_text("Charging\n")
    assert fleet_plugins.presence_of(process).supply == "mains"


def test_what_is_installed_is_read_from_the_agent_itself(federation, agent):
    """The look, over the real store: a release in its window is on trial until that is over."""
    process = agent(federation.enroll("kitchen"), report_s=0.0)
    process.releases._active = SimpleNamespace(loaded=SimpleNamespace(release_id=FIRST))
    process.store.health.enter(FIRST, "watched", at=1.0)
    process.store.health.set_before(InstalledRelease(SECOND, 1, None, 0))
    seen = fleet_plugins.presence_of(process)
    assert (seen.release, seen.on_trial, seen.given_up) == (FIRST, True, "")
    process.store.health.enter(FIRST, "healthy", at=2.0)
    assert not fleet_plugins.presence_of(process).on_trial
    process.releases._active = None
