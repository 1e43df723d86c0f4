"""The device's store: one database, one object a table.

On a device it is a WAL file; in simulation an in-memory database that is saved with `dump` and loaded with `restore`. Both
are used in the same way.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_client.store.answers import AnswerLog
from edge_client.store.contributions import ContributionTable
from edge_client.store.database import Database, Row, Transaction
from edge_client.store.labelled_queries import Memory
from edge_client.store.ledger import Allowances, LedgerTable
from edge_client.store.outbox import Outbox, Waiting
from edge_client.store.probes import FateTable, ProbeTable
from edge_client.store.releases import HealthTable, Installed
from edge_client.store.schema import prepare
from edge_client.store.sessions import SessionTable
from edge_client.store.training import TrainingTable
from fedge.errors import InputError


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a device keeps, in rows; ``outbox_bytes`` bounds the open questions in bytes as well."""

    memory: int = 4096
    probes: int = 4096
    answers: int = 4096
    outbox: int = 1024
    outbox_bytes: int | None = None


class DeviceStore:
    """Everything that a device remembers.

    Tables: ``fates``, ``memory``, ``probes``, ``ledger``, ``sessions``, ``installed``, ``health``, ``answers``, ``outbox``,
    ``waiting``, ``allowances``, ``contributions``, ``training``; counters by name are here.
    """

    def __init__(self, connection: sqlite3.Connection, *, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        prepare(connection)
        self._database = database = Database(connection)
        self.fates = FateTable(database)
        self.memory = Memory(database, max_rows=limits.memory)
        self.probes = ProbeTable(database, max_rows=limits.probes)
        self.ledger = LedgerTable(database)
        self.sessions = SessionTable(database)
        self.installed = Installed(database)
        self.health = HealthTable(database)
        self.answers = AnswerLog(database, max_rows=limits.answers)
        self.outbox = Outbox(database, max_rows=limits.outbox, max_bytes=limits.outbox_bytes)
        self.waiting = Waiting(database)
        self.allowances = Allowances(database)
        self.contributions = ContributionTable(database)
        self.training = TrainingTable(database)

    def transaction(self, *, durable: bool = False) -> Transaction:
        """``with store.transaction():`` all writes inside happen together or not at all; ``durable``: and stand on disk."""
        return self._database.transaction(durable=durable)

    @property
    def fault(self) -> str | None:
        """Return why the last write failed for want of a disk that takes it; None once one has succeeded."""
        return self._database.fault

    def count(self, counts: Mapping[str, int]) -> None:
        """Add to the named counters."""
        self._database.write_many(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            counts.items(),
        )

    def counters(self) -> dict[str, int]:
        """All counters by name."""
        return dict(self._database.rows("SELECT name, value FROM counters ORDER BY name"))

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """All rows of a reading statement over any of the tables."""
        return self._database.rows(sql, parameters)

    def delete(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run one deleting statement; returns how many rows went."""
        return self._database.write(sql, parameters).rowcount

    def scrub(self) -> None:
        """Empty the write-ahead log, where deleted rows would still stand; the database itself overwrites them."""
        self._database.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def dump(self) -> bytes:
        """The whole database as bytes, for `restore`."""
        return self._database.connection.serialize()

    def close(self) -> None:
        """Close the connection; a WAL file is checkpointed by SQLite itself."""
        self._database.connection.close()


def open_memory(*, limits: Limits | None = None) -> DeviceStore:
    """A new store in memory, for a simulated device."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.execute("PRAGMA page_size = 1024")  # a dozen small tables a device: half the bytes of a checkpoint
    return DeviceStore(connection, limits=limits)


def restore(dumped: bytes, *, limits: Limits | None = None) -> DeviceStore:
    """The store in memory that `DeviceStore.dump` saved. Raises InputError for bytes that are no such database."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    try:
        connection.deserialize(dumped)
        return DeviceStore(connection, limits=limits)
    except sqlite3.Error as error:
        connection.close()
        raise InputError(f"the device database that was saved is damaged: {error}") from None


def open_file(path: Path, *, limits: Limits | None = None) -> DeviceStore:
    """The store in a file (created where it is missing), readable by its owner only. Raises InputError for a damaged one."""
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = ON")
        return DeviceStore(connection, limits=limits)
    except sqlite3.Error as error:
        connection.close()
        raise InputError(f"the device database {path} cannot be opened: {error}") from None
