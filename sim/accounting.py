"""A round's ledger: what every device wrote down, and what the aggregator spent, as totals by payer and kind.

Server cores are modelled, not timed, so that one seed gives one result: recovering a sum costs key stream at the rate of
one core, and a release costs a fixed amount of export and evaluation.
"""

from collections.abc import Iterable

from aggregator.rounds.session import Tally
from edge_client.store import DeviceStore
from fedge.costs import Kind, LedgerEntry, PriceBook, Totals, charge_compute, charge_line, charge_standing, charge_transfer
from fedge.costs.profiles import DeviceProfile

# ChaCha20 on one core of a 2.5 GHz x86 server (docs/measurements.md).
KEY_STREAM_BYTES_PER_S = 3.77e9
RELEASE_CORE_S = 1.0


def devices_totals(stores: Iterable[DeviceStore]) -> Totals:
    """What the devices wrote since the last round; their rows are folded afterwards."""
    totals = Totals()
    for store in stores:
        mark = store.ledger.mark()
        totals += store.ledger.totals()
        store.ledger.fold(mark)
    return totals


def round_totals(
    tally: Tally, book: PriceBook, profile: DeviceProfile, *, devices: int, seconds: float, at: float
) -> Totals:
    """The aggregator's side of a round, and what ``devices`` cost while merely being there for ``seconds``."""
    rows: list[LedgerEntry] = [
        charge_transfer(book, Kind.UPLINK_UPDATES, size_bytes=tally.bytes_vectors, at=at),
        charge_transfer(book, Kind.UPLINK_SECAGG, size_bytes=tally.bytes_up, at=at),
        charge_transfer(book, Kind.DOWNLINK_SECAGG, size_bytes=tally.bytes_down, at=at),
        *charge_line(book, profile, bytes_up=tally.bytes_vectors + tally.bytes_up, bytes_down=tally.bytes_down, at=at),
        *charge_standing(book, profile, seconds=seconds * devices, at=at),
        charge_compute(book, core_s=tally.bytes_vectors / KEY_STREAM_BYTES_PER_S + RELEASE_CORE_S, at=at),
    ]
    return Totals.of(rows)
