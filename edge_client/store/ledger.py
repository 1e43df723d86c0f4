"""The device's part of the ledger: rows as they happen, folded into one row a day once they have been reported.

Totals since a mark are what a round reports; what lies before it is kept by day, so that the table stays small for years.

The questions whose price a device has set aside while they are under way, and what is in its buckets of tokens.

Both outlive a restart. What was set aside when the process ended stays so for that day: central may have been paid.
Knows no limit: `edge_client.inference.budget` decides.
"""

from collections.abc import Iterable

from edge_client.store.database import Database, Row
from fedge.costs import Kind, LedgerEntry, Payer, Totals

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


_INSERT = (
    "INSERT INTO ledger (at, payer, kind, quantity, unit, price_usd, amount_usd, source) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_SELECT = "SELECT at, payer, kind, quantity, unit, price_usd, amount_usd, source FROM ledger WHERE id > ? ORDER BY id"
_DAY_S = 86_400.0


class LedgerTable:
    """Ledger rows in the order in which they were written."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entries: Iterable[LedgerEntry]) -> None:
        """Write rows."""
        self._database.write_many(
            _INSERT,
            (
                (row.at, row.payer, row.kind, row.quantity, row.unit, row.price_usd, row.amount_usd, row.source)
                for row in entries
            ),
        )

    def mark(self) -> int:
        """A mark after the newest row; 0 before the first."""
        row = self._database.row("SELECT seq FROM sqlite_sequence WHERE name = 'ledger'")
        return int(row[0]) if row else 0

    def since(self, mark: int = 0) -> list[LedgerEntry]:
        """The rows written after ``mark``, oldest first; those that were folded are not among them."""
        return [_entry(row) for row in self._database.rows(_SELECT, (mark,))]

    def totals(self, since: int = 0) -> Totals:
        """Sums of the rows written after the mark ``since``."""
        return Totals.of(self.since(since))

    def energy_j(self) -> dict[str, float]:
        """Joules of the device's own work since it began, by who says so: "model" or a sensor's name."""
        rows = self._database.rows(
            "SELECT source, sum(quantity) FROM (SELECT source, quantity FROM ledger WHERE source != '' "
            "UNION ALL SELECT source, quantity FROM ledger_days WHERE source != '') GROUP BY source ORDER BY source"
        )
        return {str(source): float(joules) for source, joules in rows}

    def lifetime(self) -> Totals:
        """Sums of everything ever written, folded or not."""
        rows = self._database.rows(
            "SELECT payer, kind, sum(quantity), sum(amount_usd) FROM ("
            "SELECT payer, kind, quantity, amount_usd FROM ledger UNION ALL "
            "SELECT payer, kind, quantity, amount_usd FROM ledger_days) GROUP BY payer, kind"
        )
        return Totals({(Payer(payer), Kind(kind)): (quantity, usd) for payer, kind, quantity, usd in rows})

    def paid_to_central_usd(self, *, day_of: float) -> float:
        """What central's answers, probes among them, cost on the day (UTC) that holds the time ``day_of``."""
        day = int(day_of // _DAY_S)
        row = self._database.row(
            "SELECT (SELECT coalesce(sum(amount_usd), 0.0) FROM ledger "
            "WHERE kind IN ('escalations', 'probes') AND at >= ? AND at < ?) + "
            "(SELECT coalesce(sum(amount_usd), 0.0) FROM ledger_days WHERE kind IN ('escalations', 'probes') AND day = ?)",
            (day * _DAY_S, (day + 1) * _DAY_S, day),
        )
        assert row is not None
        return float(row[0])

    def fold(self, mark: int) -> None:
        """Replace the rows up to ``mark`` by one a day, payer, kind, unit, price and source."""
        with self._database.transaction():
            self._database.write(
                "INSERT INTO ledger_days "
                "SELECT CAST(at / ? AS INTEGER), payer, kind, unit, price_usd, sum(quantity), sum(amount_usd), source "
                "FROM ledger WHERE id <= ? GROUP BY 1, 2, 3, 4, 5, source "
                "ON CONFLICT DO UPDATE SET quantity = quantity + excluded.quantity, "
                "amount_usd = amount_usd + excluded.amount_usd",
                (_DAY_S, mark),
            )
            self._database.write("DELETE FROM ledger WHERE id <= ?", (mark,))

    def days(self) -> list[LedgerEntry]:
        """The folded rows; ``at`` is the start of the day (UTC)."""
        rows = self._database.rows(
            "SELECT day * ?, payer, kind, quantity, unit, price_usd, amount_usd, source FROM ledger_days "
            "ORDER BY day, payer, kind, price_usd, source",
            (_DAY_S,),
        )
        return [_entry(row) for row in rows]


def _entry(row: Row) -> LedgerEntry:
    at, payer, kind, quantity, unit, price_usd, amount_usd, source = row
    return LedgerEntry(at, Payer(payer), Kind(kind), quantity, unit, price_usd, amount_usd, source)
