"""What retention does to a large database while pages are read: another process that forgets, as a server's rounds do."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event

from sqlalchemy import text

from aggregator.store import Database, Keep
from aggregator.store.engine import open_engine

KEEP = Keep(ledger_days=1.0, events_days=0.0, rounds_days=0.0)
START_S = 120.0


@dataclass(slots=True)
class Gone:
    """How many rows went in how many seconds; filled when the block has ended."""

    count: int = 0
    seconds: float = 0.0


@contextmanager
def forgetting(url: str) -> Iterator[Gone]:
    """A process forgets rows of the ledger that are older than a day, as long as the block lasts or there are any."""
    spawn = multiprocessing.get_context("spawn")
    begun, stop, counts = spawn.Event(), spawn.Event(), spawn.Queue()
    process = spawn.Process(target=_forget, args=(url, begun, stop, counts))
    process.start()
    try:
        if not begun.wait(START_S):
            raise RuntimeError("the process that forgets did not start")
        gone = Gone()
        yield gone
        stop.set()
        gone.count, gone.seconds = counts.get(timeout=START_S)
    finally:
        stop.set()
        process.join()


def stored_bytes(url: str) -> int:
    """What a database takes on the disk."""
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
            pages, size = (connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("page_count", "page_size"))
            return int(pages) * int(size)
    finally:
        engine.dispose()


def _forget(url: str, begun: Event, stop: Event, counts: "Queue[tuple[int, float]]") -> None:
    with Database.open(url) as database:
        begun.set()
        at = time.monotonic()
        gone = database.retention.forget(KEEP, now=time.time(), stopped=stop.is_set)
        counts.put((gone.get("ledger", 0), time.monotonic() - at))
