"""The server's figures for Prometheus, worked out from the recorded rounds at each scrape: nothing is lost by a restart.

Never a device's id.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from aggregator.central.upstream.outcomes import OUTCOMES
from aggregator.console.figures.fleet import Fleet
from aggregator.rounds.canary import Verdict
from aggregator.store.rows import RoundRow
from aggregator.upstream_figures import UpstreamFigures
from fedge.costs import Kind, Payer

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What is known at a scrape. ``rounds``: oldest first; ``version``: of the newest round's release. ``expiries``: when
    what the server holds runs out, UNIX seconds by name. ``period_s``: from a round's start to the next one's, where rounds
    come by themselves; ``paused``: no round begins, because an operator said so. ``upstream``: what central asked a language
    model, where it has one. ``fleet``: what devices say of themselves; None where that is not known.
    """

    rounds: Sequence[RoundRow]
    spent: Mapping[tuple[Payer, Kind], float] = field(default_factory=dict)
    version: int | None = None
    expiries: Mapping[str, float] = field(default_factory=dict)
    period_s: float | None = None
    paused: bool = False
    upstream: UpstreamFigures | None = None
    fleet: Fleet | None = None


class _Rounds(Collector):
    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    def collect(self) -> Iterable[Metric]:
        """Every family, also while there are no rounds."""
        rows = self._recorded.rounds
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
        yield self._privacy()
        yield from self._schedule()

    def _privacy(self) -> Metric:
        spent = GaugeMetricFamily(
            "fedge_privacy_epsilon", "Differential privacy spent so far; no value while updates carry no noise."
        )
        if self._recorded.rounds and (epsilon := self._recorded.rounds[-1].metrics.get("epsilon")) is not None:
            spent.add_metric([], float(epsilon))
        return spent

    def _schedule(self) -> Iterable[Metric]:
        ended = GaugeMetricFamily(
            "fedge_round_last_finished_timestamp_seconds", "When the newest round ended, whatever its outcome."
        )
        times = [row.finished for row in self._recorded.rounds if row.finished is not None]
        if times:
            ended.add_metric([], max(times))
        yield ended
        period = GaugeMetricFamily("fedge_round_period_seconds", "Time from one round's start to the next one's.")
        if self._recorded.period_s is not None:
            period.add_metric([], self._recorded.period_s)
        yield period
        yield GaugeMetricFamily(
            "fedge_rounds_paused", "1 while an operator keeps rounds from beginning.", value=float(self._recorded.paused)
        )


class _Releases(Collector):
    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    def collect(self) -> Iterable[Metric]:
        """The release of the newest round, how canaries went, and what runs out when."""
        rows = self._recorded.rounds
        info = GaugeMetricFamily("fedge_release_info", "The release of the newest round.", labels=["version"])
        if self._recorded.version is not None:
            info.add_metric([str(self._recorded.version)], 1)
        yield info
        looks = [look for row in rows if isinstance(look := row.metrics.get("canary"), Mapping)]
        decisions = CounterMetricFamily(
            "fedge_canary_decisions", "Looks at a release on the canary, by what came of them.", labels=["decision"]
        )
        counted = Counter(str(look["decision"]) for look in looks)
        for decision in get_args(Verdict):  # at 0 as well, so that the first one counts as an increase
            decisions.add_metric([decision], counted[decision])
        yield decisions
        devices = GaugeMetricFamily(
            "fedge_canary_devices", "Devices of the newest canary that took its release, or gave it up.", labels=["state"]
        )
        for state in ("taken", "rolled_back"):
            devices.add_metric([state], float(looks[-1][state]) if looks else 0.0)
        yield devices
        expiry = GaugeMetricFamily(
            "fedge_certificate_expiry_timestamp_seconds", "When it runs out unless it is renewed.", labels=["certificate"]
        )
        for name, at in sorted(self._recorded.expiries.items()):
            expiry.add_metric([name], at)
        yield expiry


class _Fleet(Collector):
    """What members said of themselves in the last minutes, added up over the fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterable[Metric]:
        """Four families."""
        devices = GaugeMetricFamily(
            "fedge_fleet_devices", "Devices that reported lately, by what they run on.", labels=["energy_source"]
        )
        for source, count in sorted(self._fleet["energy_sources"].items()):
            devices.add_metric([source], count)
        yield devices
        on_release = GaugeMetricFamily(
            "fedge_fleet_devices_on_release", "Devices that reported lately, by their release.", labels=["version"]
        )
        for version, count in self._fleet["devices_on_version"].items():
            on_release.add_metric([version], count)
        yield on_release
        yield GaugeMetricFamily(
            "fedge_fleet_queue_questions",
            "Questions that wait for central, on all devices that reported lately.",
            value=self._fleet["queue"],
        )
        yield GaugeMetricFamily(
            "fedge_fleet_silent_devices", "Members that were not heard of for ten minutes.", value=self._fleet["silent"]
        )


class _Costs(Collector):
    def __init__(self, spent: Mapping[tuple[Payer, Kind], float]) -> None:
        self._spent = spent

    def collect(self) -> Iterable[Metric]:
        """One family."""
        costs = CounterMetricFamily("fedge_cost_usd", "What the ledger holds, in USD.", labels=["payer", "kind"])
        for (payer, kind), amount in sorted(self._spent.items()):
            costs.add_metric([payer.value, kind.value], amount)
        yield costs


class _Upstream(Collector):
    def __init__(self, figures: UpstreamFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Questions and tokens; what they cost is in the ledger."""
        requests = CounterMetricFamily(
            "fedge_upstream_requests", "Questions for upstream, by what came of them.", labels=["outcome"]
        )
        for outcome in OUTCOMES:  # at 0 as well, so that the first one counts as an increase
            requests.add_metric([outcome], self._figures.outcomes.get(outcome, 0))
        yield requests
        tokens = CounterMetricFamily(
            "fedge_upstream_tokens",
            "Upstream's tokens: as it billed them, or estimated where it did not say.",
            labels=["direction", "basis"],
        )
        for direction in ("in", "out"):
            for basis in ("billed", "estimated"):
                tokens.add_metric([direction, basis], self._figures.tokens.get(f"{direction}/{basis}", 0))
        yield tokens


def exposition(recorded: Recorded) -> bytes:
    """What is ``recorded``, in Prometheus's text form."""
    registry = CollectorRegistry()
    registry.register(_Rounds(recorded))
    registry.register(_Releases(recorded))
    registry.register(_Costs(recorded.spent))
    if recorded.upstream is not None:
        registry.register(_Upstream(recorded.upstream))
    if recorded.fleet is not None:
        registry.register(_Fleet(recorded.fleet))
    return generate_latest(registry)
