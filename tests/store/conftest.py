import os

import pytest
from sqlalchemy import create_engine, make_url, text

from aggregator.store import Database


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/store.sqlite"
    server = os.environ.get("FEDGE_TEST_POSTGRES_URL")
    if not server:
        pytest.skip("no PostgreSQL server: set FEDGE_TEST_POSTGRES_URL")
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
