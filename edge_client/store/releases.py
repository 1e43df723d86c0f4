"""How releases fared on this device, one row each, and the release to go back to. What was rolled back is never forgotten.

    trying -> watched -> healthy
       |         |
       v         v
        rolled_back

It knows no rule: `edge_client.releases.health_window` decides. Counters that went into a secure sum are noted as sent:
none goes twice.

Which release a device runs and under which certificate. The files themselves lie in the release folder.
"""

from dataclasses import dataclass
from typing import Literal

from edge_client.store.database import Database


@dataclass(frozen=True, slots=True)
class InstalledRelease:
    """The release in use and its signed certificate, if any. ``version`` and ``publication`` (the round of the newest
    certificate that the device ever had) are the marks below which nothing is installed."""

    release_id: str
    version: int
    certificate: bytes | None
    publication: int


class Installed:
    """The one installed release."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self) -> InstalledRelease | None:
        """What is installed, or None on a new device."""
        row = self._database.row("SELECT release_id, version, certificate, publication FROM installed")
        return None if row is None else InstalledRelease(*row)

    def clear(self) -> None:
        """Nothing is installed."""
        self._database.write("DELETE FROM installed")

    def set(self, installed: InstalledRelease) -> None:
        """Replace what is installed."""
        self._database.write(
            "INSERT INTO installed VALUES (1, ?, ?, ?, ?) ON CONFLICT (slot) DO UPDATE SET "
            "release_id = excluded.release_id, version = excluded.version, certificate = excluded.certificate, "
            "publication = excluded.publication",
            (installed.release_id, installed.version, installed.certificate, installed.publication),
        )


HEALTH_TABLES = """
CREATE TABLE release_health (
    release_id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('trying', 'watched', 'healthy', 'rolled_back')),
    since REAL NOT NULL,
    starts INTEGER NOT NULL DEFAULT 0,
    answered INTEGER NOT NULL DEFAULT 0,
    errors INTEGER NOT NULL DEFAULT 0,
    routed INTEGER NOT NULL DEFAULT 0,
    escalated INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    sent_taken INTEGER NOT NULL DEFAULT 0,
    sent_rolled_back INTEGER NOT NULL DEFAULT 0,
    sent_answered INTEGER NOT NULL DEFAULT 0,
    sent_errors INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE installed_before (
    slot INTEGER PRIMARY KEY CHECK (slot = 1),
    release_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    certificate BLOB,
    publication INTEGER NOT NULL
) STRICT;
"""

State = Literal["trying", "watched", "healthy", "rolled_back"]
_SELECT = "SELECT release_id, state, since, starts, answered, errors, routed, escalated, reason FROM release_health"


@dataclass(frozen=True, slots=True)
class ReleaseHealth:
    """One release on this device. ``starts``: attempts to load it, or starts of the process under it, that did not end well.

    ``answered`` queries, ``errors`` of its model; of the queries ``routed`` under a threshold, how many were ``escalated``.
    """

    release_id: str
    state: State
    since: float
    starts: int
    answered: int
    errors: int
    routed: int
    escalated: int
    reason: str


@dataclass(frozen=True, slots=True)
class HealthCounts:
    """What no secure sum has carried yet of one release: was it taken and rolled back (0 or 1), queries and errors."""

    release_id: str
    taken: int
    rolled_back: int
    answered: int
    errors: int


class HealthTable:
    """The fate of each release that this device ever tried."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, release_id: str) -> ReleaseHealth | None:
        """One release, or None where it never came here."""
        row = self._database.row(_SELECT + " WHERE release_id = ?", (release_id,))
        return None if row is None else ReleaseHealth(*row)

    def all(self) -> list[ReleaseHealth]:
        """Every release, the one that came last at the end."""
        return [ReleaseHealth(*row) for row in self._database.rows(_SELECT + " ORDER BY rowid")]

    def newest_given_up(self) -> str | None:
        """Of the releases that were given up, the one that came last."""
        row = self._database.row(
            "SELECT release_id FROM release_health WHERE state = 'rolled_back' ORDER BY rowid DESC LIMIT 1"
        )
        return None if row is None else str(row[0])

    def enter(self, release_id: str, state: State, *, at: float, reason: str = "") -> None:
        """Move a release to a state, its row made where there is none; failed starts of the state before are forgotten."""
        self._database.write(
            "INSERT INTO release_health (release_id, state, since, reason) VALUES (?, ?, ?, ?) ON CONFLICT (release_id) "
            "DO UPDATE SET state = excluded.state, since = excluded.since, reason = excluded.reason, starts = 0",
            (release_id, state, at, reason),
        )

    def count_start(self, release_id: str, by: int) -> None:
        """Count a start. To be put on disk before it is made: the process may be gone the next moment."""
        self._database.write("UPDATE release_health SET starts = max(0, starts + ?) WHERE release_id = ?", (by, release_id))

    def count(self, release_id: str, *, answered: int, errors: int, routed: int, escalated: int) -> None:
        """Add to a release's counters."""
        self._database.write(
            "UPDATE release_health SET answered = answered + ?, errors = errors + ?, routed = routed + ?, "
            "escalated = escalated + ? WHERE release_id = ?",
            (answered, errors, routed, escalated, release_id),
        )

    def pending(self, release_id: str) -> HealthCounts:
        """What no secure sum has carried yet; zeros for a release that this device never took."""
        row = self._database.row(
            "SELECT (state != 'trying') - sent_taken, (state = 'rolled_back') - sent_rolled_back, "
            "answered - sent_answered, errors - sent_errors FROM release_health WHERE release_id = ?",
            (release_id,),
        )
        return HealthCounts(release_id, *(max(0, value) for value in (row or (0, 0, 0, 0))))

    def mark_sent(self, counts: HealthCounts) -> None:
        """Note that ``counts`` are leaving in a masked vector."""
        self._database.write(
            "UPDATE release_health SET sent_taken = sent_taken + ?, sent_rolled_back = sent_rolled_back + ?, "
            "sent_answered = sent_answered + ?, sent_errors = sent_errors + ? WHERE release_id = ?",
            (counts.taken, counts.rolled_back, counts.answered, counts.errors, counts.release_id),
        )

    # The release to go back to while another one is watched.

    def before(self) -> InstalledRelease | None:
        """What ran before the release that is watched, or None."""
        row = self._database.row("SELECT release_id, version, certificate, publication FROM installed_before")
        return None if row is None else InstalledRelease(*row)

    def set_before(self, before: InstalledRelease | None) -> None:
        """Keep ``before`` as the release to go back to, or none."""
        with self._database.transaction():
            self._database.write("DELETE FROM installed_before")
            if before is not None:
                self._database.write(
                    "INSERT INTO installed_before VALUES (1, ?, ?, ?, ?)",
                    (before.release_id, before.version, before.certificate, before.publication),
                )
