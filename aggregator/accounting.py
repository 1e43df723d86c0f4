"""What the operator pays: a round's bytes and server cores, and central's answers, as rows of the ledger.

Server cores are modelled, not timed, so that one seed gives one result: recovering a sum costs key stream at the rate of
one core, and a release costs a fixed amount of export and evaluation. What devices pay stands in their own ledgers.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from aggregator.central import Account, Served
from aggregator.central.upstream.budget import Tokens
from aggregator.rounds.secagg_session import Tally
from aggregator.store import Database
from fedge.costs import Kind, LedgerEntry, PriceBook, charge_central, charge_compute, charge_transfer, charge_upstream
from protos.fedge.central.v1.central_pb2 import PURPOSE_PROBE

ROW_S = 5.0
"""A row of the ledger takes up what central answers for so long: a row for each commit would fill the disk."""

# ChaCha20 on one core of a 2.5 GHz x86 server (docs/measurements.md).
KEY_STREAM_BYTES_PER_S = 3.77e9
RELEASE_CORE_S = 1.0


class UpstreamPrice(Protocol):
    """The book, and the model in it, by which upstream's tokens are paid."""

    book: PriceBook
    price_name: str


def charge_round(tally: Tally, book: PriceBook, *, at: float) -> list[LedgerEntry]:
    """Charge a round, its aborted sessions included."""
    return [
        charge_transfer(book, Kind.UPLINK_UPDATES, size_bytes=tally.bytes_vectors, at=at),
        charge_transfer(book, Kind.UPLINK_SECAGG, size_bytes=tally.bytes_up, at=at),
        charge_transfer(book, Kind.DOWNLINK_SECAGG, size_bytes=tally.bytes_down, at=at),
        charge_compute(book, core_s=tally.bytes_vectors / KEY_STREAM_BYTES_PER_S + RELEASE_CORE_S, at=at),
    ]


def charge_served(
    served: Mapping[Account, Served], book: PriceBook, *, at: float, upstream: UpstreamPrice | None = None
) -> list[LedgerEntry]:
    """Charge what central answered, probes apart, and upstream's tokens, which are all that its answers cost."""
    own: Counter[bool] = Counter()
    tokens = Tokens()
    for (_, purpose), one in served.items():
        own[purpose == PURPOSE_PROBE] += one.queries - one.upstream
        tokens += one.tokens
    rows = list(charge_central(book, escalations=own[False], probes=own[True], at=at))
    if upstream is not None:
        rows += charge_upstream(
            upstream.book, model=upstream.price_name, tokens_in=tokens.tokens_in, tokens_out=tokens.tokens_out, at=at
        )
    return [row for row in rows if row.quantity]


def book_served(
    database: Database,
    served: Mapping[Account, Served],
    book: PriceBook,
    *,
    at: float,
    upstream: UpstreamPrice | None = None,
) -> None:
    """Write what central answered to the ledger of the round at hand; on disk when this returns. Raises StoreError."""
    if rows := charge_served(served, book, at=at, upstream=upstream):
        database.add_ledger(database.latest_round() + 1, rows, row_s=ROW_S)
