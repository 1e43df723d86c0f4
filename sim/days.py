"""The pacer of a simulated run: lets a day of queries pass before each round, and measures, books and saves after it."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from aggregator.releases.publication import RolloutRecord
from aggregator.releases.registry import ReleaseRegistry
from aggregator.rounds.privacy import epsilon_of, privacy_report
from aggregator.rounds.report import RoundReport, store_round
from aggregator.rounds.state import FederationState
from aggregator.store import Database
from aggregator.workbench.strong import MemoizedModel
from aggregator.workbench.workloads import Drawn
from edge_client.releases.inference import InferenceSession, SessionCache
from fedge.costs import PriceBook, Totals, all_cloud_usd, break_even_round, loaded_usd, marginal_usd
from fedge.costs.ledger import Kind
from fedge.costs.profiles import DeviceProfile
from fedge.release import CertificateDocument, Release, weights_sha256
from fedge.routing import Policy, Violations
from sim import checkpoint as checkpoints
from sim.accounting import devices_totals, round_totals
from sim.checkpoint import Checkpoint
from sim.clock import DAY, SimulatedClock
from sim.config import SimulationConfig
from sim.fleet import Asked, Fleet
from sim.measure import Measurement, TestAnswers, TestSet
from sim.policy_figures import policy_entry
from sim.source import RegistrySource

STATE_FILE = "state.bin"
MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "manifest.sig"
CERTIFICATE_FILE = "certificate.json"
PROBES_FILE = "probe_counts.bin"


class Observer(Protocol):
    """Is told how a run gets on."""

    def stage(self, text: str) -> None:
        """What is going on now."""

    def round_finished(self, entry: dict[str, Any]) -> None:
        """One more entry of the summary's ``rounds``."""


Traffic = list[list[Drawn]]
Alter = Callable[[int, Traffic], Traffic]
"""What is really asked in a round, from its number and what would be: an experiment may withhold or add queries."""
Watch = Callable[[int, TestAnswers], None]
"""Is shown each round's number and the answers of its release to the test third."""


def unaltered(round_number: int, traffic: Traffic) -> Traffic:
    """The traffic as it is."""
    del round_number
    return traffic


class Days:
    """A `Pacer` over simulated days; ``rounds`` grows by one entry of the summary a round.

    ``answers`` are the device's to the test third, by the release of the last round that was played.
    """

    def __init__(
        self,
        config: SimulationConfig,
        *,
        fleet: Fleet,
        registry: ReleaseRegistry,
        database: Database,
        source: RegistrySource,
        strong: MemoizedModel,
        test: TestSet,
        book: PriceBook,
        profile: DeviceProfile,
        policy: Policy,
        clock: SimulatedClock,
        observer: Observer,
        rounds: list[dict[str, Any]],
        alter: Alter = unaltered,
        watch: Watch | None = None,
        probe_counts: Callable[[], bytes],
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._registry = registry
        self._database = database
        self._rollouts = RolloutRecord(registry, lambda: nullcontext(database))
        self._source = source
        self._strong = strong
        self._test = test
        self._book = book
        self._profile = profile
        self._policy = policy
        self._clock = clock
        self._observer = observer
        self._alter = alter
        self._watch = watch
        self._probe_counts = probe_counts
        self._honest = frozenset(fleet.honest)
        self._sessions = SessionCache()
        self._asked: list[Asked] = []
        self._seconds: dict[str, float] = {}
        self.rounds = rounds
        self.answers: TestAnswers | None = None
        self.asked_labels = np.zeros(len(test.workload.labels), dtype=np.int64)
        for entry in rounds:  # of an interrupted run: its traffic is a pure function of the seed
            self._count(alter(entry["round"], fleet.upcoming(entry["round"])))

    def wait(self, round_number: int) -> bool:
        """Let the queries of a day pass, unless the run is over."""
        if round_number > self._config.rounds:
            return False
        self._observer.stage(f"round {round_number}: queries")
        started = time.perf_counter()
        traffic = self._alter(round_number, self._fleet.upcoming(round_number))
        self._count(traffic)
        # In one batch for speed; what devices do not ask is only looked at to know how often they were really wrong.
        self._strong.precompute([one.query for queries in traffic for one in queries])
        self._seconds = {"central": time.perf_counter() - started}
        started = time.perf_counter()
        asked = self._fleet.live_one_day(round_number, traffic)
        self._asked = [one for one in asked if one.device in self._honest]
        self._seconds["queries"] = time.perf_counter() - started
        self._observer.stage(f"round {round_number}: training and secure aggregation")
        return True

    def keep(self, state: FederationState, report: RoundReport) -> None:
        """Measure the round's release on the test third, close the ledger, save everything."""
        started = time.perf_counter()
        release = self._registry.release(state.release_id)
        self.answers = self.measured(release, state.threshold)
        measured = self._test.measure(self.answers)
        if self._watch is not None:
            self._watch(report.round_number, self.answers)
        self._seconds["measure"] = time.perf_counter() - started
        self._source.refresh()
        self._fleet.take_up()
        violations = self._test.violations(self.answers, self._policy)
        totals = devices_totals(self._fleet.devices[number].store for number in self._fleet.honest) + round_totals(
            report.tally,
            self._book,
            self._profile,
            devices=len(self._honest),
            seconds=DAY,
            at=self._clock(),
        )
        entry = self._entry(state, report, measured, violations, totals)
        self.rounds.append(entry)
        store_round(self._database, state, report, finished=self._clock(), delta=self._config.dp_delta)
        self._rollouts.catch_up(self._database)
        checkpoints.save(
            self._config.out,
            Checkpoint(
                config=self._config.to_json(),
                round_number=report.round_number,
                clock=self._clock(),
                files={
                    **stored_files(state, release, self._registry.certificate(state.release_id)),
                    PROBES_FILE: self._probe_counts(),
                },
                devices=self._fleet.dump(),
                rounds=self.rounds,
            ),
        )
        self._database.add_ledger(report.round_number, totals.entries(at=self._clock()))
        self._registry.prune(keep=1)
        self._observer.round_finished(entry)

    def measured(self, release: Release, threshold: float | None) -> TestAnswers:
        """What ``release`` says to the test third."""
        session = InferenceSession(release, sessions=self._sessions)
        return self._test.answers(session, release.manifest, threshold, self._policy, self._book.central_price_usd)

    def break_even(self, account: str) -> int | None:
        """First round from which the cumulative cost in ``account`` stays at or below all-cloud."""
        cost = _cumulative([entry["usd_total"][account] for entry in self.rounds])
        return break_even_round(cost, _cumulative([entry["usd_total"]["all_cloud"] for entry in self.rounds]))

    def _count(self, traffic: Traffic) -> None:
        for number in self._fleet.honest:
            np.add.at(self.asked_labels, [one.label for one in traffic[number]], 1)

    def _entry(
        self,
        state: FederationState,
        report: RoundReport,
        measured: Measurement,
        violations: Violations,
        totals: Totals,
    ) -> dict[str, Any]:
        queries = len(self._asked)
        central = self._central_labels()
        usd = {
            "marginal": marginal_usd(totals),
            "loaded": loaded_usd(totals),
            "all_cloud": self._all_cloud(queries, totals),
        }
        return {
            "round": report.round_number,
            "outcome": report.outcome,
            "attempts": report.attempts,
            "cohort": report.cohort,
            "survivors": report.survivors,
            "fallback_rate": measured.fallback_rate,
            "accuracy": measured.accuracy,
            "accuracy_in_scope": measured.accuracy_in_scope,
            "local_disagreement": measured.local_disagreement,
            "threshold": state.threshold,
            "certificate": state.certificate_state,
            "certified_risk": state.certificate_bound,
            "release_statement": "none" if report.statement is None else report.statement.release_statement,
            "temperature": state.temperature,
            "weights_sha256": weights_sha256(state.head),
            "release": state.release_id,
            "training_loss": report.training_loss,
            **self._privacy(state, report),
            "probes": {"local": state.running.seen, "disagreed": state.running.disagreed, "rate": state.probe_rate},
            "stream": self._stream(central),
            **self._policy_entry(violations, central),
            "usd_per_1k": {name: 1000.0 * amount / queries for name, amount in usd.items()},
            "usd": totals.usd_by_kind(),
            "usd_by_payer": totals.usd_by_payer(),
            "usd_total": usd,
            "energy_j": _energy(totals),
            "quantities": totals.quantity_by_kind(),
            "bytes": {
                "up": int(totals.quantity(Kind.UPLINK_QUERIES, Kind.UPLINK_UPDATES, Kind.UPLINK_SECAGG)),
                "down": int(totals.quantity(Kind.DOWNLINK_ANSWERS, Kind.DOWNLINK_SECAGG, Kind.DOWNLINK_RELEASES)),
                "update": report.tally.bytes_vectors,
            },
            "seconds": {**self._seconds, **report.tally.seconds},
            "notes": report.notes,
        }

    def privacy(self) -> dict[str, Any] | None:
        """What differential privacy cost over all rounds, and what may be said of it; None without."""
        spent = self.rounds[-1].get("privacy") if self.rounds else None
        if spent is None:
            return None
        config = self._config
        ratios = [entry["privacy"]["noise_to_signal"] for entry in self.rounds]
        report = privacy_report(
            multiplier=config.dp_noise_multiplier,
            rho=spent["rho"],
            delta=config.dp_delta,
            ratio=max((ratio for ratio in ratios if ratio is not None), default=None),
            devices=config.devices,
            sums_are_secret=config.secagg_label is True,
        )
        return asdict(report)

    def _privacy(self, state: FederationState, report: RoundReport) -> dict[str, Any]:
        """Spent so far, this round included; nothing without differential privacy."""
        if not self._config.dp_noise_multiplier:
            return {}
        spent = {
            "epsilon": epsilon_of(state.privacy_rho, self._config.dp_delta),
            "rho": state.privacy_rho,
            "noise_to_signal": report.noise_to_signal,
        }
        return {"privacy": spent}

    def _policy_entry(self, violations: Violations, central: list[str]) -> dict[str, Any]:
        """How the policy fared; nothing where there is none."""
        entry = policy_entry(self._policy, test=violations, asked=self._asked, central=central)
        return {} if entry is None else {"policy": entry}

    def _central_labels(self) -> list[str]:
        """What central would have said to each query of the round."""
        said = self._strong.predict([asked.drawn.query for asked in self._asked]).argmax(axis=1) if self._asked else []
        return [self._test.workload.labels[int(label)] for label in said]

    def _stream(self, central: list[str]) -> dict[str, Any]:
        """What the fleet's users really got this round, judged by what central would have said."""
        pairs = list(zip(self._asked, central, strict=True))
        local = [(asked, said) for asked, said in pairs if asked.answer.answered_by == "device"]
        labels = self._test.workload.labels
        disagreed = sum(asked.answer.answer != said for asked, said in local)
        right = sum(asked.answer.answer == labels[asked.drawn.label] for asked in self._asked)
        probes = sum(asked.answer.probe for asked in self._asked)
        human = sum(asked.answer.answered_by == "human" for asked in self._asked)
        total = len(self._asked)
        return {
            "queries": total,
            "local": len(local),
            "escalated": total - len(local) - probes - human,
            "probes": probes,
            "redrawn": sum(asked.drawn.redrawn for asked in self._asked),
            "disagreed": disagreed,
            "local_disagreement": disagreed / len(local) if local else None,
            "accuracy": right / total if total else None,
        }

    def _all_cloud(self, queries: int, totals: Totals) -> float:
        """The same queries with all of them sent to central; their bytes by the mean of those that were."""
        sent = sum(asked.answer.answered_by not in ("device", "human") for asked in self._asked)
        share = queries / sent if sent else 0.0
        return all_cloud_usd(
            queries,
            self._book,
            bytes_up=round(totals.quantity(Kind.UPLINK_QUERIES) * share),
            bytes_down=round(totals.quantity(Kind.DOWNLINK_ANSWERS) * share),
        )


def stored_files(state: FederationState, release: Release, certificate: CertificateDocument | None) -> dict[str, bytes]:
    """What the aggregator has to know to go on: its state, the release that devices run, and its certificate."""
    files = {
        STATE_FILE: state.to_bytes(),
        MANIFEST_FILE: release.manifest.to_bytes(),
        SIGNATURE_FILE: release.signature,
        **release.files,
    }
    return files if certificate is None else {**files, CERTIFICATE_FILE: certificate.to_bytes()}


def _energy(totals: Totals) -> dict[str, float]:
    kinds = (Kind.DEVICE_INFERENCE, Kind.DEVICE_TRAINING, Kind.DEVICE_RADIO, Kind.DEVICE_IDLE, Kind.CENTRAL_ENERGY)
    return {kind.value: totals.quantity(kind) for kind in kinds}


def _cumulative(values: list[float]) -> list[float]:
    total = 0.0
    sums = []
    for value in values:
        total += value
        sums.append(total)
    return sums
