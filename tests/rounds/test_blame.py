"""Rounds in which one device spoils sums: nobody is asked twice, later cohorts are redrawn, and the device is named."""

from pathlib import Path

import pytest
from aggregator.rounds.report import RoundReport
from aggregator.rounds.session import SHARES
from aggregator.rounds.state import FederationState
from aggregator.rounds.suspicion import Verdict
from tests.rounds.test_session import FIRST_NODE, World

FLEET, N_MIN = 30, 11


@pytest.fixture
def fleet(tmp_path: Path) -> World:
    return World(tmp_path, devices=FLEET)


def play(fleet: World) -> RoundReport:
    return fleet.round(cohort=32, cohort_max=128, n_min=N_MIN)


def masked_in(fleet: World, round_number: int, report: RoundReport) -> list[int]:
    """Return the nodes that were asked for a masked update in a round, each as often as it was asked."""
    groups = {f"{round_number}.{session.attempt}" for session in report.sessions if session.purpose == "update"}
    return [node for node, action, group in fleet.asked if action == SHARES and group in groups]


def test_an_honest_fleet_keeps_its_cohort_and_stores_no_evidence(fleet: World) -> None:
    report = play(fleet)
    assert (report.outcome, report.attempts, report.survivors) == ("finished", 1, FLEET)
    assert not fleet.state.suspicion.tests and fleet.state.suspicion.excluded == frozenset()


def test_a_spoiled_sum_is_not_asked_for_again_in_its_period(fleet: World) -> None:
    fleet.devices[FIRST_NODE + 7].trips = True
    report = play(fleet)
    assert (report.outcome, report.attempts) == ("failed", 1)
    assert sorted(masked_in(fleet, 1, report)) == sorted(fleet.devices)
    [test] = fleet.state.suspicion.tests
    assert test.verdict is Verdict.SUM and len(test.members) == FLEET


def test_the_next_period_splits_the_fleet_so_that_one_cohort_counts(fleet: World) -> None:
    fleet.devices[FIRST_NODE + 7].trips = True
    play(fleet)
    report = play(fleet)
    updates = [session for session in report.sessions if session.purpose == "update"]
    assert sorted(session.outcome for session in updates) == ["aborted", "finished"]
    assert {len(session.roster) for session in updates} == {15}
    assert (report.outcome, report.survivors) == ("finished", 15)
    nodes = masked_in(fleet, 2, report)
    assert len(nodes) == len(set(nodes)) == FLEET


def test_the_device_that_spoils_is_named_and_left_out_and_all_others_count_again(fleet: World, tmp_path: Path) -> None:
    fleet.devices[FIRST_NODE + 7].trips = True
    for _ in range(20):
        report = play(fleet)
        assert all(len(session.roster) >= N_MIN for session in report.sessions)
        if fleet.state.suspicion.excluded:
            break
    assert fleet.state.suspicion.excluded == {"device-7"}
    assert any("device-7 is excluded" in note and "fedge rounds readmit device-7" in note for note in report.notes)
    fleet.state = FederationState.from_bytes(fleet.state.to_bytes())  # the exclusion outlives the process
    report = play(fleet)
    assert (report.outcome, report.attempts, report.survivors) == ("finished", 1, FLEET - 1)
    assert not any("device-7" in session.roster for session in report.sessions)


def test_a_fleet_that_is_too_small_to_tell_pauses_and_says_what_to_do(tmp_path: Path) -> None:
    fleet = World(tmp_path, devices=N_MIN)
    fleet.devices[FIRST_NODE + 3].trips = True
    assert play(fleet).outcome == "failed"
    before = len(fleet.asked)
    report = play(fleet)
    assert (report.outcome, report.attempts) == ("paused", 0)
    assert not [entry for entry in fleet.asked[before:] if entry[2] == "2.0"]
    [note] = [note for note in report.notes if note.startswith("updates are paused")]
    assert "11 devices are present that are not excluded, and 12 are needed" in note and "Enroll or connect more" in note


def test_a_beacon_moves_only_with_what_devices_contributed(fleet: World) -> None:
    before = fleet.state.beacon
    fleet.away = {(None, None, None)}
    play(fleet)
    assert fleet.state.beacon == before
    fleet.away = set()
    report = play(fleet)
    moved = fleet.state.beacon
    assert moved != before and report.draws[0].beacon == before
    assert play(fleet).draws[0].beacon == moved
