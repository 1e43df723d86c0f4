"""One round as a step `state -> state`: a secure sum of updates, a release, a secure sum of probe counts, a certificate.

Reads like the design: cohort, training, aggregation, publishing, certificate. It holds no state of its own; whoever drives
it keeps the state that it returns, so that a crash loses at most the round at hand.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from operator import add

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.rounds.canary import CanaryPolicy, verdict
from aggregator.rounds.certify import certify
from aggregator.rounds.cohort import cohort_sizes, draw_cohort, split_cohorts
from aggregator.rounds.interfaces import AttemptLog, NoAttempts, NoProgress, Place, ProgressLog, Registry
from aggregator.rounds.link import DeviceLink
from aggregator.rounds.privacy import noise_to_signal, session_rho
from aggregator.rounds.publish import QualityGateFailed, ReleaseMaker
from aggregator.rounds.report import RoundReport, attempt_report
from aggregator.rounds.round_settings import RoundSettings
from aggregator.rounds.server_optimizer import init
from aggregator.rounds.session import SessionDriver, SessionPlan, SessionResult
from aggregator.rounds.state import CanaryWatch, FederationState
from aggregator.rounds.training import apply_noisy_sum, apply_sum
from fedge.errors import InputError
from fedge.layouts import CountsLayout, CountSums, HealthLayout, HealthSums
from fedge.release import CertificateDocument, Release, flatten, structure_sha256, weights_sha256
from fedge.routing.probes import probe_rate
from fedge.routing.running import RunningBound
from fedge.secagg import SessionAborted, SessionConfig
from fedge.usage import NAMES, Usage
from protos.fedge.rounds.v1 import rounds_pb2


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
    attempts: AttemptLog = field(default_factory=NoAttempts)
    progress: ProgressLog = field(default_factory=NoProgress)

    def run(self, state: FederationState) -> tuple[FederationState, RoundReport]:
        """Round ``state.round_number + 1``. One that cannot be finished changes no weights, release or certificate."""
        report = RoundReport(state.round_number + 1, started=self.clock(), release_id=state.release_id)
        self._event(report, "round.started", f"round {report.round_number} begins")
        report.attempts_before = before_a_crash = self.attempts.last(report.round_number)
        state = self._follow(state, report)
        if state.canary is not None:  # one change of the fleet at a time
            report.outcome = "canary"
            self._sum_usage(state.canary.before, report)
            return replace(state, round_number=report.round_number), report
        before = state
        moved = self._train(state, report, before_a_crash)
        if moved is not None:
            state = self._publish(state, moved, report)
        state = self._certify(state, before, report)
        self._sum_usage(state, report)
        if self.settings.canary is not None and self.registry.active() != state.release_id:
            share = self.settings.canary.share
            state = replace(state, canary=CanaryWatch(since=self.clock(), share=share, sums=HealthSums(), before=before))
        spent = before.privacy_rho + report.privacy_rho
        return replace(state, round_number=report.round_number, privacy_rho=spent), report

    def _follow(self, state: FederationState, report: RoundReport) -> FederationState:
        """What became of the last release meanwhile: an operator may have decided, else the canary's sums do."""
        report.release_id = state.release_id
        active = self.registry.active()
        if state.canary is not None:
            if active == state.release_id:
                report.notes.append("the release on the canary was promoted by an operator")
                return replace(state, canary=None)
            on_canary = self.registry.canary()
            if on_canary is None or on_canary.release_id != state.release_id:
                return self._without_canary(state, state.canary, report, "the release on the canary was taken back")
            state = self._watch_canary(state, state.canary, report)
            report.release_id = state.release_id
        elif active is not None and active != state.release_id:
            followed = self.registry.release(active)
            if not self.maker.is_base_of(followed):
                raise InputError(
                    f"release {active[:12]} runs on another device model than the one prepared here: promote a release of "
                    "this one, or start the rounds with the models that it was made from"
                )
            newer = followed.manifest.version > state.version
            why = f"it is a new base in place of {state.release_id[:12]}" if newer else _taken_back(state)
            report.notes.append(f"training goes on from {active[:12]}: {why}")
            state = replace(
                initial_state(followed),
                round_number=state.round_number,
                version=max(state.version, followed.manifest.version),
                running=state.running,
                publication=state.publication,
                probe_rate=state.probe_rate,
                privacy_rho=state.privacy_rho,
            )
            report.release_id = active
        return state

    def _watch_canary(self, state: FederationState, watch: CanaryWatch, report: RoundReport) -> FederationState:
        """Sum how the release on the canary did, and decide by `aggregator.rounds.canary`."""
        policy = self.settings.canary or CanaryPolicy(share=watch.share, health_s=0.0)
        layout = HealthLayout()
        config = self.settings.session(reals=0, integers=layout.integers, now=self.clock())
        for nodes in self._everyone(report):
            report.attempts_before += 1
            result = self._session(
                watch.before,
                report,
                purpose=rounds_pb2.PURPOSE_HEALTH,
                attempt=report.attempts_before,
                config=config,
                nodes=nodes,
                canary=state.release_id,
            )
            if result is not None:
                watch = replace(watch, sums=watch.sums + layout.decode(result.decoded.integers))
        now = self.clock()
        decision, reason = verdict(watch, policy, now=now)
        report.notes.append(reason)
        report.canary = {"decision": decision, **asdict(watch.sums)}
        self._event(report, f"canary.{decision}", reason, release=state.release_id)
        if decision == "promote":
            self.registry.promote(state.release_id, at=now, reason=reason)
            return replace(state, canary=None)
        if decision == "reject":
            self.registry.reject(state.release_id, at=now, reason=reason)
            return self._without_canary(state, watch, report, "it goes on from the release before")
        if decision == "widen":
            watch = replace(watch, share=min(1.0, 2 * watch.share), since=now)
            self.registry.put_on_canary(state.release_id, share=watch.share, at=now, reason=f"{reason}: {watch.share:.0%}")
        return replace(state, canary=watch)

    @staticmethod
    def _without_canary(state: FederationState, watch: CanaryWatch, report: RoundReport, note: str) -> FederationState:
        """The state before the release; what was learned about the fleet stays, and its version is not used again."""
        report.notes.append(note)
        report.release_id = watch.before.release_id
        return replace(
            watch.before,
            round_number=state.round_number,
            version=state.version,
            running=state.running,
            publication=state.publication,
            privacy_rho=state.privacy_rho,
        )

    def _train(self, state: FederationState, report: RoundReport, before_a_crash: int) -> FederationState | None:
        config = self.settings.update_session(len(flatten(state.head)), now=self.clock())
        results = self._sum_updates(state, report, config)
        if config.noise_multiplier:
            # Cohorts of a round share no device. That an aborted attempt gave nothing away is the aggregator's word alone;
            # one that a crash cut off may have given a sum that nobody noted.
            released = before_a_crash + report.attempts - len(results) + bool(results)
            report.privacy_rho = session_rho(config) * released
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
                    attempt=report.attempts_before + report.attempts,
                )
                result = self._session(
                    state,
                    report,
                    purpose=rounds_pb2.PURPOSE_UPDATE,
                    attempt=report.attempts_before + report.attempts,
                    config=config,
                    nodes=nodes,
                )
                if result is not None:
                    results.append(result)
                    asked.update(nodes)
                    break
        return results

    def _publish(self, state: FederationState, moved: FederationState, report: RoundReport) -> FederationState:
        place = Place(report.round_number, report.attempts_before + report.attempts, "update")
        with report.tally.phase("publish"):
            try:
                with self.progress.phase(place, "evaluate", expected=0, needed=0):
                    release = self.maker.make(
                        moved.head, version=state.version + 1, temperature=moved.temperature, parent=state.release_id
                    )
            except QualityGateFailed as error:
                report.outcome = "quality gate"
                report.notes.append(str(error))
                self._event(report, "release.refused", str(error))
                return state
            with self.progress.phase(place, "publish", expected=0, needed=0):
                self.registry.publish(release, at=self.clock())
        self._event(
            report, "release.published", f"release {release.release_id[:12]} is published", release=release.release_id
        )
        report.release_id, report.release = release.release_id, release
        return replace(moved, release_id=release.release_id, version=release.manifest.version)

    def _certify(self, state: FederationState, before: FederationState, report: RoundReport) -> FederationState:
        """The certificate of ``state``'s release; where it cannot be had, ``before`` goes on if that has one."""
        layout = CountsLayout(len(self.settings.certificate.grid))
        config = self.settings.session(reals=0, integers=layout.integers, now=self.clock())
        counts: CountSums | None = None
        reported = 0
        # Attempts of one round share one rising sequence, since a device accepts no pair (round, attempt) twice.
        attempt = report.attempts_before + report.attempts
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
        place = Place(report.round_number, attempt, "counts")
        with report.tally.phase("certificate"), self.progress.phase(place, "evaluate", expected=0, needed=0):
            statement, running = certify(
                counts,
                state.running,
                self.settings.certificate,
                release_id=state.release_id,
                round_number=report.round_number,
                now=self.clock(),
            )
            document = CertificateDocument.sign(self.release_key, state.release_id, statement.to_bytes())
        with report.tally.phase("certificate"), self.progress.phase(place, "publish", expected=0, needed=0):
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

    def _sum_usage(self, state: FederationState, report: RoundReport) -> None:
        """Ask everyone, tried once, what was answered and used. What an aborted cohort sent off is missing for good.

        ``state``: of a release that every device has.
        """
        if not self.settings.usage_every or report.round_number % self.settings.usage_every:
            return
        config = self.settings.session(reals=0, integers=len(NAMES), now=self.clock())
        for nodes in self._everyone(report):
            result = self._session(
                state,
                report,
                purpose=rounds_pb2.PURPOSE_USAGE,
                attempt=1 + max((session.attempt for session in report.sessions), default=report.attempts_before),
                config=config,
                nodes=nodes,
            )
            if result is None:
                continue
            try:
                usage = Usage.decode(result.decoded.integers)
            except InputError as error:  # one device's lie costs its cohort's counts, not the round
                report.notes.append(f"usage discarded: {error}")
                report.tally.refusals[type(error).__name__] += 1
                continue
            report.usage = usage if report.usage is None else report.usage + usage

    def _promote(self, release_id: str, reason: str) -> None:
        """Let devices run the release: all of them, or the canary first."""
        if self.registry.active() == release_id:
            return
        if self.settings.canary is None:
            self.registry.promote(release_id, at=self.clock(), reason=reason)
        else:
            share = self.settings.canary.share
            reason = f"{reason}; canary: {share:.0%} of the devices first"
            self.registry.put_on_canary(release_id, share=share, at=self.clock(), reason=reason)

    def _event(self, report: RoundReport, kind: str, text: str, **detail: str | int | None) -> None:
        self.progress.event(kind, text, round_number=report.round_number, **detail)

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
        canary: str = "",
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
            canary=canary,
        )
        place, left_before, started = plan.place, len(report.tally.dropouts), self.clock()
        with self.progress.phase(place, "select", expected=len(self._present(report)), needed=config.n_min) as reported:
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
        self._event(report, f"attempt.{ended.outcome}", ended.said, attempt=attempt, purpose=ended.purpose, session=session)
        return result


def _taken_back(state: FederationState) -> str:
    return f"an operator took {state.release_id[:12]} back"


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
