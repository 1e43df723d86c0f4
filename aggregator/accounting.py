"""What the operator pays: a round's bytes and server cores, and central's answers, as rows of the ledger.

Server cores are modelled, not timed, so that one seed gives one result: recovering a sum costs key stream at the rate of
one core, and a release costs a fixed amount of export and evaluation. What devices pay stands in their own ledgers.
"""

from collections.abc import Mapping

from aggregator.central import Served
from aggregator.rounds.session import Tally
from fedge.costs import Kind, LedgerEntry, PriceBook, charge_central, charge_compute, charge_transfer
from protos.fedge.central.v1.central_pb2 import PURPOSE_PROBE, Purpose

# ChaCha20 on one core of a 2.5 GHz x86 server (docs/measurements.md).
KEY_STREAM_BYTES_PER_S = 3.77e9
RELEASE_CORE_S = 1.0


def charge_round(tally: Tally, book: PriceBook, *, at: float) -> list[LedgerEntry]:
    """A round, its aborted sessions included."""
    return [
        charge_transfer(book, Kind.UPLINK_UPDATES, size_bytes=tally.bytes_vectors, at=at),
        charge_transfer(book, Kind.UPLINK_SECAGG, size_bytes=tally.bytes_up, at=at),
        charge_transfer(book, Kind.DOWNLINK_SECAGG, size_bytes=tally.bytes_down, at=at),
        charge_compute(book, core_s=tally.bytes_vectors / KEY_STREAM_BYTES_PER_S + RELEASE_CORE_S, at=at),
    ]


def charge_served(served: Mapping[tuple[str, "Purpose"], Served], book: PriceBook, *, at: float) -> list[LedgerEntry]:
    """What central answered, probes apart."""
    probes = sum(one.queries for (_, purpose), one in served.items() if purpose == PURPOSE_PROBE)
    others = sum(one.queries for one in served.values()) - probes
    return [row for row in charge_central(book, escalations=others, probes=probes, at=at) if row.quantity]
