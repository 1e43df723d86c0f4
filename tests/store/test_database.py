import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, make_url, text

from aggregator.store import (
    AttemptRow,
    CertificateRow,
    Database,
    DropoutRow,
    RecordRow,
    ReleaseRow,
    RoundRow,
    StoreError,
)
from fedge.costs import Kind, LedgerEntry, Payer
from fedge.errors import InputError

ROUND = RoundRow(
    round=1,
    state="finished",
    attempts=2,
    cohort=32,
    survivors=29,
    started=1_767_225_600.125,
    finished=1_767_225_601.5,
    seconds={"train": 0.5, "unmask": 0.25},
    release="ab" * 32,
    metrics={"accuracy": {"device": 0.9, "system": 1.0}, "certificate": None, "labels": ["ü", "b"]},
)
RELEASE = ReleaseRow(release_id="cd" * 32, version=3, round=1, parent=None, published=5.5, manifest=b"{}")


def test_a_new_run_has_no_rounds_and_no_state(database):
    assert database.rounds() == []
    assert database.load_state() is None
    assert database.round(1) is None
    assert database.config() == {"workload": "digits"}


def test_a_round_comes_back_as_it_was_saved_with_its_state(database, url):
    running = RoundRow(round=2, state="training", started=7.0)
    database.save_round(ROUND, b"\x00state\xff")
    database.save_round(running)
    database.close()
    with Database.open(url) as again:
        assert again.rounds() == [ROUND, running]
        assert again.round(2) == running
        assert again.load_state() == b"\x00state\xff"


def test_saving_a_round_again_replaces_it_and_keeps_the_state_unless_one_is_given(database):
    database.save_round(ROUND, b"one")
    changed = replace(ROUND, survivors=30, metrics={})
    database.save_round(changed)
    assert (database.rounds(), database.load_state()) == ([changed], b"one")
    database.save_round(changed, b"two")
    assert database.load_state() == b"two"


def test_neither_round_nor_state_is_kept_when_the_state_is_behind_the_stored_one(database):
    database.save_round(replace(ROUND, round=5), b"five")
    with pytest.raises(StoreError, match="round 5"):
        database.save_round(replace(ROUND, round=4), b"four")
    assert [row.round for row in database.rounds()] == [5]
    assert database.load_state() == b"five"


def test_neither_round_nor_state_is_kept_when_the_round_cannot_be_written(database):
    database.save_round(ROUND, b"one")
    with pytest.raises(StoreError):
        database.save_round(replace(ROUND, round=2, metrics={"loss": float("nan")}), b"two")
    assert database.rounds() == [ROUND]
    assert database.load_state() == b"one"


def test_two_connections_see_each_others_rounds(database, url):
    with Database.open(url) as other:
        database.save_round(ROUND, b"a")
        assert other.rounds() == [ROUND]
        other.save_round(replace(ROUND, round=2), b"b")
        assert database.load_state() == b"b"


def test_runs_in_one_database_do_not_mix(database, url):
    with Database.open(url, run="other", config={"seed": 2}) as other:
        database.save_round(ROUND, b"main")
        database.add_release(RELEASE)
        database.add_record(RecordRow(round=1, attempt=1, session="ee" * 32, record=b"r"))
        other.save_round(replace(ROUND, cohort=8), b"other")
        other.add_record(RecordRow(round=1, attempt=1, session="ee" * 32, record=b"r"))
        assert other.releases() == []
        assert (other.load_state(), database.load_state()) == (b"other", b"main")
        assert (other.config(), database.config()) == ({"seed": 2}, {"workload": "digits"})
        assert [row.cohort for row in database.rounds()] == [32]


def test_attempts_and_dropouts_of_a_round_come_back_in_order(database):
    first = AttemptRow(
        round=1,
        attempt=1,
        purpose="update",
        outcome="aborted",
        reason="8 of 12 shares",
        cohort=12,
        survivors=8,
        started=1.0,
        finished=2.0,
    )
    second = replace(first, attempt=2, outcome="finished", reason="", survivors=11, started=3.0, finished=4.0)
    certificate = replace(second, attempt=1, purpose="certificate", started=5.0, finished=6.0)
    for row in (certificate, second, first, replace(first, round=2)):
        database.add_attempt(row)
    assert database.attempts(1) == [first, second, certificate]
    left = [
        DropoutRow(round=1, attempt=1, purpose="update", device_id=f"d{i}", stage="masked_input", reason="no answer")
        for i in (3, 1, 2)
    ]
    database.add_dropouts(left)
    database.add_dropouts([])
    assert database.dropouts(1) == left
    assert database.dropouts(2) == []


def test_a_session_has_one_record(database):
    row = RecordRow(round=1, attempt=2, session="0f" * 32, record=b"\x01signed")
    database.add_record(row)
    with pytest.raises(StoreError):
        database.add_record(replace(row, record=b"another"))
    assert database.records() == [row]


def test_a_certificate_needs_its_release(database):
    certificate = CertificateRow(release_id=RELEASE.release_id, state="empirical", issued=6.0, document=b"{}")
    with pytest.raises(StoreError):
        database.add_certificate(certificate)
    database.add_release(RELEASE)
    database.add_release(RELEASE)
    database.add_certificate(certificate)
    assert database.releases() == [RELEASE]
    assert database.certificates() == [certificate]


def test_the_ledger_sums_by_payer_and_kind_over_rounds(database):
    def row(kind, payer, quantity):
        return LedgerEntry(1.5, payer, kind, quantity, "query", 0.25, quantity * 0.25)

    one = [row(Kind.ESCALATIONS, Payer.OPERATOR, 4.0), row(Kind.PROBES, Payer.OPERATOR, 2.0)]
    two = [row(Kind.ESCALATIONS, Payer.OPERATOR, 8.0)]
    database.add_ledger(1, one)
    database.add_ledger(2, two)
    assert (database.ledger(1), database.ledger(2), database.ledger(3)) == (one, two, [])
    assert database.spent_usd() == {
        (Payer.OPERATOR, Kind.ESCALATIONS): 3.0,
        (Payer.OPERATOR, Kind.PROBES): 0.5,
    }


def test_a_large_state_comes_back_byte_by_byte(database):
    state = bytes(range(256)) * 20_000
    database.save_round(ROUND, state)
    assert database.load_state() == state


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    # PostgreSQL's JSON has no zero character, and no encoding has lone surrogates.
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(metrics=st.dictionaries(st.sampled_from("xyz"), json_values), started=st.floats(0, 1e10))
def test_any_metrics_come_back_equal(database, metrics, started):
    row = replace(ROUND, metrics=metrics, started=started)
    database.save_round(row)
    assert database.rounds() == [row]


@pytest.mark.parametrize(
    "url",
    ["nonsense", "mysql://u:secret@h/d", "sqlite:////proc/none/x.db", "postgresql://u:secret@127.0.0.1:1/d", "oracle9://x"],
)
def test_an_unusable_database_ends_in_one_line_without_its_password(url):
    with pytest.raises(InputError) as refused:
        Database.open(url)
    assert "secret" not in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_postgresql_database_in_sql_ascii_keeps_text_as_it_was_written(postgres):
    server = postgres
    name = f"fedge_ascii_{os.getpid()}"
    admin = create_engine(
        make_url(server).set(drivername="postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",
        connect_args={"client_encoding": "utf8"},
    )
    with admin.connect() as connection:
        made = f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        connection.execute(text(made))
    try:
        url = make_url(server).set(database=name).render_as_string(hide_password=False)
        with Database.open(url, config={"workload": "häuser"}) as database:
            database.save_round(ROUND, b"state")
        with Database.open(url) as again:
            assert again.config() == {"workload": "häuser"}
            assert again.rounds() == [ROUND]
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()
