"""The ledger: what was used, who pays, at which price. Rows, and totals of rows that add up.

Bytes by purpose are the operator's rows (cloud prices by direction); the device's own line is one row of its owner's, so no
byte is counted twice under one kind. Rows never change once made; nothing here knows a clock or a file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from fedge.errors import InputError


class Payer(StrEnum):
    """Whose money it is."""

    DEVICE_OWNER = "device_owner"
    OPERATOR = "operator"


class Kind(StrEnum):
    """What was used. The unit of each kind is fixed: see UNITS."""

    DEVICE_INFERENCE = "device_inference"
    DEVICE_TRAINING = "device_training"
    DEVICE_SECAGG = "device_secagg"
    DEVICE_RADIO = "device_radio"
    DEVICE_LINE = "device_line"
    DEVICE_IDLE = "device_idle"
    DEVICE_HARDWARE = "device_hardware"
    UPLINK_QUERIES = "uplink_queries"
    UPLINK_UPDATES = "uplink_updates"
    UPLINK_SECAGG = "uplink_secagg"
    DOWNLINK_ANSWERS = "downlink_answers"
    DOWNLINK_SECAGG = "downlink_secagg"
    DOWNLINK_RELEASES = "downlink_releases"
    ESCALATIONS = "escalations"
    PROBES = "probes"
    UPSTREAM_TOKENS_IN = "upstream_tokens_in"
    UPSTREAM_TOKENS_OUT = "upstream_tokens_out"
    CENTRAL_COMPUTE = "central_compute"
    CENTRAL_ENERGY = "central_energy"


UPLINK = frozenset({Kind.UPLINK_QUERIES, Kind.UPLINK_UPDATES, Kind.UPLINK_SECAGG})
DOWNLINK = frozenset({Kind.DOWNLINK_ANSWERS, Kind.DOWNLINK_SECAGG, Kind.DOWNLINK_RELEASES})
MODEL = "model"
"""The source of energy that was worked out from a device profile, not measured."""
STANDING = frozenset({Kind.DEVICE_IDLE, Kind.DEVICE_HARDWARE})
"""What a device costs whether or not it works: in the loaded account only."""

UNITS: Mapping[Kind, str] = MappingProxyType(
    dict.fromkeys(UPLINK | DOWNLINK | {Kind.DEVICE_LINE}, "B")
    | dict.fromkeys(
        (Kind.DEVICE_INFERENCE, Kind.DEVICE_TRAINING, Kind.DEVICE_SECAGG, Kind.DEVICE_RADIO, Kind.DEVICE_IDLE), "J"
    )
    | {Kind.DEVICE_HARDWARE: "s", Kind.CENTRAL_COMPUTE: "core_s", Kind.CENTRAL_ENERGY: "J"}
    | {Kind.ESCALATIONS: "query", Kind.PROBES: "query"}
    | {Kind.UPSTREAM_TOKENS_IN: "token", Kind.UPSTREAM_TOKENS_OUT: "token"}
)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One row: at unix time ``at``, ``payer`` pays for ``quantity`` ``unit`` of ``kind`` at ``price_usd`` a unit.

    ``source``: who says so where that is a question, which is the device's energy: MODEL or a sensor's name; else empty.
    """

    at: float
    payer: Payer
    kind: Kind
    quantity: float
    unit: str
    price_usd: float
    amount_usd: float
    source: str = ""


def entry(kind: Kind, quantity: float, price_usd: float, *, at: float, payer: Payer, source: str = "") -> LedgerEntry:
    """A row with its unit and amount filled in. Raises InputError for a quantity or price below 0."""
    if not (quantity >= 0 and price_usd >= 0):
        raise InputError(f"ledger: {kind} of {quantity} at {price_usd} USD: neither may be below 0")
    return LedgerEntry(at, payer, kind, quantity, UNITS[kind], price_usd, quantity * price_usd, source)


def _empty() -> Mapping[tuple[Payer, Kind], tuple[float, float]]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums of (quantity, amount in USD) by payer and kind. Two of them add up to one."""

    sums: Mapping[tuple[Payer, Kind], tuple[float, float]] = field(default_factory=_empty)

    @classmethod
    def of(cls, entries: Iterable[LedgerEntry]) -> "Totals":
        """The totals of rows."""
        return cls(_merge({}, (((row.payer, row.kind), (row.quantity, row.amount_usd)) for row in entries)))

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(_merge(dict(self.sums), other.sums.items()))

    def amount_usd(self, *, kind: Kind | None = None, payer: Payer | None = None) -> float:
        """USD of one kind, one payer, both or all."""
        return sum(amount for (p, k), (_, amount) in self.sums.items() if kind in (None, k) and payer in (None, p))

    def quantity(self, *kinds: Kind) -> float:
        """Quantity of these kinds together, in their unit. Raises InputError where their units differ."""
        if len({UNITS[kind] for kind in kinds}) > 1:
            raise InputError(f"ledger: {', '.join(kinds)} have different units")
        return sum(quantity for (_, k), (quantity, _) in self.sums.items() if k in kinds)

    def quantity_by_kind(self) -> dict[str, float]:
        """Quantity of every kind that has a row, each in its own unit, in the order of Kind."""
        present = {kind for _, kind in self.sums}
        return {kind.value: self.quantity(kind) for kind in Kind if kind in present}

    def usd_by_kind(self) -> dict[str, float]:
        """USD of every kind that has a row, in the order of Kind."""
        present = {kind for _, kind in self.sums}
        return {kind.value: self.amount_usd(kind=kind) for kind in Kind if kind in present}

    def usd_by_payer(self) -> dict[str, float]:
        """USD of every payer."""
        return {payer.value: self.amount_usd(payer=payer) for payer in Payer}

    def entries(self, *, at: float) -> list[LedgerEntry]:
        """One row a payer and kind, at the mean price that was paid."""
        return [
            LedgerEntry(at, payer, kind, quantity, UNITS[kind], amount / quantity if quantity else 0.0, amount)
            for (payer, kind), (quantity, amount) in sorted(self.sums.items())
        ]

    def to_rows(self) -> list[dict[str, Any]]:
        """JSON-ready rows {payer, kind, unit, quantity, amount_usd}, sorted; from_rows reads them back."""
        return [
            {"payer": p.value, "kind": k.value, "unit": UNITS[k], "quantity": quantity, "amount_usd": amount}
            for (p, k), (quantity, amount) in sorted(self.sums.items())
        ]

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> "Totals":
        """The totals that to_rows wrote. Raises InputError for a row that it cannot have written."""
        try:
            pairs = [((Payer(r["payer"]), Kind(r["kind"])), (float(r["quantity"]), float(r["amount_usd"]))) for r in rows]
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise InputError(f"ledger: a row of totals cannot be read: {error}") from error
        return cls(_merge({}, pairs))


def _merge(
    sums: dict[tuple[Payer, Kind], tuple[float, float]],
    more: Iterable[tuple[tuple[Payer, Kind], tuple[float, float]]],
) -> Mapping[tuple[Payer, Kind], tuple[float, float]]:
    for key, (quantity, amount) in more:
        have = sums.get(key, (0.0, 0.0))
        sums[key] = (have[0] + quantity, have[1] + amount)
    return MappingProxyType(sums)
