"""Questions that central should have answered and could not: asked again later.

Most are kept for the sake of their labels, their users having had the device's own answer; these go first when room is
wanted. A question that a caller had queued is *acknowledged*: it stays until central answers or it is too old. Bounded in
number, bytes of queries and age. A probe is only kept where a caller had it queued, and then ``learn`` is false.

Answers that callers asked to have queued, by their number: still waiting, or what became of them.

The question itself stands in the outbox; this says to whom its answer belongs. Several numbers may wait for one question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edge_client.store.database import Database
from edge_client.store.labelled_queries import query_from_blob, query_to_blob
from fedge.features import Query

State = Literal["queued", "answered", "refused", "expired"]


@dataclass(frozen=True, slots=True)
class QueuedAnswer:
    """``label`` and ``answered_by`` once central has answered; ``at``: when it was queued, then when it was settled."""

    answer_id: int
    state: State
    label: str | None
    answered_by: str | None
    price_usd: float | None
    at: float


class Waiting:
    """Queued answers by number."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, waiting: Sequence[tuple[int, bytes]], *, at: float) -> None:
        """Note that these answer numbers wait for these questions (content hashes)."""
        if not waiting:
            return
        self._database.write_many(
            "INSERT INTO waiting (answer_id, content_hash, state, at) VALUES (?, ?, 'queued', ?)",
            ((answer_id, content_hash, at) for answer_id, content_hash in waiting),
        )

    def settle(
        self,
        content_hash: bytes,
        state: State,
        *,
        at: float,
        label: str | None = None,
        answered_by: str | None = None,
        price_usd: float | None = None,
    ) -> None:
        """Tell everyone who waits for this question what became of it."""
        self._database.write(
            "UPDATE waiting SET state = ?, label = ?, answered_by = ?, price_usd = ?, at = ? "
            "WHERE content_hash = ? AND state = 'queued'",
            (state, label, answered_by, price_usd, at, content_hash),
        )

    def get(self, answer_id: int) -> QueuedAnswer | None:
        """What became of one, or None where that number was never queued."""
        row = self._database.row(
            "SELECT answer_id, state, label, answered_by, price_usd, at FROM waiting WHERE answer_id = ?", (answer_id,)
        )
        return None if row is None else QueuedAnswer(*row)

    def __len__(self) -> int:
        """How many still wait."""
        row = self._database.row("SELECT count(*) FROM waiting WHERE state = 'queued'")
        return int(row[0]) if row else 0


_INSERT = "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?)"
_MAKE_ROOM = """DELETE FROM outbox WHERE content_hash IN (
SELECT content_hash FROM outbox WHERE acknowledged = 0 ORDER BY at, content_hash LIMIT 1)"""


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question as it was first put, with the key that keeps central from charging it twice."""

    content_hash: bytes
    query: Query
    idempotency_key: str
    release_id: str
    at: float
    learn: bool = True
    acknowledged: bool = False


class Outbox:
    """Open questions by content hash: at most ``max_rows`` of them, with ``max_bytes`` of queries (None: no bound)."""

    def __init__(self, database: Database, *, max_rows: int, max_bytes: int | None = None) -> None:
        self._database = database
        self._max_rows = max_rows
        self._max_bytes = max_bytes

    def add(self, questions: Sequence[OpenQuestion]) -> set[bytes]:
        """Keep questions while there is room; one that is already open stays as it is. Returns those that stand now.

        An acknowledged question takes the room of others that are not.
        """
        kept: set[bytes] = set()
        if not questions:
            return kept
        with self._database.transaction():
            for question in questions:
                if self._keep(question):
                    kept.add(question.content_hash)
        return kept

    def oldest(self, count: int) -> list[OpenQuestion]:
        """The ``count`` oldest open questions, acknowledged ones first."""
        rows = self._database.rows(
            "SELECT content_hash, query, idempotency_key, release_id, at, learn, acknowledged FROM outbox "
            "ORDER BY acknowledged DESC, at, content_hash LIMIT ?",
            (count,),
        )
        return [
            OpenQuestion(row[0], query_from_blob(row[1]), row[2], row[3], row[4], bool(row[5]), bool(row[6])) for row in rows
        ]

    def close(self, hashes: Sequence[bytes]) -> None:
        """Drop questions that were answered, or that never will be."""
        self._database.write_many("DELETE FROM outbox WHERE content_hash = ?", ((content_hash,) for content_hash in hashes))

    def older_than(self, at: float) -> list[bytes]:
        """Content hashes of the questions that were put before ``at``."""
        return [row[0] for row in self._database.rows("SELECT content_hash FROM outbox WHERE at < ?", (at,))]

    @property
    def size_bytes(self) -> int:
        """Bytes of the queries that are kept."""
        return self._size()[1]

    def __len__(self) -> int:
        """How many questions are open."""
        return self._size()[0]

    def _keep(self, question: OpenQuestion) -> bool:
        known = self._database.row("SELECT acknowledged FROM outbox WHERE content_hash = ?", (question.content_hash,))
        if known is not None:
            if question.acknowledged and not known[0]:
                self._database.write("UPDATE outbox SET acknowledged = 1 WHERE content_hash = ?", (question.content_hash,))
            return True
        blob = query_to_blob(question.query)
        if self._max_bytes is not None and len(blob) > self._max_bytes:
            return False
        while not self._fits(len(blob)):
            # Only others' room may be taken, and only for a question that somebody was told would be kept.
            if not question.acknowledged or self._database.write(_MAKE_ROOM).rowcount == 0:
                return False
        row = (question.content_hash, blob, question.idempotency_key, question.release_id, question.at)
        self._database.write(_INSERT, (*row, int(question.learn), int(question.acknowledged)))
        return True

    def _fits(self, size_bytes: int) -> bool:
        questions, used_bytes = self._size()
        return questions < self._max_rows and (self._max_bytes is None or used_bytes + size_bytes <= self._max_bytes)

    def _size(self) -> tuple[int, int]:
        row = self._database.row("SELECT questions, bytes FROM outbox_size")
        assert row is not None
        return int(row[0]), int(row[1])
