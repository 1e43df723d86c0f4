"""What the device uses, as ledger rows: energy of answering, training and sending, bytes, and what central was paid.

Every row of energy names its source. "model": the device profile's power of a busy core times seconds, which are the
profile's own for each query or step, or measured ones where the caller has a stopwatch. A sensor's name: the energy of a
long piece of work (a round's training) as that sensor showed it; see `edge_client.power`. The simulator has no sensors.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from edge_client.power import PowerMeter, Span, Spent
from fedge.costs import (
    MODEL,
    DeviceProfile,
    Kind,
    LedgerEntry,
    Payer,
    PriceBook,
    charge_inference,
    charge_line,
    charge_secagg,
    charge_training,
    charge_transfer,
    entry,
)
from fedge.costs.ledger import UPLINK


@dataclass(frozen=True, slots=True)
class EnergyMeter:
    """Turns what happened on one device into ledger rows, by one price book, one profile and, where given, sensors."""

    book: PriceBook
    profile: DeviceProfile
    power: PowerMeter | None = None

    @contextmanager
    def watch(self) -> Iterator[Span]:
        """Measure a long piece of work where the device has sensors; ``spent`` stays None where that was not possible."""
        if self.power is None:
            yield Span()
            return
        with self.power.span() as span:
            yield span

    def work(self, *, steps: int, scored: int, at: float, spent: Spent | None = None) -> list[LedgerEntry]:
        """Electricity of a round's work: training steps and scored queries; ``spent`` where a sensor measured them together.

        A measured figure is divided between the two as the model would divide it.
        """
        rows = [self.training(steps=steps, at=at), self.inference(queries=scored, at=at)]
        modelled_j = sum(row.quantity for row in rows)
        if spent is None or not modelled_j:
            return rows
        return [self._measured(row, spent, row.quantity / modelled_j) for row in rows]

    def inference(self, *, queries: int, at: float, seconds: float | None = None) -> LedgerEntry:
        """Electricity of answering or scoring; ``seconds`` where they were measured, else the profile's for each query."""
        if seconds is None:
            return charge_inference(self.book, self.profile, queries=queries, at=at)
        return self._busy(Kind.DEVICE_INFERENCE, seconds, at)

    def training(self, *, steps: int, at: float, seconds: float | None = None) -> LedgerEntry:
        """Electricity of training; ``seconds`` where they were measured, else the profile's for each step."""
        if seconds is None:
            return charge_training(self.book, self.profile, steps=steps, at=at)
        return self._busy(Kind.DEVICE_TRAINING, seconds, at)

    def secagg(self, *, sessions: int, at: float) -> LedgerEntry:
        """Electricity of taking part in secure aggregation sessions, by the profile's figure for one of the usual size."""
        return charge_secagg(self.book, self.profile, sessions=sessions, at=at)

    def transfer(self, sizes_bytes: Mapping[Kind, int], *, at: float) -> list[LedgerEntry]:
        """Bytes by purpose: the operator's rows, and the device's own radio energy and line for all of them together."""
        up = sum(size for kind, size in sizes_bytes.items() if kind in UPLINK)
        down = sum(sizes_bytes.values()) - up
        rows = [charge_transfer(self.book, kind, size_bytes=size, at=at) for kind, size in sizes_bytes.items()]
        return [*rows, *charge_line(self.book, self.profile, bytes_up=up, bytes_down=down, at=at)]

    def paid(self, prices_usd: Mapping[tuple[Kind, float], int], *, at: float) -> list[LedgerEntry]:
        """Central's answers by kind (escalations or probes) and price as central named it, the energy noted beside them."""
        rows = [entry(kind, count, price, at=at, payer=Payer.OPERATOR) for (kind, price), count in prices_usd.items()]
        energy_j = sum(prices_usd.values()) * self.book.central_energy_j_per_query
        return [*rows, entry(Kind.CENTRAL_ENERGY, energy_j, 0.0, at=at, payer=Payer.OPERATOR)]

    def _busy(self, kind: Kind, seconds: float, at: float) -> LedgerEntry:
        joules = seconds * self.profile.active_w
        return entry(kind, joules, self.book.device_electricity_usd_per_j, at=at, payer=Payer.DEVICE_OWNER, source=MODEL)

    @staticmethod
    def _measured(row: LedgerEntry, spent: Spent, share: float) -> LedgerEntry:
        joules = spent.joules * share
        return replace(row, quantity=joules, amount_usd=joules * row.price_usd, source=spent.source)
