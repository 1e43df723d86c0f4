"""What a quantity of a kind costs at a price book: for a recorded run that is looked at with prices of another day.

The same figures as in `fedge.costs.charges`, which makes the rows of a run; a test holds the two together.
"""

from collections.abc import Mapping

from fedge.costs.ledger import DOWNLINK, UPLINK, Kind
from fedge.costs.prices import PriceBook
from fedge.costs.profiles import DeviceProfile
from fedge.errors import InputError


def unit_price_usd(kind: Kind, book: PriceBook, profile: DeviceProfile) -> float:
    """USD for one unit (`ledger.UNITS`) of ``kind``. Raises InputError for upstream tokens, whose price is their model's."""
    if kind in UPLINK:
        return book.server_ingress_usd_per_byte
    if kind in DOWNLINK:
        return book.server_egress_usd_per_byte
    if kind in _ENERGY:
        return book.device_electricity_usd_per_j
    prices = {
        Kind.DEVICE_LINE: book.device_network_usd_per_byte,
        Kind.DEVICE_HARDWARE: profile.hardware_usd_per_s,
        Kind.ESCALATIONS: book.central_price_usd,
        Kind.PROBES: book.central_price_usd,
        Kind.CENTRAL_COMPUTE: book.central_core_usd_per_s,
        Kind.CENTRAL_ENERGY: 0.0,
    }
    if kind not in prices:
        raise InputError(f"ledger: {kind} has no price without the name of its model")
    return prices[kind]


def repriced(quantities: Mapping[str, float], book: PriceBook, profile: DeviceProfile) -> dict[Kind, float]:
    """USD of each kind in ``quantities``, which are named and measured as in the ledger. Raises InputError for others."""
    try:
        known = {Kind(name): quantity for name, quantity in quantities.items()}
    except ValueError as error:
        raise InputError(f"ledger: {error}") from None
    return {kind: quantity * unit_price_usd(kind, book, profile) for kind, quantity in known.items()}


_ENERGY = frozenset({Kind.DEVICE_INFERENCE, Kind.DEVICE_TRAINING, Kind.DEVICE_SECAGG, Kind.DEVICE_RADIO, Kind.DEVICE_IDLE})
