"""Opening a database by URL and bringing its schema up to date: SQLite as a file, PostgreSQL through psycopg.

Two processes may open one database at once: migrations run under a lock, and whoever comes second finds nothing to do.
"""

import json
import sqlite3
import time
from functools import partial
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from fedge.errors import InputError

READ_ONLY = {"fedge_read_only": True}
BUSY_TIMEOUT_MS = 30_000
_MIGRATIONS = Path(__file__).with_name("migrations")
_MIGRATION_LOCK = 0x66_65_64_67_65  # any number that is ours: "fedge"


def open_engine(url: str) -> Engine:
    """A database with an up-to-date schema. Raises InputError, with the URL's password left out."""
    address = _address(url)
    shown = address.render_as_string(hide_password=True)
    try:
        engine = create_engine(
            address,
            json_serializer=partial(json.dumps, allow_nan=False, sort_keys=True),
            # A database in SQL_ASCII would hand out bytes for text; asked for UTF-8 it keeps and gives what we write.
            connect_args={"client_encoding": "utf8"} if address.get_backend_name() == "postgresql" else {},
        )
    except (SQLAlchemyError, ImportError) as error:
        raise InputError(f"cannot use the database {shown}: {error}") from None
    if address.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    try:
        with engine.begin() as connection:
            _migrate(connection)
    except SQLAlchemyError as error:
        engine.dispose()
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()
        raise InputError(f"cannot open the database {shown}: {reason[0] if reason else type(error).__name__}") from None
    return engine


def alembic_config(connection: Connection) -> Config:
    """The migrations' configuration: no file, only the scripts beside this module and an open connection."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _address(url: str) -> URL:
    try:
        address = make_url(url)
        backend = address.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise InputError("the database URL cannot be read: use sqlite:///PATH or postgresql://USER@HOST/NAME") from None
    if backend == "postgresql":
        return address.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise InputError(f"the database kind {backend!r} is not supported: use sqlite or postgresql")
    if address.database and address.database != ":memory:":
        try:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder of the database {address.database}: {error.strerror}") from None
    return address.set(drivername="sqlite")


def _migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
    command.upgrade(alembic_config(connection), "head")


def _configure_sqlite(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # The driver's own idea of transactions commits before changes to the schema: take BEGIN into our own hands.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("foreign_keys = ON", f"busy_timeout = {BUSY_TIMEOUT_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    _use_wal(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _use_wal(cursor: DBAPICursor) -> None:
    """A new file is taken alone for the switch, for which SQLite itself does not wait: two may open it at once."""
    until = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once when another writer came between: writers lock first.
    read_only = connection.get_execution_options().get("fedge_read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
