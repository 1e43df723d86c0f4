"""The labelled queries that a device trains on: central's answers and its user's corrections. Never a probe.

Bounded: the oldest go. A correction overrides central's label for good and is the newest row.

Queries and probability vectors as database values: one tag byte, then UTF-8 text or little-endian float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_client.store.database import Database, Row
from fedge.errors import VerificationError
from fedge.features import Query

_TEXT, _PIXELS = b"t", b"p"


def query_to_blob(query: Query) -> bytes:
    """``query`` as bytes that `query_from_blob` gives back unchanged."""
    if isinstance(query, str):
        return _TEXT + query.encode()
    return _PIXELS + np.ascontiguousarray(query, dtype="<f4").tobytes()


def query_from_blob(blob: bytes) -> Query:
    """The query that `query_to_blob` stored. Raises VerificationError for anything else."""
    tag, body = blob[:1], blob[1:]
    if tag == _TEXT:
        try:
            return body.decode()
        except UnicodeDecodeError:
            raise VerificationError("the device database holds a text that is not UTF-8: the file is damaged") from None
    if tag == _PIXELS:
        return _floats(body)
    raise VerificationError(f"the device database holds a query of unknown form {tag!r}: the file is damaged")


def vector_to_blob(vector: NDArray[np.float32] | None) -> bytes | None:
    """A float32 vector as bytes; None stays None."""
    return None if vector is None else np.ascontiguousarray(vector, dtype="<f4").tobytes()


def vector_from_blob(blob: bytes | None) -> NDArray[np.float32] | None:
    """The vector that `vector_to_blob` stored. Raises VerificationError for bytes that are none."""
    return None if blob is None else _floats(blob)


def _floats(data: bytes) -> NDArray[np.float32]:
    if len(data) % 4:
        raise VerificationError(f"the device database holds a vector of {len(data)} bytes: the file is damaged")
    return np.frombuffer(data, dtype="<f4")


Source = Literal["central", "upstream", "correction"]

_INSERT = """INSERT INTO memory (content_hash, query, label, distribution, source, at, used)
VALUES (?, ?, ?, ?, ?, ?, ?)"""
_UPDATE = """ON CONFLICT (content_hash) DO UPDATE SET label = excluded.label, distribution = excluded.distribution,
source = excluded.source, at = excluded.at WHERE source != 'correction'"""
_SELECT = "SELECT content_hash, query, label, distribution, source, at, used FROM memory"


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A query with the label that it was given, by whom and when. ``used``: rounds of training it took part in."""

    content_hash: bytes
    query: Query
    label: str
    source: Source
    at: float
    distribution: NDArray[np.float32] | None = None
    used: int = 0

    @property
    def fresh(self) -> bool:
        """Not yet trained on: what the model says of it is a prediction, not a recollection."""
        return self.used == 0


class Memory:
    """Labelled queries by content hash, at most ``max_rows`` of them."""

    def __init__(self, database: Database, *, max_rows: int) -> None:
        self._database = database
        self._max_rows = max_rows

    def add(self, examples: Sequence[LabelledQuery]) -> None:
        """Remember labelled queries. A known one takes the newer label and keeps its place, unless it stands corrected."""
        if not examples:
            return
        with self._database.transaction():
            self._database.write_many(f"{_INSERT} {_UPDATE}", (_to_row(example) for example in examples))
            self._evict()

    def correct(self, example: LabelledQuery) -> None:
        """Put a user's correction in place of whatever was remembered of that query; it stays as used as that was."""
        with self._database.transaction():
            known = self._database.row("SELECT used FROM memory WHERE content_hash = ?", (example.content_hash,))
            self._database.write("DELETE FROM memory WHERE content_hash = ?", (example.content_hash,))
            self._database.write(_INSERT, _to_row(replace(example, used=known[0] if known else 0)))
            self._evict()

    def all(self, *, fresh: bool | None = None) -> list[LabelledQuery]:
        """Everything remembered, oldest first; with ``fresh`` only what was not yet (or was already) trained on."""
        where = "" if fresh is None else "WHERE used = 0" if fresh else "WHERE used > 0"
        return [_from_row(row) for row in self._database.rows(f"{_SELECT} {where} ORDER BY id")]

    def mark_used(self, hashes: Sequence[bytes]) -> None:
        """Count one more round of training for each of these queries."""
        self._database.write_many(
            "UPDATE memory SET used = used + 1 WHERE content_hash = ?", ((content_hash,) for content_hash in hashes)
        )

    def __len__(self) -> int:
        """How many labelled queries are remembered."""
        row = self._database.row("SELECT count(*) FROM memory")
        return int(row[0]) if row else 0

    def _evict(self) -> None:
        # Ids have gaps (corrections, conflicts), so this keeps at most max_rows; an exact count would scan the table.
        self._database.write("DELETE FROM memory WHERE id <= (SELECT max(id) FROM memory) - ?", (self._max_rows,))


def _to_row(example: LabelledQuery) -> Row:
    return (
        example.content_hash,
        query_to_blob(example.query),
        example.label,
        vector_to_blob(example.distribution),
        example.source,
        example.at,
        example.used,
    )


def _from_row(row: Row) -> LabelledQuery:
    content_hash, query, label, distribution, source, at, used = row
    return LabelledQuery(
        content_hash=content_hash,
        query=query_from_blob(query),
        label=label,
        source=source,
        at=at,
        distribution=vector_from_blob(distribution),
        used=used,
    )
