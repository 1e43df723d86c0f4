"""Retention as a property: exactly what is older than it may be goes, and nothing else. On both databases."""

from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.store import Database, DropoutRow, Keep, RoundRow
from aggregator.store.retention import DAY_S
from fedge.costs import Kind, LedgerEntry, Payer

NOW = 100 * DAY_S
RUNS = count()
DAYS = st.integers(0, 12).map(float)
TIMES = st.lists(st.integers(0, 12).map(lambda days: NOW - days * DAY_S), max_size=6)
KEEP = st.builds(Keep, ledger_days=DAYS, events_days=DAYS, rounds_days=DAYS)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keep=KEEP, ledger=TIMES, events=TIMES, rounds=TIMES, batch=st.integers(1, 4))
def test_what_is_old_goes_and_nothing_else(url, keep, ledger, events, rounds, batch):
    rounds = sorted(rounds)  # as they begin one after another
    run = next(RUNS)  # of its own for each example: the database is the same
    with Database.open(url, run=f"run {run}") as database, Database.open(url, run=f"beside {run}") as beside:
        for one in (database, beside):
            fill(one, ledger, events, rounds)
        whole = everything(beside, len(rounds))
        database.retention.forget(keep, now=NOW, batch=batch)
        assert everything(beside, len(rounds)) == whole
        left = everything(database, len(rounds))
        assert left["ledger"] == [at for at in ledger if not keep.ledger_days or at >= NOW - keep.ledger_days * DAY_S]
        assert left["events"] == [at for at in events if not keep.events_days or at >= NOW - keep.events_days * DAY_S]
        stay = [not keep.rounds_days or at >= NOW - keep.rounds_days * DAY_S for at in rounds]
        for name in ("phases", "cohorts", "dropouts"):
            assert left[name] == [int(stays) for stays in stay]
        for name in ("rounds", "usd", "acts"):
            assert left[name] == whole[name]


def fill(database, ledger, events, rounds):
    for at in ledger:
        database.add_ledger(1, [LedgerEntry(at, Payer.OPERATOR, Kind.PROBES, 1.0, "call", 0.5, 0.5)])
    for at in events:
        database.happenings.add_event("x", "x", at=at)
    place = {"attempt": 1, "purpose": "update"}
    for number, at in enumerate(rounds, start=1):
        database.save_round(RoundRow(round=number, state="finished", started=at))
        database.happenings.begin_phase(round_number=number, phase="keys", at=at, expected=1, needed=1, **place)
        database.set_cohort(number, devices=["a"], **place)
        database.add_dropouts([DropoutRow(round=number, device_id="a", stage="keys", reason="no answer", **place)])
    database.audit.append(at=0.0, actor="ada", role="operator", action="test")


def everything(database, rounds):
    numbers = range(1, rounds + 1)
    return {
        "ledger": [row.at for row in database.ledger(1)],
        "events": [event.at for event in database.happenings.events()],
        "rounds": database.rounds(),
        "phases": [len(database.happenings.phases(number)) for number in numbers],
        "cohorts": [len(database.cohorts(number)) for number in numbers],
        "dropouts": [len(database.dropouts(number)) for number in numbers],
        "usd": database.spent_usd(),
        "acts": database.audit.latest(9),
    }
