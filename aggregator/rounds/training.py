"""The update half of a round: the cohorts' sums become a clipped mean change, and the server optimizer steps with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aggregator.rounds import server_optimizer
from aggregator.rounds.robust_sum import CohortSum, SumCheck, next_temperature, robust_mean
from aggregator.rounds.server_optimizer import ServerOptimizer
from aggregator.rounds.state import FederationState
from fedge.layouts import UpdateSums
from fedge.release import flatten, unflatten
from fedge.secagg.codec import Decoded


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """The state after the server's step (not published yet), what the cohorts said of their training, and the verdicts on
    their sums.
    """

    state: FederationState
    sums: UpdateSums
    checks: tuple[SumCheck, ...]


def apply_noisy_sum(
    state: FederationState, decoded: Decoded, *, survivors: int, optimizer: ServerOptimizer
) -> FederationState:
    """Mean change = sum / number of devices. No metrics travel with noise, so the temperature stays."""
    weights = flatten(state.head)
    optimizer_state, stepped = server_optimizer.apply(optimizer, state.optimizer, weights, decoded.reals / survivors)
    return replace(state, head=unflatten(stepped, state.head), optimizer=optimizer_state)


def apply_sums(state: FederationState, cohorts: Sequence[CohortSum], *, optimizer: ServerOptimizer) -> TrainingOutcome:
    """Step with the mean change of the cohorts, clipped to what past rounds allow, and learn from it what the next one may be.

    A cohort without examples changes nothing.
    """
    weights = flatten(state.head)
    mean = robust_mean(cohorts, length=len(weights), bound=state.history.bound)
    optimizer_state, stepped = server_optimizer.apply(optimizer, state.optimizer, weights, mean.change)
    moved = replace(
        state,
        head=unflatten(stepped, state.head),
        optimizer=optimizer_state,
        temperature=next_temperature(mean.cohort_sums, state.temperature),
        history=state.history.extend(mean.sums, devices=mean.devices, mean_norm=mean.norm),
    )
    return TrainingOutcome(moved, mean.sums, mean.checks)
