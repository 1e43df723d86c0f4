"""Answers that callers asked to have queued, by their number: still waiting, or what became of them.

The question itself stands in the outbox; this says to whom its answer belongs. Several numbers may wait for one question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edge_client.store.database import Database

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
