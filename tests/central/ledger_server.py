"""Central in a process of its own, with a real database under its ledger: for a test that kills it.

Usage: ``python ledger_server.py DATABASE_URL``; the port is the first line on standard output.
"""

import asyncio
import sys
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aggregator.accounting import book_served
from aggregator.central import CentralService, LedgerWriter, Limits, Pricing, serve
from aggregator.store import Database
from fedge.costs import PriceBook
from fedge.features import Query


class EvenModel:
    """Says the same of every query."""

    def predict(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Return 0.75 for the first of two labels."""
        return np.tile(np.array([[0.75, 0.25]], dtype=np.float32), (len(queries), 1))


async def run(database: Database) -> None:
    """Serve until killed."""
    book = PriceBook.load_default()
    ledger = LedgerWriter(lambda served: book_served(database, served, book, at=time.time()))
    service = CentralService(
        model=EvenModel(),
        model_name="even",
        labels=("a", "b"),
        pricing=Pricing.from_book(book),
        limits=Limits(max_text_bytes=1000),
        clock=time.time,
        ledger=ledger,
    )
    server = await serve(service)
    print(server.port, flush=True)
    await server.wait()


if __name__ == "__main__":
    with Database.open(sys.argv[1]) as opened:
        asyncio.run(run(opened))
