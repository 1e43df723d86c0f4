"""Rounds in which one device spoils sums: nobody is asked twice, later cohorts are redrawn, and the device is named."""

from pathlib import Path

import pytest

from aggregator.rounds.state import FederationState
from aggregator.rounds.suspicion import Verdict
from benchmarks.attacks.aborts import FIRST_NODE, FLEET, N_MIN, Fleet, blameless_abort, updates


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.fixture
def spoiled(tmp_path: Path) -> Fleet:
    fleet = Fleet(tmp_path)
    fleet.devices[FIRST_NODE + 7].trips = True
    return fleet


def test_an_honest_fleet_keeps_its_cohort_and_stores_no_evidence(fleet: Fleet) -> None:
    for _ in range(2):
        report = fleet.play()
        assert report.survivors == FLEET and updates(report) == [("finished", FLEET)]
    assert not fleet.state.suspicion.tests and not fleet.state.suspicion.excluded


def test_a_spoiled_sum_is_not_asked_for_again_in_its_period(spoiled: Fleet) -> None:
    report = spoiled.play()
    assert report.outcome == "failed" and updates(report) == [("aborted", FLEET)]
    assert spoiled.sent() == [1] * FLEET
    [test] = spoiled.state.suspicion.tests
    assert test.verdict is Verdict.SUM and len(test.members) == FLEET


def test_devices_that_left_before_they_masked_anything_are_neither_evidence_nor_spent(fleet: Fleet) -> None:
    fleet.away = set(list(fleet.devices)[:15])
    report = fleet.play()
    assert report.survivors == 15 and not fleet.state.suspicion.tests


def test_the_next_period_splits_the_fleet_so_that_one_cohort_counts(spoiled: Fleet) -> None:
    spoiled.play()
    report = spoiled.play()
    assert updates(report) == [("aborted", 15), ("finished", 15)]
    assert report.survivors == 15 and spoiled.sent() == [1] * FLEET
    assert sorted(report.draws[0].sizes) == [15, 15]


def test_devices_can_check_afterwards_who_sat_with_whom(spoiled: Fleet) -> None:
    spoiled.play()
    report = spoiled.play()
    [draw] = [draw for draw in report.draws if draw.purpose == "update"]
    for session in (session for session in report.sessions if session.purpose == "update"):
        for device in session.roster:
            draw.check_roster(session.roster, own=device)


def test_the_device_that_spoils_is_named_and_left_out_and_all_others_count_again(spoiled: Fleet) -> None:
    report = spoiled.play_until_excluded()
    assert spoiled.state.suspicion.excluded == {"device-7"}
    assert any("device-7 is excluded" in note and "fedge rounds readmit device-7" in note for note in report.notes)
    assert set(spoiled.sent()) == {1}
    spoiled.state = FederationState.from_bytes(spoiled.state.to_bytes())  # the exclusion outlives the process
    report = spoiled.play()
    assert updates(report) == [("finished", FLEET - 1)] and spoiled.sent().count(0) == 1
    assert not any("device-7" in session.roster for session in report.sessions)


def test_a_device_that_an_operator_readmits_takes_part_again(spoiled: Fleet) -> None:
    spoiled.play_until_excluded()
    spoiled.devices[FIRST_NODE + 7].trips = False
    spoiled.readmissions = {"device-7": 1}
    assert updates(spoiled.play()) == [("finished", FLEET)]
    assert not spoiled.state.suspicion.excluded and not spoiled.state.suspicion.unexplained()


def test_a_fleet_that_is_too_small_to_tell_pauses_and_says_what_to_do(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, devices=N_MIN)
    fleet.devices[FIRST_NODE + 3].trips = True
    assert fleet.play().outcome == "failed"
    report = fleet.play()
    assert (report.outcome, report.attempts, updates(report)) == ("paused", 0, []) and set(fleet.sent()) == {0}
    [note] = [note for note in report.notes if note.startswith("updates are paused")]
    assert "11 devices are present that are not excluded, and 12 are needed" in note and "Enroll or connect more" in note


def test_a_fleet_with_room_for_one_cohort_lets_others_rest_and_still_finds_the_device(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, devices=16)
    fleet.devices[FIRST_NODE + 3].trips = True
    fleet.play()
    assert updates(fleet.play())[0][1] == 13 and sorted(fleet.sent()) == [0] * 3 + [1] * 13
    fleet.play_until_excluded()
    assert fleet.state.suspicion.excluded == {"device-3"}


def test_the_beacon_moves_only_with_what_devices_contributed(fleet: Fleet) -> None:
    before, fleet.away = fleet.state.beacon, set(fleet.devices)
    fleet.play()
    assert fleet.state.beacon == before
    fleet.away = set()
    report = fleet.play()
    moved = fleet.state.beacon
    assert moved != before and report.draws[0].beacon == before
    assert fleet.play().draws[0].beacon == moved


def test_the_attack_is_held_and_says_what_it_costs() -> None:
    result = blameless_abort(seed=3)
    assert result.held and result.measure == "damage" and 0.3 < result.value < 0.7, result.note
