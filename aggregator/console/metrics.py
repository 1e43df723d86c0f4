"""The server's figures for Prometheus, worked out from the recorded rounds at each scrape: nothing is lost by a restart.

Never a device's id.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from aggregator.store.rows import RoundRow

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Rounds(Collector):
    def __init__(self, rows: Sequence[RoundRow]) -> None:
        self._rows = rows

    def collect(self) -> Iterable[Metric]:
        """Every family, also while there are no rounds."""
        rows = self._rows
        outcomes = CounterMetricFamily("fedge_rounds", "Rounds by how they stand or ended.", labels=["outcome"])
        for state, count in sorted(Counter(row.state for row in rows).items()):
            outcomes.add_metric([state], count)
        yield outcomes
        seconds: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            for phase, duration in row.seconds.items():
                seconds[phase].append(duration)
        durations = SummaryMetricFamily("fedge_round_duration_seconds", "Time of each phase.", labels=["phase"])
        for phase, each in sorted(seconds.items()):
            durations.add_metric([phase], count_value=len(each), sum_value=sum(each))
        yield durations
        people = GaugeMetricFamily("fedge_round_participants", "Devices in the newest round.", labels=["state"])
        if rows:
            people.add_metric(["cohort"], rows[-1].cohort)
            people.add_metric(["survivors"], rows[-1].survivors)
        yield people


def exposition(rows: Sequence[RoundRow]) -> bytes:
    """The figures of ``rows``, oldest first, in Prometheus's text form."""
    registry = CollectorRegistry()
    registry.register(_Rounds(rows))
    return generate_latest(registry)
