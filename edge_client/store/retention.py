"""What a device keeps of its users: listed, exported, kept for a set time, deleted.

Deleting takes every query with everything that was made of it (answers, labels, probes, fates, open questions) and
overwrites the bytes in the database. What stays has no query in it: what was paid and used, by day; counters, the day's
allowance among them; the installed release; and the marks of secure aggregation, without which the device could be made to
send one update twice.
"""

from collections.abc import Iterator
from typing import Any

from edge_client.store import DeviceStore
from edge_client.store.labelled_queries import query_from_blob
from fedge.features import Query

_TABLES = {
    "answers": ("at", "queries with the answers that were given"),
    "memory": ("at", "queries with the labels that this device learns from"),
    "probes": ("at", "queries that calibrate the certificate"),
    "outbox": ("at", "queries that wait for central"),
    "waiting": ("at", "answers of central that were queued for"),
    "fates": ("first_seen", "hashes of queries that were seen"),
}
_EXPORTED = {
    "answers": ("id", "query", "answer", "answered_by", "probe", "at"),
    "memory": ("query", "label", "source", "used", "at"),
    "probes": ("query", "central_label", "predicted_label", "confidence", "at"),
    "outbox": ("query", "acknowledged", "at"),
    "waiting": ("answer_id", "state", "label", "answered_by", "at"),
    "fates": ("content_hash", "probe", "first_seen"),
}


def listing(store: DeviceStore) -> list[dict[str, Any]]:
    """How much of each kind there is, and from when (UNIX seconds; None where there is nothing)."""
    found = []
    for table, (time, meaning) in _TABLES.items():
        (count, oldest, newest) = store.rows(f"SELECT count(*), min({time}), max({time}) FROM {table}")[0]  # noqa: S608 (ours)
        found.append({"kind": table, "holds": meaning, "rows": count, "oldest": oldest, "newest": newest})
    return found


def export(store: DeviceStore) -> Iterator[dict[str, Any]]:
    """Everything, a row at a time, JSON-ready: ``kind`` and the row's own fields."""
    for table, columns in _EXPORTED.items():
        for row in store.rows(f"SELECT {', '.join(columns)} FROM {table}"):  # noqa: S608 (names above)
            yield {"kind": table} | {name: _plain(name, value) for name, value in zip(columns, row, strict=True)}


def forget_before(store: DeviceStore, at: float) -> int:
    """Delete what is older than ``at`` (UNIX seconds); returns how many rows went."""
    gone = 0
    with store.transaction(durable=True):
        for table, (time, _) in _TABLES.items():
            gone += store.delete(f"DELETE FROM {table} WHERE {time} < ?", (at,))  # noqa: S608 (ours)
    if gone:
        store.scrub()
    return gone


def forget_all(store: DeviceStore) -> int:
    """Delete all of it; returns how many rows went."""
    gone = forget_before(store, float("inf"))
    tidy(store)
    store.scrub()
    return gone


def tidy(store: DeviceStore) -> None:
    """Sum the ledger's rows by day, so that neither the table nor what it tells of single queries grows."""
    store.ledger.fold(store.ledger.mark())


def _plain(name: str, value: Any) -> Any:
    if name == "query":
        query: Query = query_from_blob(value)
        return query if isinstance(query, str) else [float(pixel) for pixel in query]
    return value.hex() if isinstance(value, bytes) else value
