import subprocess
import sys

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from aggregator.store import Database
from aggregator.store.engine import alembic_config, open_engine
from aggregator.store.models import Base


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
