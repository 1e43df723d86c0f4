import subprocess
import sys

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from aggregator.store import Database, RolloutRow
from aggregator.store.engine import alembic_config, open_engine
from aggregator.store.models import Base
from fedge.costs import Kind, Payer


def test_the_migrations_make_exactly_the_tables_of_the_models(url):
    engine = open_engine(url)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)
    engine.dispose()
    assert differences == []


def test_the_history_of_the_schema_has_one_head_and_opening_twice_changes_nothing(url):
    engine = open_engine(url)
    with engine.connect() as connection:
        script = ScriptDirectory.from_config(alembic_config(connection))
        assert MigrationContext.configure(connection).get_current_revision() == script.get_current_head()
        tables = set(inspect(connection).get_table_names())
    engine.dispose()
    assert tables == set(Base.metadata.tables) | {"alembic_version"}
    again = open_engine(url)
    with again.connect() as connection:
        assert set(inspect(connection).get_table_names()) == tables
    again.dispose()


def test_the_history_of_the_schema_can_be_walked_back(url):
    engine = open_engine(url)
    with engine.begin() as connection:
        command.downgrade(alembic_config(connection), "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
    engine.dispose()


FIRST_ROWS = """
INSERT INTO runs (id, name, config) VALUES (1, 'main', '{"workload": "digits"}');
INSERT INTO rounds (run_id, round, state, attempts, cohort, survivors, started, finished, seconds, release, metrics)
    VALUES (1, 1, 'finished', 1, 12, 11, 0.5, 60.5, '{"unmask": 2.5}', 'ab', '{"certificate": "certified"}');
INSERT INTO attempts (run_id, round, attempt, purpose, outcome, reason, cohort, survivors, started, finished)
    VALUES (1, 1, 1, 'update', 'finished', '', 12, 11, 0.5, 9.5);
INSERT INTO dropouts (run_id, round, attempt, purpose, device_id, stage, reason)
    VALUES (1, 1, 1, 'update', 'device-7', 'query.shares', 'no answer');
INSERT INTO ledger (run_id, round, at, payer, kind, quantity, unit, price_usd, amount_usd)
    VALUES (1, 1, 1.5, 'operator', 'probes', 1, 'call', 0.25, 0.25), (1, 1, 2.5, 'operator', 'probes', 2, 'call', 0.25, 0.5);
"""


def test_a_database_of_the_first_schema_is_brought_up_to_date_without_loss_and_can_be_taken_back(url):
    make_first(url)
    manifest = b'{"metrics": {"device_accuracy": 0.875}, "version": 3}'
    for _ in range(2):  # there, and after a way back to the first schema there once more
        with Database.open(url) as database:
            (row,) = database.rounds()
            assert (row.survivors, row.finished, row.seconds, row.metrics["certificate"]) == (
                11,
                60.5,
                {"unmask": 2.5},
                "certified",
            )
            assert [(one.purpose, one.survivors) for one in database.attempts(1)] == [("update", 11)]
            assert [(one.device_id, one.reason) for one in database.dropouts(1)] == [("device-7", "no answer")]
            assert [entry.amount_usd for entry in database.ledger(1)] == [0.25, 0.5]
            assert database.spent_usd() == {(Payer.OPERATOR, Kind.PROBES): 0.75}  # sums made of the rows that were there
            (release,), (certificate,) = database.releases(), database.certificates()
            assert (release.manifest, certificate.document, database.load_state()) == (manifest, b"said", b"state")
            (line,) = database.published.lines()
            assert (line.metrics, line.certificate) == ({"device_accuracy": 0.875}, "certified")
            assert [record.record for record in database.records()] == [b"signed"]
            database.rollouts.add([STEP])
            database.set_cohort(1, attempt=1, purpose="update", devices=["device-7"])
            database.audit.append(at=0.0, actor="ada", role="operator", action="test")
            assert database.rollouts.of("ab") == [STEP] and database.cohorts(1) == {("update", 1): ["device-7"]}
            assert database.audit.broken() is None
        engine = open_engine(url)
        with engine.begin() as connection:
            command.downgrade(alembic_config(connection), "0001")
            assert not {"rollouts", "cohorts", "audit", "ledger_sums"} & set(inspect(connection).get_table_names())
        engine.dispose()


STEP = RolloutRow(
    number=1, release_id="ab", at=5.5, step="published", origin=None, state="candidate", share=None, reason="", actor="fedge"
)


def make_first(url):
    """A database as the first schema had it, with a row in each table."""
    engine = open_engine(url)
    with engine.begin() as connection:
        command.downgrade(alembic_config(connection), "0001")
        for statement in filter(str.strip, FIRST_ROWS.split(";\n")):
            connection.exec_driver_sql(statement)
        bytes_of = {"manifest": b'{"metrics": {"device_accuracy": 0.875}, "version": 3}'}
        for statement, values in (
            (
                "INSERT INTO releases (run_id, release_id, version, round, published, manifest) "
                "VALUES (1, 'ab', 3, 1, 5.5, :manifest)",
                bytes_of,
            ),
            (
                "INSERT INTO certificates (run_id, release_id, state, issued, document) "
                "VALUES (1, 'ab', 'certified', 6.5, :document)",
                {"document": b"said"},
            ),
            (
                "INSERT INTO records (run_id, round, attempt, session, record) VALUES (1, 1, 1, 'cd', :record)",
                {"record": b"signed"},
            ),
            ("INSERT INTO run_state (run_id, round, state) VALUES (1, 1, :state)", {"state": b"state"}),
        ):
            connection.execute(text(statement), values)
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT setval('runs_id_seq', 1)")
    engine.dispose()


OPEN_AND_SAVE = """
import sys
from aggregator.store import Database, RoundRow
url, number = sys.argv[1], int(sys.argv[2])
with Database.open(url, run=f"run {number}") as database:
    database.save_round(RoundRow(round=number, state="finished", started=0.0), b"%d" % number)
"""


def test_processes_that_open_a_new_database_at_once_all_succeed(url):
    processes = [subprocess.Popen([sys.executable, "-c", OPEN_AND_SAVE, url, str(number)]) for number in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    for number in range(2):
        with Database.open(url, run=f"run {number}") as database:
            assert database.load_state() == b"%d" % number
