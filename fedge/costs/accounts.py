"""The two accounts, the all-cloud counterfactual and break-even: what the ledger's totals say, losses included.

*Marginal* counts what would not have been spent without fedge on devices that are there anyway; *loaded* adds the devices'
idle power and hardware. Both are always shown, since each alone can mislead.
"""

import math
from collections.abc import Sequence

from fedge.costs.ledger import STANDING, Kind, Totals
from fedge.costs.prices import PriceBook
from fedge.costs.profiles import DeviceProfile
from fedge.errors import InputError


def marginal_usd(totals: Totals) -> float:
    """All rows but idle power and hardware."""
    return math.fsum(totals.amount_usd(kind=kind) for kind in Kind if kind not in STANDING)


def loaded_usd(totals: Totals) -> float:
    """All rows."""
    return marginal_usd(totals) + math.fsum(totals.amount_usd(kind=kind) for kind in sorted(STANDING))


def all_cloud_usd(queries: int, book: PriceBook, *, bytes_up: int = 0, bytes_down: int = 0) -> float:
    """What the same queries would have cost with every one answered by central: list price and the bytes of all of them."""
    wire = bytes_up * book.server_ingress_usd_per_byte + bytes_down * book.server_egress_usd_per_byte
    return queries * book.central_price_usd + wire + (bytes_up + bytes_down) * book.device_network_usd_per_byte


def usd_per_1k(usd: float, queries: int) -> float | None:
    """USD per 1,000 queries; None where there were none."""
    return usd * 1000 / queries if queries else None


def break_even_round(cumulative_usd: Sequence[float], cumulative_all_cloud_usd: Sequence[float]) -> int | None:
    """First round (from 1) from which the cumulative cost stays at or below the cumulative all-cloud cost to the end.

    None where the series ends above it. Rounds before the first query (all-cloud cost 0) never count.
    """
    if len(cumulative_usd) != len(cumulative_all_cloud_usd):
        raise InputError(f"break-even: {len(cumulative_usd)} rounds against {len(cumulative_all_cloud_usd)}")
    first: int | None = None
    for index, (cost, cloud) in enumerate(zip(cumulative_usd, cumulative_all_cloud_usd, strict=True), start=1):
        if cost > cloud or cloud <= 0:
            first = None
        elif first is None:
            first = index
    return first


def queries_per_day_to_match_idle(book: PriceBook, profile: DeviceProfile) -> float:
    """Queries a day whose data-centre energy equals what the device draws by merely being on (270 for a Raspberry Pi 4)."""
    return profile.idle_w * 86_400 / book.central_energy_j_per_query


def queries_per_day_to_break_even(book: PriceBook, profile: DeviceProfile, *, fallback_rate: float) -> float | None:
    """Queries a day at which one device's loaded cost, training left out, equals all-cloud; None where it never does."""
    if not 0 <= fallback_rate <= 1:
        raise InputError(f"fallback_rate {fallback_rate!r} must lie in 0..1")
    standing = 86_400 * (profile.idle_w * book.device_electricity_usd_per_j + profile.hardware_usd_per_s)
    saved = (1 - fallback_rate) * book.central_price_usd - profile.inference_j(1) * book.device_electricity_usd_per_j
    return standing / saved if saved > 0 else None
