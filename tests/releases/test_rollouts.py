"""Each change of a release's state is one row of the operators' record, whoever dies between the registry and the record."""

import sqlite3
from contextlib import closing, nullcontext

import pytest

from aggregator.releases.publication import OfferedRegistry, RolloutRecord
from aggregator.releases.registry import ReleaseRegistry
from aggregator.store import Database
from fedge.errors import FedgeError, InputError


@pytest.fixture(scope="module")
def releases(parts):
    return [parts.some_release(float(version), version=version) for version in (1, 2, 3)]


@pytest.fixture
def registry(parts, tmp_path):
    return ReleaseRegistry(tmp_path / "registry", parts.RELEASE_KEY.public_key())


@pytest.fixture
def database(tmp_path):
    with Database.open(f"sqlite:///{tmp_path}/record.sqlite") as opened:
        yield opened


def record_of(registry, database):
    return RolloutRecord(registry, lambda: nullcontext(database))


def steps(database, release_id):
    return [(one.step, one.origin, one.state, one.share, one.actor) for one in database.rollouts.of(release_id)]


def test_each_step_says_from_where_to_where_by_whom_and_to_which_share(registry, database, releases):
    first, second, third = (registry.publish(release, at=1.0) for release in releases)
    registry.promote(first, at=2.0, reason="first release")
    registry.put_on_canary(second, share=0.25, at=3.0, reason="canary")
    registry.put_on_canary(second, share=0.5, at=4.0, reason="wider")
    registry.promote(second, at=5.0, reason="it looks good", actor="ada")
    registry.rollback(at=6.0, reason="it does not", actor="bob")
    registry.put_on_canary(third, share=0.25, at=7.0, reason="canary")
    registry.reject(third, at=8.0, reason="devices gave it up")
    record_of(registry, database).follow()
    published = ("published", None, "candidate", None, "fedge")
    assert steps(database, first) == [
        published,
        ("promoted", "candidate", "active", None, "fedge"),
        ("retired", "active", "retired", None, "ada"),
        ("reactivated", "retired", "active", None, "bob"),
    ]
    assert steps(database, second) == [
        published,
        ("canary", "candidate", "candidate", 0.25, "fedge"),
        ("canary", "candidate", "candidate", 0.5, "fedge"),
        ("promoted", "candidate", "active", None, "ada"),
        ("rolled_back", "active", "rolled_back", None, "bob"),
    ]
    assert steps(database, third)[1:] == [
        ("canary", "candidate", "candidate", 0.25, "fedge"),
        ("withdrawn", "candidate", "rejected", None, "fedge"),
    ]
    assert [one.reason for one in database.rollouts.of(third)] == ["published", "canary", "devices gave it up"]


def test_what_a_crash_kept_from_the_record_is_added_once_at_the_next_look(registry, database, releases):
    first = registry.publish(releases[0], at=1.0)
    record_of(registry, database).follow()
    registry.promote(first, at=2.0, reason="first release")  # and here the process dies
    second = registry.publish(releases[1], at=3.0)
    for _ in range(3):  # the rounds, the console and a command, one after another
        record_of(registry, database).follow()
    assert [step for step, *_ in steps(database, first)] == ["published", "promoted"]
    assert [step for step, *_ in steps(database, second)] == ["published"]
    assert database.rollouts.newest().number == len(registry.transitions()) == 3


def test_a_registry_from_a_backup_loses_no_step_made_after_it(parts, registry, database, releases, tmp_path):
    first = registry.publish(releases[0], at=1.0)
    registry.promote(first, at=2.0, reason="first release")
    record_of(registry, database).follow()
    older = ReleaseRegistry(tmp_path / "older", parts.RELEASE_KEY.public_key())  # its numbers begin anew
    again = older.publish(releases[0], at=1.0)
    older.reject(again, at=5.0, reason="from the backup")
    for _ in range(2):
        record_of(older, database).follow()
    assert [step for step, *_ in steps(database, first)] == ["published", "promoted", "rejected"]


def test_a_record_that_cannot_be_written_costs_the_change_nothing_and_is_made_good(registry, database, releases):
    class Repository:
        def publish(self, registry):
            offered.append(registry.active())

    def refuse():
        if down:
            raise InputError("the database is away")
        return nullcontext(database)

    offered, down = [], [True]
    both = OfferedRegistry(registry, Repository(), record=RolloutRecord(registry, refuse).follow)
    first = both.publish(releases[0], at=1.0)
    both.promote(first, at=2.0, reason="first release")
    assert offered == [None, first] and database.rollouts.newest() is None
    down.clear()
    both.catch_up()
    assert [step for step, *_ in steps(database, first)] == ["published", "promoted"]


def test_what_devices_cannot_be_offered_is_recorded_all_the_same(registry, database, releases):
    class Repository:
        def publish(self, registry):
            raise FedgeError("no space left")

    both = OfferedRegistry(registry, Repository(), record=record_of(registry, database).follow)
    with pytest.raises(FedgeError, match="no space"):
        both.publish(releases[0], at=1.0)
    assert [step for step, *_ in steps(database, releases[0].release_id)] == ["published"]


def test_a_registry_from_before_actors_were_kept_is_taken_up(parts, registry, database, releases, tmp_path):
    first = registry.publish(releases[0], at=1.0)
    registry.promote(first, at=2.0, reason="first release")
    with closing(sqlite3.connect(tmp_path / "registry" / "registry.sqlite")) as connection, connection:
        connection.execute("ALTER TABLE move DROP COLUMN share")
        connection.execute("ALTER TABLE move DROP COLUMN actor")
    again = ReleaseRegistry(tmp_path / "registry", parts.RELEASE_KEY.public_key())
    second = again.publish(releases[1], at=3.0)
    record_of(again, database).follow()
    assert [(step, actor) for step, *_, actor in steps(database, first)] == [("published", None), ("promoted", None)]
    assert [(step, actor) for step, *_, actor in steps(database, second)] == [("published", "fedge")]
