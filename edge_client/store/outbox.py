"""Questions that central should have answered and could not: asked again later, for the sake of their labels.

The user has had the device's own answer by then. Probes are not kept here: a probe that never reached central is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edge_client.store.blobs import query_from_blob, query_to_blob
from edge_client.store.database import Database
from fedge.features import Query


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question as it was first put, with the key that keeps central from charging it twice."""

    content_hash: bytes
    query: Query
    idempotency_key: str
    release_id: str
    at: float


class Outbox:
    """Open questions by content hash, the first ``max_rows`` of them."""

    def __init__(self, database: Database, *, max_rows: int) -> None:
        self._database = database
        self._max_rows = max_rows

    def add(self, questions: Sequence[OpenQuestion]) -> None:
        """Keep questions while there is room; one that is already open stays as it is."""
        if not questions:
            return
        self._database.write_many(
            "INSERT INTO outbox SELECT ?, ?, ?, ?, ? WHERE (SELECT count(*) FROM outbox) < ? ON CONFLICT DO NOTHING",
            (
                (q.content_hash, query_to_blob(q.query), q.idempotency_key, q.release_id, q.at, self._max_rows)
                for q in questions
            ),
        )

    def oldest(self, count: int) -> list[OpenQuestion]:
        """The ``count`` oldest open questions."""
        rows = self._database.rows(
            "SELECT content_hash, query, idempotency_key, release_id, at FROM outbox ORDER BY at, content_hash LIMIT ?",
            (count,),
        )
        return [OpenQuestion(row[0], query_from_blob(row[1]), row[2], row[3], row[4]) for row in rows]

    def close(self, hashes: Sequence[bytes]) -> None:
        """Drop questions that were answered, or that never will be."""
        self._database.write_many("DELETE FROM outbox WHERE content_hash = ?", ((content_hash,) for content_hash in hashes))

    def __len__(self) -> int:
        """How many questions are open."""
        row = self._database.row("SELECT count(*) FROM outbox")
        return int(row[0]) if row else 0
