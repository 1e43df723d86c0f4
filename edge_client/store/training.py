"""What a device knows of the releases that it trained on: when each base came, and how well it did on the last one.

Durable, since a device that forgot it would train on a strange base, or follow a release that undoes what it knew.
"""

from dataclasses import dataclass

from edge_client.store.database import Database

TRAINING_TABLES = """
CREATE TABLE bases (
    encoder_sha256 TEXT PRIMARY KEY,
    first_seen REAL NOT NULL,
    enrolled INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE last_fit (
    slot INTEGER PRIMARY KEY CHECK (slot = 1),
    encoder_sha256 TEXT NOT NULL,
    examples INTEGER NOT NULL,
    missed REAL NOT NULL,
    at REAL NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Base:
    """A frozen encoder. ``first_seen``: UNIX seconds; ``enrolled``: it is the first that this device ever had."""

    encoder_sha256: str
    first_seen: float
    enrolled: bool


@dataclass(frozen=True, slots=True)
class Fit:
    """How a release did on the device's own examples: ``missed`` is the sum of 1 - probability of the right label."""

    encoder_sha256: str
    examples: int
    missed: float
    at: float


class TrainingTable:
    """The bases by hash, and the fit of the last release whose update has left the device."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def see(self, encoder_sha256: str, *, at: float) -> Base:
        """Note a base unless it is known, and return when it was first seen."""
        known = self._base(encoder_sha256)
        if known is not None:
            return known
        with self._database.transaction(durable=True):
            self._database.write(
                "INSERT INTO bases SELECT ?, ?, NOT EXISTS (SELECT 1 FROM bases) ON CONFLICT DO NOTHING",
                (encoder_sha256, at),
            )
        base = self._base(encoder_sha256)
        assert base is not None
        return base

    def last_fit(self) -> Fit | None:
        """Return the fit of the last release that an update left for, or None."""
        row = self._database.row("SELECT encoder_sha256, examples, missed, at FROM last_fit")
        return None if row is None else Fit(*row)

    def set_last_fit(self, fit: Fit) -> None:
        """Replace the last fit."""
        self._database.write(
            "INSERT INTO last_fit VALUES (1, ?, ?, ?, ?) ON CONFLICT (slot) DO UPDATE SET "
            "encoder_sha256 = excluded.encoder_sha256, examples = excluded.examples, missed = excluded.missed, "
            "at = excluded.at",
            (fit.encoder_sha256, fit.examples, fit.missed, fit.at),
        )

    def _base(self, encoder_sha256: str) -> Base | None:
        row = self._database.row(
            "SELECT encoder_sha256, first_seen, enrolled FROM bases WHERE encoder_sha256 = ?", (encoder_sha256,)
        )
        return None if row is None else Base(row[0], row[1], bool(row[2]))
