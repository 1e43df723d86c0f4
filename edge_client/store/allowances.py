"""The questions whose price a device has set aside while they are under way, and what is in its buckets of tokens.

Both outlive a restart. What was set aside when the process ended stays so for that day: central may have been paid.
Knows no limit: `edge_client.answering.spending` decides.
"""

from edge_client.store.database import Database

ALLOWANCE_TABLES = """
CREATE TABLE set_aside (
    day INTEGER PRIMARY KEY,
    questions INTEGER NOT NULL
) STRICT;

CREATE TABLE buckets (
    name TEXT PRIMARY KEY,
    tokens REAL NOT NULL,
    at REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""

_DAY_S = 86_400.0


class Allowances:
    """Questions set aside by day (UTC), and buckets by name. Safe to share between threads inside a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def under_way(self, *, day_of: float) -> int:
        """How many questions are set aside on the day that holds the time ``day_of``."""
        row = self._database.row("SELECT questions FROM set_aside WHERE day = ?", (_day(day_of),))
        return int(row[0]) if row else 0

    def set_aside(self, questions: int, *, day_of: float) -> None:
        """Set more aside on that day, or (below 0) release some; other days are forgotten once they are over."""
        day = _day(day_of)
        with self._database.transaction():
            self._database.write(
                "INSERT INTO set_aside VALUES (?, max(0, ?)) "
                "ON CONFLICT (day) DO UPDATE SET questions = max(0, questions + ?)",
                (day, questions, questions),
            )
            self._database.write("DELETE FROM set_aside WHERE day < ?", (day - 1,))

    def bucket(self, name: str) -> tuple[float, float] | None:
        """What was in a bucket, and when; None for one that was never used."""
        row = self._database.row("SELECT tokens, at FROM buckets WHERE name = ?", (name,))
        return (float(row[0]), float(row[1])) if row else None

    def fill(self, name: str, tokens: float, *, at: float) -> None:
        """Keep what is in a bucket at the time ``at``."""
        self._database.write("INSERT OR REPLACE INTO buckets VALUES (?, ?, ?)", (name, tokens, at))


def _day(at: float) -> int:
    return int(at // _DAY_S)
