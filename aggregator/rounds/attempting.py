"""One attempt at a session of a round, and who is asked: what every part of a round goes by."""

from collections.abc import Callable
from dataclasses import dataclass, field

from aggregator.rounds.cohort import split_cohorts
from aggregator.rounds.interfaces import AttemptLog, NoAttempts, NoProgress, ProgressLog, Registry
from aggregator.rounds.link import DeviceLink
from aggregator.rounds.report import RoundReport, attempt_report
from aggregator.rounds.round_settings import RoundSettings
from aggregator.rounds.session import SessionDriver, SessionPlan, SessionResult
from aggregator.rounds.state import FederationState
from fedge.release import structure_sha256, weights_sha256
from fedge.secagg import Purpose, SessionAborted, SessionConfig, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempting:
    """Makes attempts over one link. ``seed`` draws cohorts; ``clock``: UNIX seconds."""

    link: DeviceLink
    sessions: SessionDriver
    registry: Registry
    settings: RoundSettings
    seed: bytes
    clock: Callable[[], float]
    attempts: AttemptLog = field(default_factory=NoAttempts)
    progress: ProgressLog = field(default_factory=NoProgress)

    def event(self, report: RoundReport, kind: str, text: str, **detail: str | int | None) -> None:
        """Tell those who watch."""
        self.progress.event(kind, text, round_number=report.round_number, **detail)

    def present(self, report: RoundReport, purpose: Purpose) -> list[int]:
        """Return the connected nodes that may have something left for ``purpose``, but for those that were shut out."""
        tally = report.tally
        return [node for node in self.link.nodes() if node not in tally.excluded and (purpose, node) not in tally.delivered]

    def everyone(self, report: RoundReport, purpose: Purpose) -> list[list[int]]:
        """Return all nodes in cohorts of about the usual size: counts are small, and every probe tells."""
        return split_cohorts(
            self.present(report, purpose),
            self.settings.cohort,
            limit=self.settings.cohort_max,
            seed=self.seed,
            round_number=report.round_number,
        )

    def probe_cap(self, state: FederationState) -> int:
        """Return how many probes a device may count for the first time in this period."""
        return state.probes.cap or self.settings.probe_cap

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
        )
        plan = SessionPlan(
            round_number=report.round_number,
            attempt=attempt,
            task=task,
            config=config,
            timeout_s=self.settings.phase_timeout_s,
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
