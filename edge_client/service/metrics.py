"""The agent's figures for Prometheus, under the names that the whole of fedge uses. Never a device's id.

What the store keeps (answers by who gave them, cost, energy) is read from it at every scrape, so that counters go on where
they were before a restart; only durations are of this process alone.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge_client.inference.query import REFUSED, Answer
from edge_client.releases.manager import ReleaseManager
from edge_client.store import DeviceStore
from fedge.costs import Kind
from fedge.costs.ledger import DOWNLINK, UPLINK
from fedge.routing import Reason

_NOT_ASKED = (Reason.OFFLINE, Reason.OVER_BUDGET, Reason.RATE_LIMITED)
_SECONDS = (0.0003, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_DEVICE_ENERGY = (Kind.DEVICE_INFERENCE, Kind.DEVICE_TRAINING, Kind.DEVICE_SECAGG, Kind.DEVICE_RADIO)
_UPDATES = {
    "up": UPLINK & {Kind.UPLINK_UPDATES, Kind.UPLINK_SECAGG},
    "down": DOWNLINK & {Kind.DOWNLINK_SECAGG, Kind.DOWNLINK_RELEASES},
}


def no_certificate() -> float | None:
    """Of a device that has none."""
    return None


class Figures(Collector):
    """Collects at each scrape. ``certificate_end``: when the device's own certificates run out, UNIX seconds."""

    def __init__(
        self,
        store: DeviceStore,
        releases: ReleaseManager,
        *,
        started_at: float,
        left_usd: Callable[[], float | None] = lambda: None,
        certificate_end: Callable[[], float | None] = no_certificate,
    ) -> None:
        self.started_at = started_at
        self._left_usd = left_usd
        self._certificate_end = certificate_end
        self._store = store
        self._releases = releases
        # One series more for each histogram, that nobody asked for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._durations = Histogram(
            "fedge_query_duration_seconds",
            "Time to an answer inside the agent.",
            ["answered_by"],
            buckets=_SECONDS,
            registry=self._registry,
        )

    def answered(self, answers: Sequence[Answer]) -> None:
        """Note how long answers took. Those of a batch took the same time, each."""
        for answer in answers:
            self._durations.labels(answer.answered_by).observe(answer.latency_ms / 1000)

    def exposition(self) -> bytes:
        """All figures in Prometheus's text form."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the first scrape, and nothing need be."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The figures that the store keeps."""
        totals = self._store.ledger.lifetime()
        counters = self._store.counters()
        yield _queries(counters)
        yield _degraded(counters)
        if (left_usd := self._left_usd()) is not None:
            yield GaugeMetricFamily("fedge_budget_left_usd", "What is left of the day's budget (UTC).", value=left_usd)
        energy = CounterMetricFamily(
            "fedge_energy_joules", "Energy of the device's work, by who says so.", labels=["source"]
        )
        for source, joules in self._store.ledger.energy_j().items():
            energy.add_metric([source], joules)
        yield energy
        cost = CounterMetricFamily("fedge_cost_usd", "Cost by who pays it and for what.", labels=["payer", "kind"])
        for (payer, kind), (_, usd) in sorted(totals.sums.items()):
            cost.add_metric([payer.value, kind.value], usd)
        yield cost
        moved = CounterMetricFamily("fedge_update_bytes", "Bytes of updates and releases.", labels=["direction"])
        for direction, kinds in _UPDATES.items():
            moved.add_metric([direction], totals.quantity(*kinds))
        yield moved
        active = self._releases.active
        release = GaugeMetricFamily("fedge_release_info", "The release that the device answers with.", labels=["version"])
        if active is not None:
            release.add_metric([str(active.loaded.release.manifest.version)], 1)
        yield release
        yield GaugeMetricFamily(
            "fedge_queue_questions", "Questions kept while central is out of reach.", value=len(self._store.outbox)
        )
        yield self._expiries()

    def _expiries(self) -> Metric:
        expiry = GaugeMetricFamily(
            "fedge_certificate_expiry_timestamp_seconds", "When it runs out unless it is renewed.", labels=["certificate"]
        )
        if (end := self._certificate_end()) is not None:
            expiry.add_metric(["device"], end)
        active = self._releases.active
        if active is not None and active.statement is not None:
            expiry.add_metric(["threshold"], active.statement.expires_at)
        return expiry


def _queries(counters: Mapping[str, int]) -> Metric:
    by = Counter[str]()
    for name, value in counters.items():
        parts = name.split(".")
        if parts[0] == "answered":
            by[parts[1]] += value
    family = CounterMetricFamily("fedge_queries", "Queries by who answered them.", labels=["answered_by"])
    for answered_by, value in sorted(by.items()):
        family.add_metric([answered_by], value)
    return family


def _degraded(counters: Mapping[str, int]) -> Metric:
    """Answers of the device where central should have been asked and was not, by why."""
    family = CounterMetricFamily("fedge_degraded", "Answers that central should have given, by why not.", labels=["reason"])
    for reason in (*_NOT_ASKED, REFUSED):
        family.add_metric([str(reason)], counters.get(f"answered.device.{reason}", 0))
    return family
