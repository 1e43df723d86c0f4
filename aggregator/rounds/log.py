"""A round's line in the database: who took part and who left, the signed records, the release, the certificate, the
new state.
"""

from dataclasses import asdict

from aggregator.disk_space import Retry, once
from aggregator.rounds.privacy import DELTA, epsilon_of
from aggregator.rounds.report import AttemptReport, RoundReport
from aggregator.rounds.state import FederationState
from aggregator.store import AttemptRow, CertificateRow, Database, DropoutRow, RecordRow, ReleaseRow, RoundRow


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
