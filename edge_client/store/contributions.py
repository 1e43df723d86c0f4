"""The device's privacy ledger: what left it in secure sums, at most one row a purpose and period of the calendar.

A row is on disk before the masked vector leaves. It is never deleted with the data: a device that forgot that it had
contributed could be made to contribute twice, and the two sums differ by its numbers.
"""

from dataclasses import dataclass

from edge_client.store.database import Database

CONTRIBUTION_TABLES = """
CREATE TABLE contributions (
    purpose TEXT NOT NULL,
    period INTEGER NOT NULL,
    at REAL NOT NULL,
    release_id TEXT NOT NULL,
    cohort INTEGER NOT NULL,
    epsilon REAL NOT NULL
) STRICT;

CREATE INDEX contributions_at ON contributions (purpose, at);

ALTER TABLE probes ADD COLUMN scored INTEGER NOT NULL DEFAULT 0;
UPDATE probes SET spent = 1 WHERE would_stay_local = 0;
"""


@dataclass(frozen=True, slots=True)
class ContributionEntry:
    """One contribution: its purpose and period, when it left (Unix time), about which release, in a cohort of how many.

    ``epsilon`` is what the sum may tell about one probe of a histogram; 0 where the purpose adds no such noise.
    """

    purpose: str
    period: int
    at: float
    release_id: str
    cohort: int
    epsilon: float = 0.0


@dataclass(frozen=True, slots=True)
class ContributionTotals:
    """All contributions to one purpose: how many, the newest one's period and time, and the sum of their epsilons."""

    purpose: str
    count: int
    period: int
    at: float
    epsilon: float


class ContributionTable:
    """What was contributed, by purpose and period."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def spent(self, purpose: str, *, since: float) -> bool:
        """Tell whether anything left for ``purpose`` since a period began (Unix time), or later than that by any clock.

        Times are compared, not indices: neither a clock that was set back nor another calendar opens a period again.
        """
        row = self._database.row("SELECT max(at) FROM contributions WHERE purpose = ?", (purpose,))
        return row is not None and row[0] is not None and row[0] >= since

    def spend(self, entry: ContributionEntry, *, since: float) -> bool:
        """Note a contribution that is about to leave; return False, and change nothing, where its period is spent.

        Call it inside a durable transaction, with all else that is spent with it.
        """
        if self.spent(entry.purpose, since=since):
            return False
        self._database.write(
            "INSERT INTO contributions VALUES (?, ?, ?, ?, ?, ?)",
            (entry.purpose, entry.period, entry.at, entry.release_id, entry.cohort, entry.epsilon),
        )
        return True

    def totals(self) -> list[ContributionTotals]:
        """Return the ledger summed up by purpose, in alphabetical order."""
        rows = self._database.rows(
            "SELECT purpose, count(*), max(period), max(at), sum(epsilon) FROM contributions "
            "GROUP BY purpose ORDER BY purpose"
        )
        return [ContributionTotals(*row) for row in rows]
