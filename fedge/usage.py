"""What a fleet did and used since it was last asked: ten integers of a secure sum, and their place in the ledger.

A device's counts are seen by nobody; the aggregator learns how many queries a cohort answered, how many of them on the
devices, and the electricity and hardware behind it. Agreed here once for both ends. Never a query, a label or a time of day.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fedge.costs import MODEL, Kind, LedgerEntry, Payer, PriceBook, entry
from fedge.errors import InputError

CAP = 10_000_000
"""Most that a device says of one thing at once; the rest waits for the next sum."""

_ENERGY_MJ = {
    "inference_mj": Kind.DEVICE_INFERENCE,
    "training_mj": Kind.DEVICE_TRAINING,
    "secagg_mj": Kind.DEVICE_SECAGG,
    "radio_mj": Kind.DEVICE_RADIO,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Queries answered, by the device (``local``), by it in central's place (``degraded``), and probes, which central
    answered; electricity of work in millijoules, of idling in joules, hardware in millionths of a USD.
    """

    queries: int = 0
    local: int = 0
    degraded: int = 0
    probes: int = 0
    inference_mj: int = 0
    training_mj: int = 0
    secagg_mj: int = 0
    radio_mj: int = 0
    idle_j: int = 0
    hardware_microusd: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in NAMES})

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(**{name: getattr(self, name) - getattr(other, name) for name in NAMES})

    def capped(self) -> "Usage":
        """As much of it as one sum takes: every count from 0 to `CAP`."""
        return Usage(**{name: min(max(getattr(self, name), 0), CAP) for name in NAMES})

    def encode(self) -> NDArray[np.int64]:
        """The coordinates, int64 [10]."""
        return np.array([getattr(self, name) for name in NAMES], dtype=np.int64)

    @classmethod
    def decode(cls, integers: NDArray[np.int64]) -> "Usage":
        """The cohort's sum. Raises InputError for another number of coordinates, or counts that contradict each other."""
        if integers.shape != (len(NAMES),):
            raise InputError(f"a sum of {integers.shape} integers is no usage: it has {len(NAMES)}")
        found = cls(**dict(zip(NAMES, integers.tolist(), strict=True)))
        if found.local + found.probes > found.queries or found.degraded > found.local:
            raise InputError(f"the sum names {found.local} local answers, {found.probes} probes, {found.queries} queries")
        return found

    @property
    def fallback_rate(self) -> float | None:
        """Share of queries that central answered, probes left out; None where there were none."""
        asked = self.queries - self.probes
        return (asked - self.local) / asked if asked else None

    def ledger(self, book: PriceBook, *, at: float) -> list[LedgerEntry]:
        """What the devices' owners paid for it, at the book's price of electricity."""
        price = book.device_electricity_usd_per_j
        joules = {kind: getattr(self, name) / 1000 for name, kind in _ENERGY_MJ.items()} | {Kind.DEVICE_IDLE: self.idle_j}
        rows = [entry(kind, used, price, at=at, payer=Payer.DEVICE_OWNER, source=MODEL) for kind, used in joules.items()]
        hardware = entry(Kind.DEVICE_HARDWARE, self.hardware_microusd, 1e-6, at=at, payer=Payer.DEVICE_OWNER)
        return [row for row in (*rows, hardware) if row.quantity]


NAMES = tuple(field.name for field in fields(Usage))
"""The coordinates in their order."""
