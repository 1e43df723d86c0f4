"""What became of the last release before a round begins: an operator may have decided, else the canary's sums do.

A fleet's device model is replaced: another encoder, made anew, becomes the base that rounds go on from.

An operator's act between two rounds, like a rollback: the next round sees that another release is active and trains on from
that. What devices remember are queries and labels, never embeddings, so their labelled queries teach the new head and their
probes judge it at once; the running pairs stay, which speak of what the fleet answered under whatever model. Lost are the
learned head, the optimizer's moments, the fitted temperature and the release's certificate: until the next one everything
escalates.
"""

from dataclasses import asdict, replace

from aggregator.rounds.attempt import Attempting
from aggregator.rounds.canary import CanaryPolicy, verdict
from aggregator.rounds.interfaces import Registry
from aggregator.rounds.release_builder import ReleaseMaker
from aggregator.rounds.report import RoundReport
from aggregator.rounds.state import CanaryWatch, FederationState, initial_state
from fedge.errors import InputError
from fedge.layouts import HealthLayout
from fedge.release import Release


def replace_base(maker: ReleaseMaker, registry: Registry, state: FederationState, *, at: float) -> Release:
    """Publish and promote the first release of ``maker``'s device model in place of ``state``'s release.

    From then on only a `RoundRunner` with this ``maker`` may run the rounds. Raises QualityGateFailed, and InputError.
    """
    first = maker.make(maker.first_head, version=state.version + 1, temperature=1.0, parent=state.release_id)
    registry.publish(first, at=at)
    registry.promote(first.release_id, at=at, reason=f"a new base in place of {state.release_id[:12]}")
    return first


def follow(rounds: Attempting, maker: ReleaseMaker, state: FederationState, report: RoundReport) -> FederationState:
    """What became of the last release meanwhile: an operator may have decided, else the canary's sums do."""
    report.release_id = state.release_id
    active = rounds.registry.active()
    if state.canary is not None:
        if active == state.release_id:
            report.notes.append("the release on the canary was promoted by an operator")
            return replace(state, canary=None)
        on_canary = rounds.registry.canary()
        if on_canary is None or on_canary.release_id != state.release_id:
            return _without_canary(state, state.canary, report, "the release on the canary was taken back")
        state = _watch_canary(rounds, state, state.canary, report)
        report.release_id = state.release_id
    elif active is not None and active != state.release_id:
        followed = rounds.registry.release(active)
        if not maker.is_base_of(followed):
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
            probe_rate=state.probe_rate,
            privacy_rho=state.privacy_rho,
        )
        report.release_id = active
    return state


def _watch_canary(rounds: Attempting, state: FederationState, watch: CanaryWatch, report: RoundReport) -> FederationState:
    """Sum how the release on the canary did, and decide by `aggregator.rounds.canary`."""
    policy = rounds.settings.canary or CanaryPolicy(share=watch.share, health_s=0.0)
    layout = HealthLayout()
    config = rounds.settings.session(reals=0, integers=layout.integers, now=rounds.clock())
    for nodes in rounds.everyone(report, "health"):
        report.attempts_before += 1
        result = rounds.session(
            watch.before,
            report,
            purpose="health",
            attempt=report.attempts_before,
            config=config,
            nodes=nodes,
            canary=state.release_id,
        )
        if result is not None:
            watch = replace(watch, sums=watch.sums + layout.decode(result.decoded.integers))
    now = rounds.clock()
    decision, reason = verdict(watch, policy, now=now)
    report.notes.append(reason)
    report.canary = {"decision": decision, **asdict(watch.sums)}
    rounds.event(report, f"canary.{decision}", reason, release=state.release_id)
    if decision == "promote":
        rounds.registry.promote(state.release_id, at=now, reason=reason)
        return replace(state, canary=None)
    if decision == "reject":
        rounds.registry.reject(state.release_id, at=now, reason=reason)
        return _without_canary(state, watch, report, "it goes on from the release before")
    if decision == "widen":
        watch = replace(watch, share=min(1.0, 2 * watch.share), since=now)
        rounds.registry.put_on_canary(state.release_id, share=watch.share, at=now, reason=f"{reason}: {watch.share:.0%}")
    return replace(state, canary=watch)


def _without_canary(state: FederationState, watch: CanaryWatch, report: RoundReport, note: str) -> FederationState:
    """The state before the release; what was learned about the fleet stays, and its version is not used again."""
    report.notes.append(note)
    report.release_id = watch.before.release_id
    return replace(
        watch.before,
        round_number=state.round_number,
        version=state.version,
        running=state.running,
        privacy_rho=state.privacy_rho,
    )


def _taken_back(state: FederationState) -> str:
    return f"an operator took {state.release_id[:12]} back"
