"""Probes: queries drawn by a coin that went to central for calibration. Never used for training.

A probe is recorded once for each distinct query, with what the device would have answered under the release that was live
when it came in. From these records come the running pairs (probes that would have stayed local, and how many of those
disagreed with central); a pair is spent once the vector that carries it has left the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edge_client.store.blobs import query_from_blob, query_to_blob
from edge_client.store.database import Database, Row
from fedge.features import Query

_INSERT = """INSERT INTO probes
(content_hash, query, central_label, predicted_label, confidence, release_id, publication, would_stay_local, at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_SELECT = """SELECT
content_hash, query, central_label, predicted_label, confidence, release_id, publication, would_stay_local, at
FROM probes """


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe as it came in. ``publication``: the newest threshold publication that the device had then."""

    content_hash: bytes
    query: Query
    central_label: str
    predicted_label: str
    confidence: float
    release_id: str
    publication: int
    would_stay_local: bool
    at: float

    @property
    def disagreed(self) -> bool:
        """The device would have answered otherwise than central."""
        return self.predicted_label != self.central_label


@dataclass(frozen=True, slots=True)
class ProbeSelection:
    """The probes that one sum may carry: ``fresh`` ones for the first time, ``old`` ones scored once more."""

    fresh: tuple[Probe, ...]
    old: tuple[Probe, ...]

    @property
    def running_pair(self) -> tuple[int, int]:
        """Return how many of the fresh probes would have stayed local, and how many of those disagreed with central."""
        local = [probe for probe in self.fresh if probe.would_stay_local]
        return len(local), sum(probe.disagreed for probe in local)


class ProbeTable:
    """Probes by content hash, at most ``max_rows`` of them: the oldest go."""

    def __init__(self, database: Database, *, max_rows: int) -> None:
        self._database = database
        self._max_rows = max_rows

    def record(self, probes: Sequence[Probe]) -> None:
        """Store probes of queries whose probe was not recorded before; others change nothing, whatever they say."""
        if not probes:
            return
        with self._database.transaction():
            for probe in probes:
                claimed = self._database.write(
                    "UPDATE fates SET counted = 1 WHERE content_hash = ? AND probe = 1 AND counted = 0",
                    (probe.content_hash,),
                )
                if claimed.rowcount:
                    self._database.write(_INSERT, _to_row(probe))
            self._database.write(
                "DELETE FROM probes WHERE id <= (SELECT max(id) FROM probes) - ?", (self._max_rows,)
            )

    def all(self) -> list[Probe]:
        """Return every stored probe, oldest first."""
        return [_from_row(row) for row in self._database.rows(_SELECT + "ORDER BY id")]

    def fresh_count(self) -> int:
        """Return how many stored probes no vector has carried yet."""
        row = self._database.row("SELECT count(*) FROM probes WHERE spent = 0")
        return int(row[0]) if row else 0

    def select(self, *, fresh: int, max_scored: int, most: int | None = None) -> ProbeSelection:
        """Return the ``fresh`` oldest uncarried probes, and the carried ones scored less than ``max_scored`` times.

        Where these are more than ``most`` together, the oldest carried ones stay out.
        """
        new = self._database.rows(_SELECT + "WHERE spent = 0 ORDER BY id LIMIT ?", (fresh,))
        old = self._database.rows(_SELECT + "WHERE spent = 1 AND scored < ? ORDER BY id", (max_scored,))
        kept = old if most is None else old[max(0, len(old) + len(new) - most) :]
        return ProbeSelection(tuple(map(_from_row, new)), tuple(map(_from_row, kept)))

    def mark_sent(self, selection: ProbeSelection) -> None:
        """Note that these probes are leaving in a masked vector."""
        self._database.write_many(
            "UPDATE probes SET spent = 1, scored = scored + 1 WHERE content_hash = ?",
            ((probe.content_hash,) for probe in (*selection.fresh, *selection.old)),
        )

    def __len__(self) -> int:
        """How many probes are stored."""
        row = self._database.row("SELECT count(*) FROM probes")
        return int(row[0]) if row else 0


def _to_row(probe: Probe) -> Row:
    return (
        probe.content_hash,
        query_to_blob(probe.query),
        probe.central_label,
        probe.predicted_label,
        probe.confidence,
        probe.release_id,
        probe.publication,
        int(probe.would_stay_local),
        probe.at,
    )


def _from_row(row: Row) -> Probe:
    content_hash, query, central_label, predicted_label, confidence, release_id, publication, would_stay_local, at = row
    return Probe(
        content_hash=content_hash,
        query=query_from_blob(query),
        central_label=central_label,
        predicted_label=predicted_label,
        confidence=confidence,
        release_id=release_id,
        publication=publication,
        would_stay_local=bool(would_stay_local),
        at=at,
    )
