"""One SQLite connection with explicit, nestable transactions; the tables of the store share it.

Knows nothing of what the tables mean. Writes outside a transaction do not exist here: every write goes through `write` or
`write_many`, which open one where none is open.
"""

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from fedge.errors import FedgeError

_UNWRITABLE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
"""A full disk; a failing one; a file system that the kernel made read-only; no room for the write-ahead log."""

Row = tuple[Any, ...]


class StoreUnwritableError(FedgeError):
    """The disk takes nothing: it is full, or fails. Nothing of the transaction is kept; what is stored can still be read."""


class Database:
    """A connection, a lock and the depth of the open transaction. Safe to share between the threads of one process."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        connection.isolation_level = None  # transactions are ours to open: the module's implicit ones hide where they end
        self.connection = connection
        self.lock = threading.RLock()
        self.depth = 0
        self.fault: str | None = None
        """Why the last write failed, in words; None once one has succeeded."""
        self.changes = 0
        self._plain = Transaction(self, durable=False)
        self._durable = Transaction(self, durable=True)

    def transaction(self, *, durable: bool = False) -> "Transaction":
        """All writes inside happen together or not at all; a nested one joins the outer one.

        Raises StoreUnwritableError where the disk takes nothing.

        ``durable`` returns only after the operating system was told to put the commit on disk (fsync). The ask path does
        without: losing its last rows in a power cut costs nothing, at 25 us an insert against 3 ms.
        """
        return self._durable if durable else self._plain

    def write(self, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one writing statement."""
        with self.transaction():
            return self.connection.execute(sql, parameters)

    def write_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one writing statement for each row."""
        with self.transaction():
            self.connection.executemany(sql, rows)

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """All rows of a query."""
        with self.lock:
            return self.connection.execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[object] = ()) -> Row | None:
        """The first row of a query, or None."""
        with self.lock:
            found: Row | None = self.connection.execute(sql, parameters).fetchone()
            return found


class Transaction:
    """Context manager of a transaction; its state is the database's, so one object serves every use.

    A class and not a generator: a dozen nested ones in each answer made those the largest part of its time.
    """

    __slots__ = ("_database", "_durable")

    def __init__(self, database: Database, *, durable: bool) -> None:
        self._database = database
        self._durable = durable

    def __enter__(self) -> None:
        database = self._database
        database.lock.acquire()
        try:
            if database.depth == 0:
                if self._durable:
                    database.connection.execute("PRAGMA synchronous = FULL")
                database.connection.execute("BEGIN IMMEDIATE")
                database.changes = database.connection.total_changes
            elif self._durable:
                raise sqlite3.ProgrammingError("a durable transaction cannot join an open one")
        except BaseException as error:
            if self._durable and database.depth == 0:
                database.connection.execute("PRAGMA synchronous = NORMAL")
            database.lock.release()
            _raise_unwritable(database, error)
            raise
        database.depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        database = self._database
        database.depth -= 1
        try:
            if database.depth == 0:
                self._end(error)
        finally:
            if self._durable and database.depth == 0:
                database.connection.execute("PRAGMA synchronous = NORMAL")
            database.lock.release()

    def _end(self, error: BaseException | None) -> None:
        """Commit, or take back what an error interrupted; SQLite itself has done so where a full disk was the reason."""
        database = self._database
        connection = database.connection
        try:
            if error is None:
                connection.execute("COMMIT")
                if connection.total_changes != database.changes:  # an empty transaction needs no disk and proves nothing
                    database.fault = None
                return
        except sqlite3.Error as failed:
            error = failed
            if not _is_unwritable(failed):
                raise
        finally:
            if connection.in_transaction:  # a commit that failed, on a full disk for one
                connection.execute("ROLLBACK")
        _raise_unwritable(database, error)


def _is_unwritable(error: BaseException | None) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNWRITABLE


def _raise_unwritable(database: Database, error: BaseException | None) -> None:
    """Raise StoreUnwritableError in place of ``error``, if that says that the disk takes nothing."""
    if _is_unwritable(error):
        database.fault = f"the device's store cannot be written ({error}): free some space on its disk"
        raise StoreUnwritableError(database.fault) from error
