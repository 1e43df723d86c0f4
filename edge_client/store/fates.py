"""Whether a query is a probe: fixed when the query is first seen, shared by all its repetitions.

The draw itself belongs to the caller; here it is only remembered. A query's content is not kept, its hash is. ``counted``
says that the query's probe has been recorded, once and for all (see `edge_client.store.probes`).
"""

from collections.abc import Mapping, Sequence

from edge_client.store.database import Database

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
