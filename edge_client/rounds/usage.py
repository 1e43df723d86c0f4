"""What this device did and used that no secure sum has carried yet: from its counters and its ledger, less what was sent.

Counts that left in a masked vector are noted as sent, so that none goes twice. Idle time begins with the first sum.
"""

import math

from edge_client.store import DeviceStore
from fedge.costs import DeviceProfile, Kind, PriceBook, Totals, charge_standing
from fedge.routing import Reason
from fedge.usage import NAMES, Usage

_SENT = "usage."
_SINCE = "usage.since"


def pending_usage(store: DeviceStore, book: PriceBook, profile: DeviceProfile, *, now: float) -> Usage:
    """What the next sum may carry."""
    counters = store.counters()
    sent = Usage(**{name: counters.get(_SENT + name, 0) for name in NAMES})
    seconds = max(0.0, now - counters[_SINCE]) if _SINCE in counters else 0.0
    idle, hardware = charge_standing(book, profile, seconds=seconds, at=now)
    standing = Usage(idle_j=int(idle.quantity), hardware_microusd=int(hardware.amount_usd * 1e6))
    return ((_ever(counters, store.ledger.lifetime()) - sent) + standing).capped()


def mark_usage_sent(store: DeviceStore, usage: Usage, *, now: float) -> None:
    """Note that ``usage`` is leaving in a masked vector. Idle time and hardware are counted from ``now`` on."""
    kept = {_SENT + name: getattr(usage, name) for name in NAMES if name not in ("idle_j", "hardware_microusd")}
    store.count({**kept, _SINCE: int(now) - store.counters().get(_SINCE, 0)})


def _ever(counters: dict[str, int], totals: Totals) -> Usage:
    """All that the device ever did, but for being there."""
    answered: dict[tuple[str, str], int] = {}
    for name, count in counters.items():
        kind, _, rest = name.partition(".")
        by, _, reason = rest.partition(".")
        if kind == "answered" and by != "human":  # what policy leaves to a person is answered by nobody here
            answered[by, reason] = count

    def millijoules(kind: Kind) -> int:
        return math.floor(totals.quantity(kind) * 1000)

    return Usage(
        queries=sum(answered.values()),
        local=sum(count for (by, _), count in answered.items() if by == "device"),
        degraded=counters.get("degraded", 0),
        probes=sum(count for (by, reason), count in answered.items() if by != "device" and reason == Reason.PROBE),
        inference_mj=millijoules(Kind.DEVICE_INFERENCE),
        training_mj=millijoules(Kind.DEVICE_TRAINING),
        secagg_mj=millijoules(Kind.DEVICE_SECAGG),
        radio_mj=millijoules(Kind.DEVICE_RADIO),
    )
