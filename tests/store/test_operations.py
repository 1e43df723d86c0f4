"""What operators watch and do: phases and events, the controls, the audit, and the ledger's sums. On both databases."""

import subprocess
import sys
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from aggregator.store import Controls, Database, DropoutRow, Keep, RolloutRow, RoundRow, StoreError
from aggregator.store.retention import DAY_S
from fedge.costs import Kind, LedgerEntry, Payer


def act(database, number=1, **changes):
    given = {
        "at": float(number),
        "actor": "ada",
        "role": "operator",
        "action": "device.revoke",
        "target": f"device-{number}",
    }
    return database.audit.append(**{**given, **changes})


# The audit.


def test_acts_come_back_newest_first_and_the_chain_holds(database):
    assert database.audit.broken() is None
    for number in range(1, 4):
        act(database, number, reason="lost", detail={"b": 1, "a": number})
    assert [row.number for row in database.audit.latest(2)] == [3, 2]
    (first,) = database.audit.latest(5, before=2)
    assert (first.actor, first.target, first.reason, first.detail) == ("ada", "device-1", "lost", {"a": 1, "b": 1})
    assert database.audit.broken() is None


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'eve'", "DELETE FROM audit"])
def test_the_database_refuses_to_change_or_delete_an_act(database, statement):
    act(database)
    with pytest.raises(Exception, match="only ever added to"), database._engine.begin() as connection:
        connection.execute(text(statement))
    assert database.audit.latest(1)[0].actor == "ada"


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE audit SET reason = 'other' WHERE number = 2", 2),
        ("UPDATE audit SET at = 7 WHERE number = 3", 3),
        ("DELETE FROM audit WHERE number = 1", 2),
        ("DELETE FROM audit WHERE number = 3", 4),
    ],
)
def test_who_gets_around_that_is_found_out(database, statement, found):
    for number in range(1, 5):
        act(database, number)
    seen = database.audit.verified()
    tamper(database, statement)
    assert database.audit.broken() == found
    act(database, 5)  # the new end follows from the old one, so only the whole chain tells
    assert database.audit.verified(seen).broken_at is None and database.audit.broken() == found


@pytest.mark.parametrize("statement", ["UPDATE audit SET hash = 'x' WHERE number = 2", "DELETE FROM audit WHERE number = 2"])
def test_a_look_at_new_rows_notices_a_change_of_the_last_one_that_it_saw(database, statement):
    for number in (1, 2):
        act(database, number)
    seen = database.audit.verified()
    tamper(database, statement)
    act(database, 3)
    found = database.audit.verified(seen)
    assert found.broken_at == 2 and database.audit.verified(found) == found  # it is not forgotten by the next look


def test_a_look_at_new_rows_reads_those_alone(database):
    for number in range(1, 4):
        act(database, number)
    seen = database.audit.verified()
    assert (seen.number, seen.hash) == (3, database.audit.latest(1)[0].hash)
    act(database, 4)
    tamper(database, "UPDATE audit SET actor = 'eve' WHERE number = 4")
    assert database.audit.verified(seen).broken_at == 4
    assert database.audit.verified(seen).number == 3


RUNS = count()  # a run of its own for each example: the database is the same
FIELDS = ("actor", "role", "action", "target", "reason", "detail")
WORDS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=8)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=6), data=st.data())
def test_any_change_of_any_act_breaks_the_chain_there(url, acts, data):
    with Database.open(url, run=f"run {next(RUNS)}") as database:
        for at, (actor, target, reason) in enumerate(acts):
            act(database, at, actor=actor, target=target, reason=reason, detail={"said": reason})
        assert database.audit.verified().number == len(acts) and database.audit.broken() is None
        number = data.draw(st.integers(1, len(acts)))
        name, value = data.draw(st.sampled_from(FIELDS)), data.draw(WORDS)
        before = getattr(database.audit.latest(1, before=number + 1)[0], name)
        changed = value if name == "detail" or value != before else value + "!"
        tamper(
            database,
            f"UPDATE audit SET {name} = :value WHERE number = :number AND run_id = :run",
            value=changed,
            number=number,
            run=database._run_id,
        )
        assert database.audit.broken() == number


def tamper(database, statement, **values):
    """As someone with the whole database in hand, who takes the triggers away first."""
    postgres = database._engine.dialect.name == "postgresql"
    with database._engine.begin() as connection:
        for trigger in ["audit_change"] if postgres else ["audit_UPDATE", "audit_DELETE"]:
            connection.execute(text(f"DROP TRIGGER IF EXISTS {trigger}{' ON audit' if postgres else ''}"))
        connection.execute(text(statement), values)


ACT = """
import sys
from aggregator.store import Database
with Database.open(sys.argv[1]) as database:
    for number in range(15):
        database.audit.append(at=0.0, actor=sys.argv[2], role="operator", action="test")
"""


def test_processes_that_act_at_once_make_one_chain(url, database):
    processes = [subprocess.Popen([sys.executable, "-c", ACT, url, name]) for name in ("ada", "bob")]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    rows = database.audit.latest(100)
    assert [row.number for row in rows] == list(range(30, 0, -1)) and {row.actor for row in rows} == {"ada", "bob"}
    assert database.audit.broken() is None


def test_each_run_has_a_chain_of_its_own(url, database):
    act(database)
    with Database.open(url, run="another") as other:
        assert act(other).number == 1 and other.audit.broken() is None


# Phases and events.


def test_a_phase_is_told_while_it_lasts_and_kept_when_it_is_over(database):
    begin = {"round_number": 3, "attempt": 1, "purpose": "update", "expected": 16, "needed": 11}
    first = database.happenings.begin_phase(phase="train", at=1.0, **begin)
    database.happenings.note_phase(first, reported=12)
    (row,) = database.happenings.phases(3)
    assert (row.phase, row.started, row.finished, row.expected, row.reported, row.needed) == ("train", 1.0, None, 16, 12, 11)
    database.happenings.note_phase(first, reported=16, finished=2.5)
    database.happenings.begin_phase(phase="keys", at=2.5, **begin)
    assert database.happenings.close_phases(at=9.0) == 1
    assert [(row.phase, row.reported, row.finished) for row in database.happenings.phases(3)] == [
        ("train", 16, 2.5),
        ("keys", 0, 9.0),
    ]
    assert database.happenings.newest_round() == 3 and database.happenings.phases(2) == []


def test_a_reader_of_events_goes_on_where_it_was(database):
    add = database.happenings.add_event
    numbers = [
        add("round.started", f"round {number}\nbegins", at=float(number), round_number=number) for number in range(1, 5)
    ]
    assert numbers == sorted(set(numbers))
    found = database.happenings.events(after=numbers[1], limit=1)
    assert [(row.id, row.text, row.round) for row in found] == [(numbers[2], "round 3 begins", 3)]
    add("login.refused", "ada", at=5.0, detail={"tries": 3})
    assert [row.detail for row in database.happenings.latest_events(5, kinds=["login.refused"])] == [{"tries": 3}]
    database.retention.forget(Keep(ledger_days=0, events_days=1, rounds_days=0), now=6.0 + DAY_S)
    assert database.happenings.events() == [] and database.happenings.newest_event() == 0
    assert add("later", "x", at=7.0) > numbers[-1] + 1


# The controls.


def test_the_controls_are_what_the_last_operator_wanted(database):
    assert database.controls.get() == Controls()
    database.controls.change(lambda now: replace(now, state="paused", by="ada", at=1.0))
    database.controls.change(lambda now: replace(now, cohort=16, asked_now=now.asked_now + 1, by="bob", at=2.0))
    assert database.controls.get() == Controls(state="paused", cohort=16, asked_now=1, by="bob", at=2.0)


# The ledger's sums.


def row(kind, amount, payer=Payer.OPERATOR, at=0.0):
    return LedgerEntry(at, payer, kind, 1.0, "call", amount, amount)


ROWS = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.sampled_from([Kind.PROBES, Kind.ESCALATIONS]),
        st.sampled_from(list(Payer)),
        st.integers(0, 1000),
    ),
    max_size=20,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_sums_equal_a_scan_of_the_rows(tmp_path_factory, rows):
    with Database.open(f"sqlite:///{tmp_path_factory.mktemp('sums')}/a.sqlite") as database:
        for number, kind, payer, amount in rows:
            database.add_ledger(number, [row(kind, amount / 8, payer), row(kind, 1.0, payer)])
        scanned = {}
        for number in range(1, 5):
            for entry in database.ledger(number):
                key = number, entry.payer, entry.kind
                scanned[key] = scanned.get(key, 0.0) + entry.amount_usd
        summed = {(n, *key): usd for n, by in database.spent_by_round(1).items() for key, usd in by.items()}
        assert summed == scanned


def test_sums_stay_when_old_rows_go(database):
    database.add_ledger(1, [row(Kind.PROBES, 0.5, at=1.0), row(Kind.PROBES, 0.25, at=2.0)])
    database.add_ledger(2, [row(Kind.ESCALATIONS, 1.0, at=9.0)])
    keep = Keep(ledger_days=1, events_days=0, rounds_days=0)
    assert database.retention.forget(keep, now=5.0 + DAY_S, batch=1) == {"ledger": 2}
    assert database.retention.forget(keep, now=5.0 + DAY_S) == {}
    assert database.ledger(1) == [] and len(database.ledger(2)) == 1
    assert database.spent_usd() == {(Payer.OPERATOR, Kind.PROBES): 0.75, (Payer.OPERATOR, Kind.ESCALATIONS): 1.0}
    assert list(database.spent_by_round(2)) == [2]


@pytest.mark.parametrize("batch", [1, 100])
def test_a_round_keeps_its_line_when_its_phases_and_dropouts_go(url, database, batch):
    with Database.open(url, run="another") as other:
        for one in (database, other):
            record(one, {1: 0.0, 2: DAY_S, 3: 2 * DAY_S})
        keep = Keep(ledger_days=0, events_days=0, rounds_days=1)
        gone = database.retention.forget(keep, now=2.5 * DAY_S, batch=batch)
        assert gone == {"round_phases": 4, "cohorts": 4, "dropouts": 4}
        assert [row.round for row in database.rounds()] == [1, 2, 3]
        for number, left in ((1, 0), (2, 0), (3, 2)):
            assert len(database.happenings.phases(number)) == len(database.dropouts(number)) == left
            assert len(database.cohorts(number).get(("update", 1), [])) == left
            assert len(other.dropouts(number)) == 2
        assert database.retention.forget(keep, now=9 * DAY_S) == {"round_phases": 2, "cohorts": 2, "dropouts": 2}


@pytest.mark.parametrize(("days", "stopped"), [(0, False), (1, True)])
def test_what_is_kept_for_good_stays_and_a_stop_is_heard(database, days, stopped):
    record(database, {1: 0.0})
    database.happenings.add_event("x", "x", at=0.0)
    keep = Keep(ledger_days=days, events_days=days, rounds_days=days)
    assert database.retention.forget(keep, now=1e12, stopped=lambda: stopped) == {}
    assert len(database.happenings.events()) == 1 and len(database.dropouts(1)) == 2


def record(database, started):
    """Rounds by number with their times, each with two phases, a cohort of two and two dropouts."""
    place = {"attempt": 1, "purpose": "update"}
    for number, at in started.items():
        database.save_round(RoundRow(round=number, state="finished", started=at))
        for phase in ("keys", "unmask"):
            database.happenings.begin_phase(round_number=number, phase=phase, at=at, expected=1, needed=1, **place)
        database.set_cohort(number, attempt=1, purpose="update", devices=["b", "a"])
        left = {"stage": "keys", "reason": "no answer"}
        database.add_dropouts([DropoutRow(round=number, device_id=name, **left, **place) for name in ("a", "b")])


def test_a_ledger_that_fails_leaves_its_sums_alone(database):
    with pytest.raises(StoreError):
        database.add_ledger(1, [row(Kind.PROBES, 0.5), replace(row(Kind.PROBES, 0.5), unit=object())])
    assert database.spent_usd() == {}


# Rollouts and cohorts.


def rollout(number, **changes):
    given = {
        "release_id": "ab",
        "at": number / 8,
        "step": "canary",
        "origin": "candidate",
        "state": "candidate",
        "share": 0.1,
        "reason": "canary",
        "actor": "fedge",
    }
    return RolloutRow(number=number, **{**given, **changes})


def test_a_step_of_a_rollout_is_there_once_however_often_it_is_added(url, database):
    rows = [rollout(number, release_id="cd" if number == 2 else "ab") for number in range(1, 5)]
    database.rollouts.add(rows[:3])
    database.rollouts.add(rows)
    database.rollouts.add([])
    assert database.rollouts.newest() == rows[3]
    assert database.rollouts.of("ab") == [rows[0], rows[2], rows[3]] and database.rollouts.of("cd") == [rows[1]]
    with Database.open(url, run="another") as other:
        assert other.rollouts.newest() is None
        other.rollouts.add(rows[:1])
        assert other.rollouts.of("ab") == rows[:1]


def test_a_cohort_is_who_was_noted_last(database):
    for devices in (["a", "b"], ["c", "a"], []):
        database.set_cohort(1, attempt=2, purpose="counts", devices=devices)
        database.set_cohort(1, attempt=1, purpose="update", devices=["d"])
        assert database.cohorts(1) == {
            ("update", 1): ["d"],
            **({("counts", 2): sorted(devices)} if devices else {}),
        }
    assert database.cohorts(2) == {}
