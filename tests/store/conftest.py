import os

import pytest
from sqlalchemy import create_engine, make_url, text

from aggregator.store import Database
from benchmarks.postgres import local_postgres, missing


@pytest.fixture(scope="session")
def postgres():
    """The URL of a PostgreSQL: the one that FEDGE_TEST_POSTGRES_URL names, else one that is started for these tests."""
    if given := os.environ.get("FEDGE_TEST_POSTGRES_URL"):
        yield given
    elif reason := missing():
        pytest.skip(reason)
    else:
        with local_postgres() as started:
            yield started


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/store.sqlite"
    server = request.getfixturevalue("postgres")
    name = f"fedge_{os.getpid()}_{abs(hash(str(tmp_path))):x}"
    address = make_url(server).set(drivername="postgresql+psycopg")
    admin = create_engine(address, isolation_level="AUTOCOMMIT", connect_args={"client_encoding": "utf8"})
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))

    def drop():
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()

    request.addfinalizer(drop)
    return make_url(server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def database(url):
    with Database.open(url, config={"workload": "digits"}) as opened:
        yield opened
