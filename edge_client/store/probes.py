"""Probes: queries drawn by a coin that went to central for calibration. Never used for training.

A probe is recorded once for each distinct query, with what the device would have answered under the release that was live
when it came in. From these records come the running pairs (probes that would have stayed local, and how many of those
disagreed with central); a pair is spent once the vector that carries it has left the device.

Whether a query is a probe: fixed when the query is first seen, shared by all its repetitions.

The draw itself belongs to the caller; here it is only remembered. A query's content is not kept, its hash is. ``counted``
says that the query's probe has been recorded, once and for all (see `edge_client.store.probes`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_client.store.database import Database, Row
from edge_client.store.labelled_queries import query_from_blob, query_to_blob
from fedge.features import Query

_HASHES_A_QUERY = 500  # SQLite's limit on bound values is far above; a longer statement only costs parsing


class FateTable:
    """Fates by content hash."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def settle(self, draws: Mapping[bytes, bool], *, at: float) -> dict[bytes, bool]:
        """Fix the fate of each query (content hash to probe or not) that was never seen; returns the fates that hold."""
        hashes = list(draws)
        with self._database.transaction():
            known = self._known(hashes)
            new = [(content_hash, int(draws[content_hash]), at) for content_hash in hashes if content_hash not in known]
            if new:
                self._database.write_many("INSERT INTO fates (content_hash, probe, first_seen) VALUES (?, ?, ?)", new)
        return {content_hash: known.get(content_hash, draws[content_hash]) for content_hash in hashes}

    def _known(self, hashes: Sequence[bytes]) -> dict[bytes, bool]:
        found: dict[bytes, bool] = {}
        for start in range(0, len(hashes), _HASHES_A_QUERY):
            part = hashes[start : start + _HASHES_A_QUERY]
            marks = ",".join("?" * len(part))
            sql = f"SELECT content_hash, probe FROM fates WHERE content_hash IN ({marks})"  # noqa: S608 (only marks)
            found.update((content_hash, bool(probe)) for content_hash, probe in self._database.rows(sql, part))
        return found

    def count(self) -> tuple[int, int]:
        """How many distinct queries were seen, and how many of them are probes."""
        row = self._database.row("SELECT count(*), coalesce(sum(probe), 0) FROM fates")
        assert row is not None
        return row[0], row[1]


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
