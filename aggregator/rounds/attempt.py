"""One attempt at a session of a round, and who is asked: what every part of a round goes by."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aggregator.rounds.client_selection import least_cohort, order_nodes, split_cohorts
from aggregator.rounds.config import RoundSettings
from aggregator.rounds.interfaces import AttemptLog, NoAttempts, NoProgress, Place, ProgressLog, Registry
from aggregator.rounds.report import RoundReport, attempt_report
from aggregator.rounds.secagg_session import SessionDriver, SessionPlan, SessionResult
from aggregator.rounds.state import FederationState
from aggregator.rounds.suspicion import PooledTest, SuspicionPolicy, Verdict
from aggregator.rounds.transport import DeviceLink
from fedge.randomness import derive
from fedge.release import structure_sha256, weights_sha256
from fedge.secagg import Purpose, SessionAborted, SessionConfig, Stage, Task
from fedge.secagg.beacon import Draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempting:
    """Makes attempts over one link. ``clock``: UNIX seconds. ``owner`` names the device that a node was enrolled for.

    Cohorts are drawn from the beacon that devices contribute to; with ``repeatable_draws`` from ``seed`` instead, for a
    simulation that must come out the same each time.
    """

    link: DeviceLink
    sessions: SessionDriver
    registry: Registry
    settings: RoundSettings
    seed: bytes
    clock: Callable[[], float]
    attempts: AttemptLog = field(default_factory=NoAttempts)
    progress: ProgressLog = field(default_factory=NoProgress)
    owner: Callable[[int], str | None] | None = None
    suspicion: SuspicionPolicy = field(default_factory=SuspicionPolicy)
    readmissions: Mapping[str, int] = field(default_factory=dict)
    """The exclusions of suspects that operators lifted: by device, the exclusion's number."""
    repeatable_draws: bool = False

    def event(self, report: RoundReport, kind: str, text: str, **detail: str | int | None) -> None:
        """Tell those who watch."""
        self.progress.event(kind, text, round_number=report.round_number, **detail)

    def present(self, report: RoundReport, purpose: Purpose) -> list[int]:
        """Return the connected nodes that may have something left for ``purpose``.

        Those that this round shut out, and those that are excluded as suspects, are not among them.
        """
        tally, suspects = report.tally, report.suspicion.excluded
        nodes = [node for node in self.link.nodes() if node not in tally.excluded and (purpose, node) not in tally.delivered]
        return [node for node in nodes if self.name_of(node) not in suspects]

    def name_of(self, node: int) -> str:
        """Return the device that the node was enrolled for, or the node's number where nobody knows."""
        owner = None if self.owner is None else self.owner(node)
        return str(node) if owner is None else owner

    def ordered(self, report: RoundReport, nodes: Sequence[int], purpose: Purpose) -> list[int]:
        """Return the nodes in the order of the period's draw."""
        return order_nodes(
            nodes,
            beacon=self._beacon(report),
            period=report.period,
            purpose=purpose,
            name_of=self.name_of,
        )

    def everyone(self, report: RoundReport, purpose: Purpose) -> list[list[int]]:
        """Return all nodes in cohorts of about the usual size, or of the least one while a spoiled sum is unexplained.

        Few devices have a canary: cohorts about its health are as large as they may be, so that enough of these meet.
        """
        present = self.ordered(report, self.present(report, purpose), purpose)
        is_testing = any(test.purpose == purpose for test in report.suspicion.unexplained())
        usual = self.settings.cohort_max if purpose == "health" else self.settings.cohort
        size = min(usual, least_cohort(self.settings.n_min)) if is_testing else usual
        cohorts = split_cohorts(present, size, limit=self.settings.cohort_max)
        self.note_draw(report, present, [len(cohort) for cohort in cohorts], purpose)
        return cohorts

    def note_draw(self, report: RoundReport, nodes: Sequence[int], sizes: Sequence[int], purpose: Purpose) -> None:
        """Keep how the cohorts were drawn, for those who check it."""
        draw = Draw(
            beacon=self._beacon(report),
            period=report.period,
            purpose=purpose,
            members=tuple(sorted(map(self.name_of, nodes))),
            sizes=tuple(sizes),
        )
        report.draws.append(draw)

    def _beacon(self, report: RoundReport) -> bytes:
        return derive(self.seed, "beacon") if self.repeatable_draws else report.beacon

    def probe_cap(self, state: FederationState) -> int:
        """Return how many probes a device may count for the first time in this period."""
        return state.probes.cap or self.settings.probe_cap

    def probe_store(self, state: FederationState) -> int:
        """Return how many probes a device's histograms of stored probes may hold in this period."""
        return state.probes.store(self.probe_cap(state))

    def session(
        self,
        state: FederationState,
        report: RoundReport,
        *,
        purpose: Purpose,
        attempt: int,
        config: SessionConfig,
        nodes: list[int],
        canary: str = "",
    ) -> SessionResult | None:
        """One attempt at a session about the state's release, noted in the report; None where it was aborted."""
        counts = purpose == "counts"
        proved = counts and self.settings.range_proofs
        manifest = self.registry.release(state.release_id).manifest
        task = Task(
            purpose=purpose,
            period=self.settings.calendar.period_at(self.clock()),
            release_id=state.release_id,
            weights_sha256=weights_sha256(state.head),
            structure_sha256=structure_sha256(state.head),
            architecture=manifest.architecture_text,
            encoder_sha256=manifest.encoder_sha256,
            canary_release_id=canary,
            probe_epsilon=self.settings.probe_epsilon if counts else 0.0,
            probe_cap=self.probe_cap(state) if counts else 0,
            range_proofs=proved,
            probe_store=self.probe_store(state) if proved else 0,
        )
        plan = SessionPlan(
            round_number=report.round_number,
            attempt=attempt,
            task=task,
            config=config,
            timeout_s=self.settings.phase_timeout_s,
            claim=self.settings.counts_claim(task) if proved else None,
        )
        place, left_before, started = plan.place, len(report.tally.dropouts), self.clock()
        present = len(self.present(report, purpose))
        with self.progress.phase(place, "select", expected=present, needed=config.n_min) as reported:
            self.attempts.begin(report.round_number, attempt)
            reported(len(nodes))
        result, reason = None, ""
        try:
            result = self.sessions.run(plan, nodes, report.tally)
        except SessionAborted as error:
            reason = str(error)
            report.notes.append(f"{place.purpose} attempt {attempt} aborted: {error}")
            self._observe_abort(report, place, error)
        else:
            self._observe(report, place, report.tally.survivors, Verdict.CLEAN)
            report.contributions.append(result.contribution)
        dropouts = dict(report.tally.dropouts[left_before:])
        ended = attempt_report(
            place,
            result,
            reason,
            asked=len(nodes),
            started=started,
            finished=self.clock(),
            roster=report.tally.roster,
            dropouts=dropouts,
        )
        report.sessions.append(ended)
        session = None if ended.session_id is None else ended.session_id.hex()
        self.event(report, f"attempt.{ended.outcome}", ended.said, attempt=attempt, purpose=ended.purpose, session=session)
        return result

    def _observe_abort(self, report: RoundReport, place: Place, error: SessionAborted) -> None:
        """Keep what an abort says about its members: who left in time is no liar, and who was never there is none either."""
        if error.is_spoiled:
            self._observe(report, place, report.tally.survivors, Verdict.SUM)
        elif error.exclude and error.stage in (Stage.MASKING.value, Stage.UNMASKING.value):
            self._observe(report, place, error.exclude, Verdict.SHARES)

    def _observe(self, report: RoundReport, place: Place, members: Iterable[str], verdict: Verdict) -> None:
        report.tests[place.attempt] = PooledTest(
            period=report.period, purpose=place.purpose, members=tuple(sorted(members)), verdict=verdict
        )
