"""What an operator sees of a round: how each attempt at a session went, and what came of all of them.

A round's line in the database: who took part and who left, the signed records, the release, the certificate, the
new state.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

from aggregator.disk_space import Retry, once
from aggregator.rounds.interfaces import Place
from aggregator.rounds.privacy import DELTA, epsilon_of
from aggregator.rounds.robust_sum import SumCheck
from aggregator.rounds.secagg_session import SessionResult, Tally
from aggregator.rounds.state import FederationState
from aggregator.rounds.suspicion import PooledTest, Suspicion, Verdict
from aggregator.store import AttemptRow, CertificateRow, Database, DropoutRow, RecordRow, ReleaseRow, RoundRow
from fedge.release import CertificateDocument, Release
from fedge.routing.statement import CertificateStatement
from fedge.secagg.beacon import GENESIS, Draw
from fedge.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptReport:
    """One try at one session: ``outcome`` is "finished" or "aborted"; ``roster``: the devices that began it, none where it
    was aborted before they were known; ``dropouts`` says of each device that left when and why.
    """

    purpose: str
    attempt: int
    outcome: str
    reason: str
    cohort: int
    survivors: int
    started: float
    finished: float
    roster: tuple[str, ...]
    dropouts: Mapping[str, str]
    session_id: bytes | None
    record: bytes | None

    @property
    def said(self) -> str:
        """One line about it."""
        if self.outcome == "finished":
            return f"the sum of {self.purpose} has {self.survivors} of {self.cohort} devices in it"
        return f"attempt {self.attempt} at the sum of {self.purpose} was aborted: {self.reason}"


def attempt_report(
    place: Place,
    result: SessionResult | None,
    reason: str,
    *,
    asked: int,
    started: float,
    finished: float,
    roster: tuple[str, ...],
    dropouts: Mapping[str, str],
) -> AttemptReport:
    """The line of an attempt that ``asked`` so many devices; without a ``result`` it was aborted for ``reason``."""
    return AttemptReport(
        purpose=place.purpose,
        attempt=place.attempt,
        outcome="finished" if result else "aborted",
        reason=reason,
        cohort=result.cohort if result else asked,
        survivors=result.survivors if result else 0,
        started=started,
        finished=finished,
        roster=roster,
        dropouts=dropouts,
        session_id=result.session_id if result else None,
        record=result.record if result else None,
    )


@dataclass(slots=True)
class RoundReport:
    """What an operator sees of a round. ``attempts`` counts update sessions, the aborted ones too; ``attempts_before`` are
    those of the same round before a crash, and those that asked how the release on the canary does.
    """

    round_number: int
    started: float
    attempts: int = 0
    attempts_before: int = 0
    cohort: int = 0
    survivors: int = 0
    outcome: str = "finished"
    release_id: str = ""
    statement: CertificateStatement | None = None
    training_loss: float | None = None
    noise_to_signal: float | None = None
    privacy_rho: float = 0.0
    sum_checks: tuple[SumCheck, ...] = ()
    """The verdict on each cohort's sum of updates."""
    canary: Mapping[str, str | int] | None = None
    """What the sums said of the release on the canary, and what was decided; None where there was none."""
    tally: Tally = field(default_factory=Tally)
    sessions: list[AttemptReport] = field(default_factory=list)
    release: Release | None = None
    certificate: CertificateDocument | None = None
    notes: list[str] = field(default_factory=list)
    usage: Usage | None = None
    """What the devices that were asked answered and used since the last time."""
    suspicion: Suspicion = field(default_factory=Suspicion)
    """The evidence of earlier rounds, while the round runs; this round's is added at its end."""
    tests: dict[int, PooledTest] = field(default_factory=dict)
    """This round's sessions as evidence about their members, by attempt."""
    beacon: bytes = GENESIS
    """What the round's cohorts are drawn from."""
    contributions: list[bytes] = field(default_factory=list)
    """What its finished sessions contribute to the next beacon."""
    draws: list[Draw] = field(default_factory=list)

    @property
    def period(self) -> int:
        """The round's number: a period has one round, in which every device contributes once."""
        return self.round_number

    def condemn(self, attempts: Iterable[int], verdict: Verdict) -> None:
        """Note that the finished sums of these attempts turned out to be spoiled."""
        for attempt in attempts:
            if attempt in self.tests:
                self.tests[attempt] = replace(self.tests[attempt], verdict=verdict)


def store_round(
    database: Database,
    state: FederationState,
    report: RoundReport,
    *,
    finished: float,
    delta: float = DELTA,
    retry: Retry = once,
) -> None:
    """Write everything that ``report`` says of a round; the round itself, with the state to go on from, comes last.

    After a crash in between, the round is run again under new sessions and its line written again. ``delta``: for which the
    epsilon spent so far is given; there is none while updates carry no noise. ``retry`` does each write, a transaction.
    """
    for session in report.sessions:
        _store_attempt(database, report.round_number, session, retry)
    release = report.release
    if release is not None:
        retry(
            lambda: database.add_release(
                ReleaseRow(
                    release_id=release.release_id,
                    version=release.manifest.version,
                    round=report.round_number,
                    parent=release.manifest.parent,
                    published=finished,
                    manifest=release.manifest.to_bytes(),
                )
            )
        )
    if release is not None and report.certificate is not None and report.statement is not None:
        certificate = CertificateRow(
            release_id=release.release_id,
            state=report.statement.state,
            issued=float(report.statement.issued_at),
            document=report.certificate.to_bytes(),
        )
        retry(lambda: database.add_certificate(certificate))
    row = RoundRow(
        round=report.round_number,
        state=report.outcome,
        attempts=report.attempts,
        cohort=report.cohort,
        survivors=report.survivors,
        started=report.started,
        finished=finished,
        seconds=report.tally.seconds,
        release=report.release_id,
        metrics={
            "training_loss": report.training_loss,
            "threshold": state.threshold,
            "certificate": state.certificate_state,
            "certified_risk": state.certificate_bound,
            "refusals": dict(sorted(report.tally.refusals.items())),
            "notes": report.notes,
            "epsilon": epsilon_of(state.privacy_rho, delta) if state.privacy_rho else None,
            "canary": None if report.canary is None else dict(report.canary),
            "usage": None if report.usage is None else asdict(report.usage),
            "suspects": [asdict(exclusion) for exclusion in state.suspicion.exclusions],
            "fallback_rate": None if report.usage is None else report.usage.fallback_rate,
        },
    )
    retry(lambda: database.save_round(row, state.to_bytes()))


def _store_attempt(database: Database, round_number: int, session: AttemptReport, retry: Retry) -> None:
    retry(
        lambda: database.add_attempt(
            AttemptRow(
                round=round_number,
                attempt=session.attempt,
                purpose=session.purpose,
                outcome=session.outcome,
                reason=session.reason,
                cohort=session.cohort,
                survivors=session.survivors,
                started=session.started,
                finished=session.finished,
            )
        )
    )
    attempt, purpose = session.attempt, session.purpose
    retry(lambda: database.set_cohort(round_number, attempt=attempt, purpose=purpose, devices=session.roster))
    retry(
        lambda: database.add_dropouts(
            DropoutRow(
                round=round_number,
                attempt=session.attempt,
                purpose=session.purpose,
                device_id=device,
                stage=why.partition(":")[0],
                reason=why.partition(":")[2].strip(),
            )
            for device, why in session.dropouts.items()
        )
    )
    if session.record is not None and session.session_id is not None:
        row = RecordRow(
            round=round_number,
            attempt=session.attempt,
            session=session.session_id.hex(),
            record=session.record,
        )
        retry(lambda: database.add_record(row))
