"""One round as a step `state -> state`: a secure sum of updates, a release, a secure sum of probe counts, a certificate.

Reads like the design: cohort, training, aggregation, publishing, certificate. It holds no state of its own; whoever drives
it keeps the state that it returns, so that a crash loses at most the round at hand.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.rounds.certify import CertificatePolicy, certify
from aggregator.rounds.cohort import cohort_sizes, draw_cohort, split_cohorts
from aggregator.rounds.link import DeviceLink
from aggregator.rounds.privacy import noise_to_signal, session_rho
from aggregator.rounds.publish import QualityGateFailed, ReleaseMaker
from aggregator.rounds.server_optimizer import ServerOptimizer, init
from aggregator.rounds.session import SessionDriver, SessionPlan, SessionResult, Tally
from aggregator.rounds.state import FederationState
from aggregator.rounds.training import apply_noisy_sum, apply_sum
from fedge.errors import InputError
from fedge.layouts import CountsLayout, CountSums, UpdateLayout
from fedge.release import CertificateDocument, Release, flatten, structure_sha256, weights_sha256
from fedge.routing.probes import probe_rate
from fedge.routing.running import RunningBound
from fedge.routing.statement import CertificateStatement
from fedge.secagg import SessionAborted, SessionConfig, threshold
from protos.fedge.rounds.v1 import rounds_pb2


class Registry(Protocol):
    """Where releases and certificates are published (`aggregator.fleet.registry`)."""

    def publish(self, release: Release, *, at: float) -> str:
        """Make a release fetchable; devices do not answer with it yet."""

    def add_certificate(self, document: CertificateDocument, *, at: float) -> None:
        """Store the certificate of a published release; the newest counts."""

    def active(self) -> str | None:
        """What devices should run."""

    def reject(self, release_id: str, *, at: float, reason: str) -> None:
        """Give up a published release that was never promoted."""

    def promote(self, release_id: str, *, at: float, reason: str) -> None:
        """Make a published release what devices should run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSettings:
    """How rounds are run. ``cohort`` devices train in a round, in several cohorts side by side where they are more than
    ``cohort_max``, which is the encoding's head-room; ``n_min`` is the smallest cohort that is summed.
    """

    cohort: int
    cohort_max: int
    n_min: int
    bits: int
    clip_norm: float
    weight_cap: int
    max_attempts: int
    phase_timeout_s: float
    session_timeout_s: float
    optimizer: ServerOptimizer
    certificate: CertificatePolicy
    noise_multiplier: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptReport:
    """One try at one session: ``outcome`` is "finished" or "aborted"; ``dropouts`` says of each device that left
    when and why.
    """

    purpose: str
    attempt: int
    outcome: str
    reason: str
    cohort: int
    survivors: int
    started: float
    finished: float
    dropouts: Mapping[str, str]
    session_id: bytes | None
    record: bytes | None


@dataclass(slots=True)
class RoundReport:
    """What an operator sees of a round. ``attempts`` counts update sessions, the aborted ones too."""

    round_number: int
    started: float
    attempts: int = 0
    cohort: int = 0
    survivors: int = 0
    outcome: str = "finished"
    release_id: str = ""
    statement: CertificateStatement | None = None
    training_loss: float | None = None
    noise_to_signal: float | None = None
    privacy_rho: float = 0.0
    tally: Tally = field(default_factory=Tally)
    sessions: list[AttemptReport] = field(default_factory=list)
    release: Release | None = None
    certificate: CertificateDocument | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RoundRunner:
    """Runs rounds over one link; everything it needs comes in."""

    link: DeviceLink
    sessions: SessionDriver
    maker: ReleaseMaker
    registry: Registry
    settings: RoundSettings
    release_key: Ed25519PrivateKey
    seed: bytes
    clock: Callable[[], float]

    def run(self, state: FederationState) -> tuple[FederationState, RoundReport]:
        """Round ``state.round_number + 1``. A round that cannot be finished leaves weights, release and certificate
        as they are.
        """
        report = RoundReport(state.round_number + 1, started=self.clock(), release_id=state.release_id)
        before = state
        moved = self._train(state, report)
        if moved is not None:
            state = self._publish(state, moved, report)
        state = self._certify(state, before, report)
        spent = before.privacy_rho + report.privacy_rho
        return replace(state, round_number=report.round_number, privacy_rho=spent), report

    def _train(self, state: FederationState, report: RoundReport) -> FederationState | None:
        config = self._update_config(len(flatten(state.head)))
        results = self._sum_updates(state, report, config)
        if config.noise_multiplier:
            # Cohorts of a round share no device. That an aborted attempt gave nothing away is the aggregator's word alone.
            report.privacy_rho = session_rho(config) * (report.attempts - len(results) + bool(results))
        if not results:
            report.outcome = "failed"
            return None
        report.cohort = sum(result.cohort for result in results)
        report.survivors = sum(result.survivors for result in results)
        decoded = reduce(add, (result.decoded for result in results))
        optimizer = self.settings.optimizer
        if config.noise_multiplier:
            report.noise_to_signal = noise_to_signal(config, report.survivors)
            return apply_noisy_sum(state, decoded, survivors=report.survivors, optimizer=optimizer)
        outcome = apply_sum(state, decoded, optimizer=optimizer, weight_cap=self.settings.weight_cap)
        if outcome.sums.examples:
            report.training_loss = outcome.sums.loss_sum / outcome.sums.examples
        return outcome.state

    def _sum_updates(self, state: FederationState, report: RoundReport, config: SessionConfig) -> list[SessionResult]:
        """One sum a cohort. No device is in two of them, whatever became of an attempt."""
        results: list[SessionResult] = []
        asked: set[int] = set()
        for size in cohort_sizes(self.settings.cohort, limit=config.cohort_max):
            for _ in range(self.settings.max_attempts):
                report.attempts += 1
                nodes = draw_cohort(
                    [node for node in self._present(report) if node not in asked],
                    size,
                    seed=self.seed,
                    round_number=report.round_number,
                    attempt=report.attempts,
                )
                result = self._session(
                    state,
                    report,
                    purpose=rounds_pb2.PURPOSE_UPDATE,
                    attempt=report.attempts,
                    config=config,
                    nodes=nodes,
                )
                if result is not None:
                    results.append(result)
                    asked.update(nodes)
                    break
        return results

    def _publish(self, state: FederationState, moved: FederationState, report: RoundReport) -> FederationState:
        with report.tally.phase("publish"):
            try:
                release = self.maker.make(
                    moved.head, version=state.version + 1, temperature=moved.temperature, parent=state.release_id
                )
            except QualityGateFailed as error:
                report.outcome = "quality gate"
                report.notes.append(str(error))
                return state
            self.registry.publish(release, at=self.clock())
        report.release_id, report.release = release.release_id, release
        return replace(moved, release_id=release.release_id, version=release.manifest.version)

    def _certify(self, state: FederationState, before: FederationState, report: RoundReport) -> FederationState:
        """The certificate of ``state``'s release; where it cannot be had, ``before`` goes on if that has one."""
        layout = CountsLayout(len(self.settings.certificate.grid))
        config = self._config(reals=0, integers=layout.integers)
        counts: CountSums | None = None
        reported = 0
        # Attempts of one round share one rising sequence, since a device accepts no pair (round, attempt) twice.
        attempt = report.attempts
        for nodes in self._everyone(report):
            attempt += 1
            # Tried once: the same counts must not be masked twice. Those of an aborted cohort are missing from this round,
            # and its running pairs for good.
            result = self._session(
                state, report, purpose=rounds_pb2.PURPOSE_COUNTS, attempt=attempt, config=config, nodes=nodes
            )
            if result is None:
                continue
            sums = layout.decode(result.decoded.integers)
            pooled = sums if counts is None else counts + sums
            try:
                sums.check(devices=result.survivors)
                pooled.check(devices=reported + result.survivors)
            except InputError as error:  # one device's lie costs its cohort's counts, not the round
                report.notes.append(f"counts attempt {attempt} discarded: {error}")
                report.tally.refusals[type(error).__name__] += 1
                continue
            counts, reported = pooled, reported + result.survivors
        if counts is None:
            report.notes.append("no new certificate: every attempt to sum the probe counts was aborted")
            if self.registry.active() == state.release_id:
                return state  # the certificate that it has goes on until it expires
            if before.threshold is not None:
                # A better model that must escalate everything is worse than the one that devices have.
                self.registry.reject(state.release_id, at=self.clock(), reason="its probe counts could not be summed")
                report.outcome, report.release_id, report.release = "uncertified", before.release_id, None
                return before
            self._promote(state.release_id, "published without a certificate")
            return replace(state, threshold=None, certificate_state="none")
        with report.tally.phase("certificate"):
            statement, running = certify(
                counts,
                state.running,
                self.settings.certificate,
                release_id=state.release_id,
                round_number=report.round_number,
                now=self.clock(),
            )
            document = CertificateDocument.sign(self.release_key, state.release_id, statement.to_bytes())
            self.registry.add_certificate(document, at=self.clock())
            self._promote(state.release_id, f"round {report.round_number}: {statement.state}")
        report.statement, report.certificate = statement, document
        return replace(
            state,
            running=running,
            publication=report.round_number if statement.threshold is not None else state.publication,
            threshold=statement.threshold,
            probe_rate=statement.probe_rate,
            certificate_state=statement.state,
            certificate_bound=statement.running_bound,
        )

    def _promote(self, release_id: str, reason: str) -> None:
        if self.registry.active() != release_id:
            self.registry.promote(release_id, at=self.clock(), reason=reason)

    def _present(self, report: RoundReport) -> list[int]:
        return [node for node in self.link.nodes() if node not in report.tally.excluded]

    def _everyone(self, report: RoundReport) -> list[list[int]]:
        """All nodes in cohorts of about the usual size: counts are small, and every probe tells."""
        return split_cohorts(
            self._present(report),
            self.settings.cohort,
            limit=self.settings.cohort_max,
            seed=self.seed,
            round_number=report.round_number,
        )

    def _session(
        self,
        state: FederationState,
        report: RoundReport,
        *,
        purpose: "rounds_pb2.Purpose",
        attempt: int,
        config: SessionConfig,
        nodes: list[int],
    ) -> SessionResult | None:
        """One attempt at a session about the state's release, noted in the report; None where it was aborted."""
        plan = SessionPlan(
            round_number=report.round_number,
            attempt=attempt,
            purpose=purpose,
            release_id=state.release_id,
            weights_sha256=weights_sha256(state.head),
            structure_sha256=structure_sha256(state.head),
            publication=state.publication,
            config=config,
            timeout_s=self.settings.phase_timeout_s,
        )
        name = rounds_pb2.Purpose.Name(purpose).removeprefix("PURPOSE_").lower()
        started, left_before = self.clock(), len(report.tally.dropouts)
        result, reason = None, ""
        try:
            result = self.sessions.run(plan, nodes, report.tally)
        except SessionAborted as error:
            reason = str(error)
            report.notes.append(f"{name} attempt {attempt} aborted: {error}")
        report.sessions.append(
            AttemptReport(
                purpose=name,
                attempt=attempt,
                outcome="finished" if result else "aborted",
                reason=reason,
                cohort=result.cohort if result else len(nodes),
                survivors=result.survivors if result else 0,
                started=started,
                finished=self.clock(),
                dropouts=dict(report.tally.dropouts[left_before:]),
                session_id=result.session_id if result else None,
                record=result.record if result else None,
            )
        )
        return result

    def _update_config(self, reals: int) -> SessionConfig:
        """The configuration of update sessions. At 16 bits, and with noise, room in the ring is dear: it is that of the
        cohort at hand. With noise no integers travel, and the quorum is the t that a session takes to finish anyway: the
        more devices are sure to be there, the less noise each of them adds.
        """
        settings = self.settings
        largest = max(cohort_sizes(settings.cohort, limit=settings.cohort_max))
        if not settings.noise_multiplier:
            config = self._config(reals=reals, integers=UpdateLayout().integers)
            return config if settings.bits == 32 else replace(config, cohort_max=max(largest, 2))
        return replace(
            self._config(reals=reals, integers=0),
            cohort_max=largest,
            n_min=max(settings.n_min, threshold(largest)),
            noise_multiplier=settings.noise_multiplier,
        )

    def _config(self, *, reals: int, integers: int) -> SessionConfig:
        settings = self.settings
        return SessionConfig(
            reals=reals,
            integers=integers,
            bits=settings.bits,
            cohort_max=settings.cohort_max,
            scale=settings.clip_norm,
            clip_norm=settings.clip_norm,
            weight_cap=settings.weight_cap,
            n_min=settings.n_min,
            deadline=self.clock() + settings.session_timeout_s,
        )


def initial_state(first: Release) -> FederationState:
    """The state before the first round, around a first release that is already published and active."""
    manifest = first.manifest
    head = first.weights()
    return FederationState(
        round_number=0,
        head=head,
        optimizer=init(len(flatten(head))),
        temperature=manifest.temperature,
        release_id=first.release_id,
        version=manifest.version,
        running=RunningBound(),
        publication=0,
        threshold=None,
        probe_rate=probe_rate(0, False),
        certificate_state="none",
        certificate_bound=None,
    )
