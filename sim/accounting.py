"""A round's ledger: what every device wrote down, and what the aggregator spent, as totals by payer and kind."""

from collections.abc import Iterable

from aggregator.accounting import charge_round
from aggregator.rounds.secagg_session import Tally
from edge_client.store import DeviceStore
from fedge.costs import LedgerEntry, PriceBook, Totals, charge_line, charge_standing
from fedge.costs.profiles import DeviceProfile


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
        *charge_round(tally, book, at=at),
        *charge_line(book, profile, bytes_up=tally.bytes_vectors + tally.bytes_up, bytes_down=tally.bytes_down, at=at),
        *charge_standing(book, profile, seconds=seconds * devices, at=at),
    ]
    return Totals.of(rows)
