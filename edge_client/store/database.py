"""One SQLite connection with explicit, nestable transactions; the tables of the store share it.

Knows nothing of what the tables mean. Writes outside a transaction do not exist here: every write goes through `write` or
`write_many`, which open one where none is open.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Row = tuple[Any, ...]


class Database:
    """A connection, a lock and the depth of the open transaction. Safe to share between the threads of one process."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        connection.isolation_level = None  # transactions are ours to open: the module's implicit ones hide where they end
        self.connection = connection
        self._lock = threading.RLock()
        self._depth = 0

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """All writes inside happen together or not at all; a nested one joins the outer one.

        ``durable`` returns only after the operating system was told to put the commit on disk (fsync). The ask path does
        without: losing its last rows in a power cut costs nothing, at 25 us an insert against 3 ms.
        """
        with self._lock:
            if self._depth:
                if durable:
                    raise sqlite3.ProgrammingError("a durable transaction cannot join an open one")
                yield
                return
            if durable:
                self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
            except BaseException:
                self.connection.execute("ROLLBACK")
                raise
            else:
                self.connection.execute("COMMIT")
            finally:
                self._depth = 0
                if durable:
                    self.connection.execute("PRAGMA synchronous = NORMAL")

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
        with self._lock:
            return self.connection.execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[object] = ()) -> Row | None:
        """The first row of a query, or None."""
        with self._lock:
            found: Row | None = self.connection.execute(sql, parameters).fetchone()
            return found
