"""The durable state of secure aggregation: open sessions, the last accepted round, spent updates.

Sessions and rounds are on disk (fsync) before a call returns: a device that forgot what it had already sent could be made to
send it again under another roster. Erasing overwrites the rows (``secure_delete``) and empties the write-ahead log; what a
flash controller keeps in its spare blocks is outside of what a program can erase.
"""

from edge_client.store.database import Database


class SessionTable:
    """States by slot (a session's name), and the two things that must outlive every session."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, slot: str, state: bytes) -> None:
        """Store ``state`` under ``slot``, replacing what stood there."""
        with self._database.transaction(durable=True):
            self._database.write(
                "INSERT INTO sessions VALUES (?, ?) ON CONFLICT (slot) DO UPDATE SET state = excluded.state", (slot, state)
            )

    def load(self, slot: str) -> bytes | None:
        """The state under ``slot``, or None."""
        row = self._database.row("SELECT state FROM sessions WHERE slot = ?", (slot,))
        return None if row is None else bytes(row[0])

    def slots(self) -> list[str]:
        """Names of all stored sessions."""
        return [row[0] for row in self._database.rows("SELECT slot FROM sessions ORDER BY slot")]

    def erase(self, slot: str) -> None:
        """Forget the session and overwrite its bytes."""
        with self._database.transaction(durable=True):
            self._database.write("DELETE FROM sessions WHERE slot = ?", (slot,))
        self._database.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def accept(self, federation: str, *, round_number: int, attempt: int) -> bool:
        """Store (round, attempt) as the last accepted one if it is above the stored one; False, and no change, if not."""
        with self._database.transaction(durable=True):
            changed = self._database.write(
                "INSERT INTO accepted VALUES (?, ?, ?) ON CONFLICT (federation) DO UPDATE SET "
                "round = excluded.round, attempt = excluded.attempt "
                "WHERE (excluded.round, excluded.attempt) > (round, attempt)",
                (federation, round_number, attempt),
            )
            return changed.rowcount == 1

    def last_accepted(self, federation: str) -> tuple[int, int] | None:
        """The last accepted (round, attempt), or None."""
        row = self._database.row("SELECT round, attempt FROM accepted WHERE federation = ?", (federation,))
        return None if row is None else (row[0], row[1])

    def is_spent(self, update_hash: bytes) -> bool:
        """Whether `spend_update` marked it."""
        return self._database.row("SELECT 1 FROM spent_updates WHERE update_hash = ?", (update_hash,)) is not None

    def spend_update(self, update_hash: bytes) -> bool:
        """Mark an update as having left the device; False if it had already: it must then never be masked again.

        Call it inside a durable transaction, with all else that is spent with it.
        """
        changed = self._database.write("INSERT INTO spent_updates VALUES (?) ON CONFLICT DO NOTHING", (update_hash,))
        return changed.rowcount == 1
