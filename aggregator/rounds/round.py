"""One round as a step `state -> state`: a secure sum of updates, a release, a secure sum of probe counts, a certificate.

Reads like the design: cohort, training, aggregation, publishing, certificate. It holds no state of its own; whoever drives
it keeps the state that it returns, so that a crash loses at most the round at hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

from aggregator.releases.signer import ReleaseKey, sign_certificate_with
from aggregator.rounds.aggregation import apply_noisy_sum, apply_sums
from aggregator.rounds.attempt import Attempting
from aggregator.rounds.certification import add_pair, certify
from aggregator.rounds.client_selection import cohort_sizes, draw_cohort, least_cohort_sizes
from aggregator.rounds.interfaces import Place
from aggregator.rounds.privacy import noise_to_signal, session_rho
from aggregator.rounds.probe_sums import ProbeSums, TotalsSource, ask_totals
from aggregator.rounds.release_builder import HELD_OUT_ACCURACY, QualityGateFailed, ReleaseMaker
from aggregator.rounds.report import RoundReport
from aggregator.rounds.robust_sum import CohortSum
from aggregator.rounds.rollout import follow
from aggregator.rounds.secagg_session import SessionResult
from aggregator.rounds.state import CanaryWatch, FederationState
from aggregator.rounds.suspicion import Verdict
from fedge.errors import InputError
from fedge.layouts import HealthSums
from fedge.release import flatten
from fedge.secagg import SessionConfig
from fedge.secagg.beacon import advance
from fedge.usage import NAMES, Usage

VERDICTS: Mapping[str, Verdict] = {"range": Verdict.SUM, "norm": Verdict.NORM, "accuracy": Verdict.ACCURACY}
"""What a check of a cohort's sum (`aggregator.rounds.robust_sum.SumCheck.kind`) is as evidence about its members."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRunner(Attempting):
    """Runs rounds over one link; everything it needs comes in."""

    maker: ReleaseMaker
    release_key: ReleaseKey
    totals: TotalsSource | None = None
    """Central's totals of probes; without them no release is certified."""

    def run(self, state: FederationState) -> tuple[FederationState, RoundReport]:
        """Round ``state.round_number + 1``. One that cannot be finished changes no weights, release or certificate."""
        report = RoundReport(
            state.round_number + 1,
            started=self.clock(),
            release_id=state.release_id,
            suspicion=state.suspicion.lift(self.readmissions).begin(state.round_number + 1, self.suspicion),
            beacon=state.beacon,
        )
        state = self._run(state, report)
        self._weigh_evidence(report)
        contributions = [] if self.repeatable_draws else report.contributions
        beacon = advance(report.beacon, report.period, contributions)
        return replace(state, suspicion=report.suspicion, beacon=beacon), report

    def _run(self, state: FederationState, report: RoundReport) -> FederationState:
        self.event(report, "round.started", f"round {report.round_number} begins")
        report.attempts_before = before_a_crash = self.attempts.last(report.round_number)
        state = follow(self, self.maker, state, report)
        if state.canary is not None:  # one change of the fleet at a time
            report.outcome = "canary"
            self._sum_usage(state.canary.before, report)
            return replace(state, round_number=report.round_number)
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
        return replace(state, round_number=report.round_number, privacy_rho=spent)

    def _weigh_evidence(self, report: RoundReport) -> None:
        """Add the round's sessions to the evidence, and name the devices that it excludes from now on."""
        before = report.suspicion.excluded
        for _, test in sorted(report.tests.items()):
            report.suspicion = report.suspicion.observe(
                test.members, test.verdict, period=test.period, purpose=test.purpose, policy=self.suspicion
            )
        for exclusion in report.suspicion.exclusions:
            if exclusion.device not in before:
                text = (
                    f"{exclusion.device} is excluded from rounds up to period {exclusion.until}: it spoils sums with "
                    f"probability {exclusion.posterior:.1%}, given who took part in which. Inspect it; revoke it if it is "
                    f"hostile, or run `fedge rounds readmit {exclusion.device}`"
                )
                report.notes.append(text)
                self.event(report, "device.excluded", text, device=exclusion.device, until=exclusion.until)

    def _train(self, state: FederationState, report: RoundReport, before_a_crash: int) -> FederationState | None:
        config = self.settings.update_session(len(flatten(state.head)), state.history, now=self.clock())
        results = self._sum_updates(state, report, config)
        if config.noise_multiplier:
            # Cohorts of a round share no device. That an aborted attempt gave nothing away is the aggregator's word alone;
            # one that a crash cut off may have given a sum that nobody noted.
            released = before_a_crash + report.attempts - len(results) + bool(results)
            report.privacy_rho = session_rho(config) * released
        if not results:
            report.outcome = "paused" if report.outcome == "paused" else "failed"
            return None
        report.cohort = sum(result.cohort for result in results)
        report.survivors = sum(result.survivors for result in results)
        optimizer = self.settings.optimizer
        if config.noise_multiplier:
            decoded = reduce(add, (result.decoded for result in results))
            report.noise_to_signal = noise_to_signal(config, report.survivors)
            return apply_noisy_sum(state, decoded, survivors=report.survivors, optimizer=optimizer)
        cohorts = [
            CohortSum(
                decoded=result.decoded, survivors=result.survivors, config=config, rotation_seed=result.rotation_seed
            )
            for result in results
        ]
        outcome = apply_sums(
            state, cohorts, optimizer=optimizer, evaluate=lambda head: self.maker.export(head).held_out
        )
        report.sum_checks = outcome.checks
        report.notes += [f"a cohort's sum is suspicious: {check.reason}" for check in outcome.checks if check.suspicious]
        summed = [one.attempt for one in report.sessions if one.purpose == "update" and one.outcome == "finished"]
        for attempt, check in zip(summed, outcome.checks, strict=True):
            if check.kind is not None:
                report.condemn([attempt], VERDICTS[check.kind])
        if outcome.sums.examples:
            report.training_loss = outcome.sums.loss_sum / outcome.sums.examples
        return outcome.state

    def _sum_updates(self, state: FederationState, report: RoundReport, config: SessionConfig) -> list[SessionResult]:
        """Sum one cohort after another. No device is in two sums, and none whose update has left it is asked again."""
        sizes = self._cohort_sizes(report, config)
        results: list[SessionResult] = []
        asked: set[int] = set()
        left: set[int] = set()
        for size in sizes:
            for _ in range(self.settings.max_attempts):
                free = [node for node in self.present(report, "update") if node not in asked]
                if report.attempts and len(free) < config.n_min:
                    break  # the others' updates have left them, and are never sent again
                report.attempts += 1
                nodes = draw_cohort(self.ordered(report, free, "update"), size, last=left)
                result = self.session(
                    state,
                    report,
                    purpose="update",
                    attempt=report.attempts_before + report.attempts,
                    config=config,
                    nodes=nodes,
                )
                if result is not None:
                    results.append(result)
                    asked.update(nodes)
                    break
                node_of = report.tally.node_of
                left |= set(nodes) - set(node_of.values())
                left |= {node_of[name] for name in report.sessions[-1].dropouts if name in node_of}
        return results

    def _cohort_sizes(self, report: RoundReport, config: SessionConfig) -> list[int]:
        """Return the sizes of the cohorts to draw; none where the fleet is too small to go on, as the report then says."""
        present = self.present(report, "update")
        usual = cohort_sizes(self.settings.cohort, limit=config.cohort_max)
        spoiled = [test for test in report.suspicion.unexplained() if test.purpose == "update"]
        if spoiled:
            sizes = least_cohort_sizes(
                len(present), n_min=config.n_min, cohort=self.settings.cohort, limit=config.cohort_max
            )
            if not sizes:
                self._pause(report, config.n_min + 1, f"to find out who spoiled the sum of round {spoiled[-1].period}")
        elif report.suspicion.excluded and len(present) < config.n_min:
            sizes = []
            self._pause(report, config.n_min, "for a private sum")
        else:
            sizes = usual
        self.note_draw(report, present, sizes, "update")
        return sizes

    def _pause(self, report: RoundReport, needed: int, what: str) -> None:
        report.outcome = "paused"
        present = len(self.present(report, "update"))
        suspects = sorted(report.suspicion.posterior(self.suspicion).items(), key=lambda one: (-one[1], one[0]))[:3]
        named = ", ".join([*(f"{name} ({chance:.0%})" for name, chance in suspects), *sorted(report.suspicion.excluded)])
        text = (
            f"updates are paused: {present} devices are present that are not excluded, and {needed} are "
            f"needed {what} (rounds.n_min is {self.settings.n_min}). Enroll or connect more devices; inspect {named} and "
            "revoke what is hostile, or readmit excluded devices with `fedge rounds readmit`"
        )
        report.notes.append(text)
        self.event(report, "updates.paused", text, needed=needed)

    def _publish(self, state: FederationState, moved: FederationState, report: RoundReport) -> FederationState:
        place = Place(report.round_number, report.attempts_before + report.attempts, "update")
        with report.tally.phase("publish"):
            try:
                with self.progress.phase(place, "evaluate", expected=0, needed=0):
                    release = self.maker.make(
                        moved.head,
                        version=state.version + 1,
                        temperature=moved.temperature,
                        parent=state.release_id,
                        best_accuracy=state.best_accuracy,
                    )
            except QualityGateFailed as error:
                # Head, optimizer and history of sums stay those of ``state``: whatever spoiled the release goes with it.
                report.sum_checks = tuple(check.suspect("accuracy", str(error)) for check in report.sum_checks)
                report.outcome = "quality gate"
                report.notes.append(str(error))
                self.event(report, "release.refused", str(error))
                return state
            with self.progress.phase(place, "publish", expected=0, needed=0):
                self.registry.publish(release, at=self.clock())
        self.event(
            report, "release.published", f"release {release.release_id[:12]} is published", release=release.release_id
        )
        report.release_id, report.release = release.release_id, release
        accuracies = [a for a in (state.best_accuracy, release.manifest.metrics.get(HELD_OUT_ACCURACY)) if a is not None]
        return replace(
            moved,
            release_id=release.release_id,
            version=release.manifest.version,
            best_accuracy=max(accuracies, default=None),
        )

    def _certify(self, state: FederationState, before: FederationState, report: RoundReport) -> FederationState:
        """The certificate of ``state``'s release; where it cannot be had, ``before`` goes on if that has one."""
        layout = self.settings.counts_layout
        config = self.settings.session(reals=0, integers=layout.integers, now=self.clock())
        sums = ProbeSums(
            state.probes,
            liars=self.settings.liars,
            cap=self.probe_cap(state),
            epsilon=self.settings.probe_epsilon,
            has_source=self.totals is not None,
            most=self.settings.proved_agreements(self.probe_store(state)) if self.settings.range_proofs else None,
        )
        # Attempts of one round share one rising sequence, since a device accepts no pair (round, attempt) twice.
        attempt = report.attempts_before + report.attempts
        for nodes in self.everyone(report, "counts"):
            attempt += 1
            # Tried once: the same counts must not be masked twice. Those of an aborted cohort are missing from this round,
            # and its running pairs for good.
            result = self.session(state, report, purpose="counts", attempt=attempt, config=config, nodes=nodes)
            if result is None:
                continue
            decoded = layout.decode(result.decoded.integers, devices=result.survivors)
            totals = None
            if self.totals is not None:
                totals, reason = ask_totals(self.totals, result.descriptor, result.signature)
                if totals is None:
                    report.notes.append(f"counts attempt {attempt} is not cross-checked: {reason}")
            known = len(sums.evidence)
            sums.add(decoded, totals, roster=result.cohort, survivors=result.survivors)
            if len(sums.evidence) > known:
                report.condemn([attempt], Verdict.COUNTS)
        precautions, probes = sums.precautions()
        for text in sums.evidence:
            report.notes.append(f"a device lied about its probes: {text}")
            report.tally.refusals["LiarEvidence"] += 1
            self.event(report, "counts.liar", f"a device lied about its probes: {text}")
        if sums.counts is None:
            # The pairs, which central's totals vouch for, count all the same: they are given once.
            running = add_pair(state.running, *sums.pair(), deducted=sums.pair_deduction)
            state, before = replace(state, running=running, probes=probes), replace(before, running=running, probes=probes)
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
            seen, disagreed = sums.pair()
            statement, running = certify(
                replace(sums.counts, running_seen=seen, running_disagreed=disagreed),
                state.running,
                self.settings.certificate,
                release_id=state.release_id,
                round_number=report.round_number,
                now=self.clock(),
                precautions=precautions,
            )
            document = sign_certificate_with(self.release_key, state.release_id, statement.to_bytes())
        with report.tally.phase("certificate"), self.progress.phase(place, "publish", expected=0, needed=0):
            self.registry.add_certificate(document, at=self.clock())
            self._promote(state.release_id, f"round {report.round_number}: {statement.state}")
        report.statement, report.certificate = statement, document
        return replace(
            state,
            running=running,
            probes=probes,
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
        for nodes in self.everyone(report, "usage"):
            result = self.session(
                state,
                report,
                purpose="usage",
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
                report.condemn([report.sessions[-1].attempt], Verdict.COUNTS)
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
