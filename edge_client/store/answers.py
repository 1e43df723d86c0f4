"""The log of answers, kept so that a user can correct one by its number. Bounded; the oldest go."""

from collections.abc import Sequence
from dataclasses import dataclass

from edge_client.store.database import Database, Row
from edge_client.store.labelled_queries import query_from_blob, query_to_blob
from fedge.features import Query

_SWEEP = 64  # looking for what is too many takes as long as logging an answer


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """One answer as it was given. ``probe``: the query is a probe, so its label must never be trained on."""

    content_hash: bytes
    query: Query
    answer: str | None
    answered_by: str
    probe: bool
    at: float


class AnswerLog:
    """Answers by number, the newest ``max_rows`` of them and a few more."""

    def __init__(self, database: Database, *, max_rows: int) -> None:
        self._database = database
        self._max_rows = max_rows

    def upcoming(self) -> int:
        """The number that the next answer gets."""
        row = self._database.row("SELECT seq FROM sqlite_sequence WHERE name = 'answers'")
        return int(row[0]) + 1 if row else 1

    def reserve(self, count: int) -> int:
        """The first of ``count`` numbers in a row, never to be given again whether or not an answer is logged under them."""
        with self._database.transaction():
            row = self._database.row("SELECT seq FROM sqlite_sequence WHERE name = 'answers'")
            last = row[0] if row else 0
            if row is None:
                self._database.write("INSERT INTO sqlite_sequence (name, seq) VALUES ('answers', ?)", (count,))
            else:
                self._database.write("UPDATE sqlite_sequence SET seq = ? WHERE name = 'answers'", (last + count,))
        return int(last) + 1

    def append(self, first: int, answers: Sequence[LoggedAnswer]) -> None:
        """Log answers under their numbers from ``first`` on; those that are too many go, now and then."""
        with self._database.transaction():
            self._database.write_many(
                "INSERT INTO answers (id, content_hash, query, answer, answered_by, probe, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (_to_row(first + index, answer) for index, answer in enumerate(answers)),
            )
            if first % _SWEEP < len(answers):
                self._database.write("DELETE FROM answers WHERE id <= ?", (first + len(answers) - 1 - self._max_rows,))

    def get(self, answer_id: int) -> LoggedAnswer | None:
        """The answer with that number, or None where it is unknown or long gone."""
        row = self._database.row(
            "SELECT content_hash, query, answer, answered_by, probe, at FROM answers WHERE id = ?", (answer_id,)
        )
        if row is None:
            return None
        content_hash, query, answer, answered_by, probe, at = row
        return LoggedAnswer(content_hash, query_from_blob(query), answer, answered_by, bool(probe), at)


def _to_row(answer_id: int, answer: LoggedAnswer) -> Row:
    query = query_to_blob(answer.query)
    return answer_id, answer.content_hash, query, answer.answer, answer.answered_by, int(answer.probe), answer.at
