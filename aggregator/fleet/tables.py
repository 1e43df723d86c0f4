"""Small SQLite files beside the fleet's folders: opened for each operation, so that the server and the command line may both
work on them at once. Write transactions take the lock first and are all or nothing.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedge.errors import FedgeError, InputError

BUSY_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Tables:
    """One SQLite file with a fixed schema (``CREATE TABLE IF NOT EXISTS ...``)."""

    path: Path
    schema: str

    def create(self) -> None:
        """Makes the file and its tables where they are missing. Raises InputError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(self.schema)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"cannot open {self.path}: {error}") from None

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection whose statements see one consistent state."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A connection that holds the write lock until the block ends; an exception undoes all of it."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._connect()) as connection:
                connection.execute(begin)
                try:
                    yield connection
                except BaseException:
                    if connection.in_transaction:  # some errors have already undone it
                        connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise FedgeError(f"{self.path}: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        return connection
