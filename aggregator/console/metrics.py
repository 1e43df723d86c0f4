"""The server's figures for Prometheus, worked out from the recorded rounds at each scrape: nothing is lost by a restart.

Never a device's id.

What machines that watch the console ask: whether it answers, and the figures for Prometheus.

When what the server shows to devices runs out unless it is renewed. Reads published files only, never a private key.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import get_args

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from aggregator.central.upstream.budget import OUTCOMES
from aggregator.console.context import TheConsole
from aggregator.console.devices import Fleet, standing
from aggregator.rounds.canary import Verdict
from aggregator.settings import ServerHome
from aggregator.store import Database
from aggregator.store.rows import RoundRow
from aggregator.upstream_figures import UpstreamFigures, read_figures
from fedge.costs import Kind, Payer
from fedge.errors import FedgeError, InputError
from fedge.identity.tls import certificate_span
from fedge.release import CertificateDocument
from fedge.routing.statement import CertificateStatement

api = APIRouter()


@api.get("/healthz")
def health(console: TheConsole) -> dict[str, str]:
    """Answers once the database does."""
    console.database.config()
    return {"status": "ok"}


@api.get("/metrics", include_in_schema=False)
def figures(console: TheConsole) -> Response:
    """For Prometheus."""
    database, operator = console.database, console.operator
    controls, period_s = database.controls.get(), console.about.get("period_s")
    rounds = database.rounds()
    release = rounds[-1].release if rounds else None
    recorded = Recorded(
        rounds=rounds,
        spent=database.spent_usd(),
        version=None if release is None else database.published.version(release),
        expiries=threshold_expiry(database) if operator is None else expiries(operator.home, database),
        period_s=controls.period_s or (period_s if isinstance(period_s, float) else None),
        paused=controls.state != "running",
        upstream=None if operator is None else _upstream(operator.home.upstream_figures),
        fleet=standing(console),
    )
    return Response(exposition(recorded), media_type=CONTENT_TYPE)


def _upstream(path: Path) -> UpstreamFigures | None:
    """What central wrote last; nothing where that cannot be read: the other figures are worth showing."""
    try:
        return read_figures(path)
    except InputError:
        return None


def expiries(home: ServerHome, database: Database) -> Mapping[str, float]:
    """UNIX seconds by name: the servers' TLS certificate (``server``), their authority's (``authority``), the console's own
    (``console``), the newest certificate of a threshold (``threshold``) and TUF's timestamp (``tuf_timestamp``). What is not
    there is left out.
    """
    found: dict[str, float] = {}
    files = {"server": home.tls / "server.crt", "authority": home.tls / "ca.crt"}
    with suppress(FedgeError):
        own = home.settings().console.tls_certificate
        files |= {} if own is None else {"console": own}
    for name, file in files.items():
        with suppress(FedgeError, OSError):
            found[name] = certificate_span(file.read_bytes())[1]
    with suppress(OSError, ValueError, KeyError, TypeError):
        found["tuf_timestamp"] = _tuf_expiry(home.tuf / "repository" / "metadata" / "timestamp.json")
    with suppress(FedgeError):
        found.update(threshold_expiry(database))
    return found


def threshold_expiry(database: Database) -> Mapping[str, float]:
    """As `expiries`, of a database alone."""
    newest = database.published.newest_certificate()
    if newest is None:
        return {}
    statement = CertificateDocument.from_bytes(newest).statement
    return {"threshold": float(CertificateStatement.from_bytes(statement).expires_at)}


def _tuf_expiry(path: Path) -> float:
    return datetime.fromisoformat(json.loads(path.read_text(encoding="utf-8"))["signed"]["expires"]).timestamp()


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
