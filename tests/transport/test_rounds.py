"""Rounds over a real SuperLink: SuperLink, the rounds and a device that dies are processes, killed with -9.

One fleet for all tests of this file, in their order: starting its processes is most of the time. The other devices' nodes
are threads here, each with its own connection, database and models.
"""

import threading

import pytest

from aggregator.fleet.keys import AggregatorKeys
from aggregator.store import Database
from fedge.secagg import read_record

N_MIN = 3


@pytest.fixture(scope="module")
def fleet(world, processes):
    world.make_folder(processes.folder, devices=6, n_min=N_MIN, phase_timeout_s=5.0)
    processes.superlink()
    processes.rounds()
    stop = threading.Event()
    threads = [world.start_node(processes.folder, f"device-{number}", stop=stop)[1] for number in range(1, 5)]
    yield processes
    stop.set()
    for thread in threads:
        thread.join()


class Log:
    """The rounds as the aggregator's database has them."""

    def __init__(self, fleet) -> None:
        self.fleet = fleet
        self.path = fleet.folder / "aggregator.sqlite"
        self._database = None

    @property
    def database(self) -> Database:
        if self._database is None:
            self._database = Database.open(f"sqlite:///{self.path}")
        return self._database

    def rounds(self):
        return self.database.rounds() if self.path.exists() else []

    def newest(self) -> int:
        return max((row.round for row in self.rounds()), default=0)

    def wait_beyond(self, number: int, *, where=lambda row: True):
        """The first round after ``number`` that is as it should be."""
        return self.fleet.wait_for(
            f"a round after {number}",
            lambda: next((row for row in self.rounds() if row.round > number and where(row)), None),
        )

    def wait_for_dropout(self, device: str, number: int = 0):
        """The first round after ``number`` that a device left, and at which stage and why."""
        row = self.wait_beyond(number, where=lambda row: device in self.dropouts(row.round))
        return row, self.dropouts(row.round)[device]

    def dropouts(self, number: int):
        rows = reversed(self.database.dropouts(number))
        return {row.device_id: (row.purpose, row.stage, row.reason) for row in rows}

    def close(self) -> None:
        if self._database is not None:
            self._database.close()


@pytest.fixture(scope="module")
def log(fleet):
    found = Log(fleet)
    yield found
    found.close()


def test_a_round_of_four_sums_updates_and_counts_with_secure_aggregation(fleet, log):
    row = log.wait_beyond(0, where=lambda row: row.survivors == 4)
    assert (row.state, row.cohort, row.attempts) == ("finished", 4, 1)
    attempts = {attempt.purpose: attempt for attempt in log.database.attempts(row.round)}
    records = [record.record for record in log.database.records() if record.round == row.round]
    assert {purpose: (each.outcome, each.survivors) for purpose, each in attempts.items()} == {
        "update": ("finished", 4),
        "counts": ("finished", 4),
        "usage": ("finished", 4),
    }
    round_key = AggregatorKeys.open(fleet.folder / "keys").round.public_key()
    assert len([read_record(record, round_key) for record in records]) == 3
    assert row.metrics["training_loss"] is not None
    assert row.metrics["usage"]["training_mj"] > 0


def test_a_device_that_claims_anothers_id_is_refused_and_blamed_and_the_other_keeps_its_place(world, fleet, log):
    before, stop = log.newest(), threading.Event()
    _, thread = world.start_node(fleet.folder, "device-6:claim=device-1", stop=stop)
    row, (_, stage, reason) = log.wait_for_dropout("device-6", before)
    stop.set()
    thread.join()
    assert (stage, reason) == ("check-in", "it claims to be another device")
    assert "device-1" not in log.dropouts(row.round)
    assert (row.state, row.survivors) == ("finished", 4)


def test_rounds_go_on_where_they_were_when_the_rounds_process_was_killed(fleet, log):
    fleet.kill("rounds")
    before = log.newest()
    fleet.rounds()
    log.wait_beyond(before, where=lambda row: row.state == "finished" and row.survivors == 4)
    assert_no_round_was_lost_or_repeated(log)


def test_rounds_go_on_by_themselves_when_superlink_was_killed_and_comes_back(fleet, log):
    fleet.kill("superlink")
    before = log.newest()
    fleet.superlink()
    log.wait_beyond(before, where=lambda row: row.state == "finished" and row.survivors == 4)
    assert_no_round_was_lost_or_repeated(log)


def test_a_revoked_device_is_in_no_later_round(fleet, log):
    (fleet.folder / "revoked").write_text("device-4")
    row = log.wait_beyond(log.newest(), where=lambda row: row.cohort == 3)
    assert (row.state, row.survivors) == ("finished", 3)


def test_a_device_killed_in_the_middle_of_a_round_costs_its_own_place_only(fleet, log):
    fleet.devices("device-5:die=query.shares")
    row, (purpose, stage, reason) = log.wait_for_dropout("device-5")
    assert fleet.running.pop("device-5").wait() == -9
    assert (stage, reason) == ("query.shares", "no answer in time")
    assert row.state == "finished"
    if purpose == "update":  # else it joined between the two sessions of a round
        assert (row.cohort, row.survivors) == (4, 3)


def assert_no_round_was_lost_or_repeated(log):
    rows = log.rounds()
    assert [row.round for row in rows] == list(range(1, len(rows) + 1))
    # Each release is made from the one before it, so a finished round's work is in all that follow.
    versions = [release.version for release in log.database.releases()]
    assert versions == sorted(set(versions))
