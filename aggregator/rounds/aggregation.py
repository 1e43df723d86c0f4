"""The update half of a round: the cohorts' sums become a clipped mean change, and the server optimizer steps with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aggregator.rounds import server_optimizer
from aggregator.rounds.release_builder import HeldOut
from aggregator.rounds.robust_sum import (
    CohortSum,
    SumCheck,
    check_sum,
    clipped_mean,
    compare_cohorts,
    next_temperature,
    robust_mean,
)
from aggregator.rounds.server_optimizer import OptimizerState, ServerOptimizer
from aggregator.rounds.state import FederationState
from fedge.layouts import UpdateSums
from fedge.release import Weights, flatten, unflatten
from fedge.secagg.codec import Decoded

COHORT_SLACK = 2.0
"""A cohort alone may be so many times further below the best accuracy than a release may."""


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
    head, optimizer_state = _step(state, decoded.reals / survivors, optimizer)
    return replace(state, head=head, optimizer=optimizer_state)


def apply_sums(
    state: FederationState,
    cohorts: Sequence[CohortSum],
    *,
    optimizer: ServerOptimizer,
    evaluate: Callable[[Weights], HeldOut | None],
) -> TrainingOutcome:
    """Step with the mean change of the cohorts, clipped to what past rounds allow, and note what it says for the next one.

    Where there are several cohorts, each is tried alone on the server's held-out queries (``evaluate``) first, so that a
    cohort with a liar in it can be left out. A cohort without examples changes nothing.
    """
    bound = state.history.bound
    checks = tuple(check_sum(each.decoded, survivors=each.survivors, config=each.config, bound=bound) for each in cohorts)
    length = len(flatten(state.head))
    if len(cohorts) > 1:
        checks = _compare(state, cohorts, checks, optimizer=optimizer, evaluate=evaluate)
    mean = robust_mean(cohorts, checks, length=length, bound=bound)
    head, optimizer_state = _step(state, mean.change, optimizer)
    moved = replace(
        state,
        head=head,
        optimizer=optimizer_state,
        temperature=next_temperature(mean.cohort_sums, state.temperature),
        history=state.history.extend(mean.sums, devices=mean.devices, mean_norm=mean.norm),
    )
    return TrainingOutcome(moved, mean.sums, checks)


def _compare(
    state: FederationState,
    cohorts: Sequence[CohortSum],
    checks: tuple[SumCheck, ...],
    *,
    optimizer: ServerOptimizer,
    evaluate: Callable[[Weights], HeldOut | None],
) -> tuple[SumCheck, ...]:
    length, bound = len(flatten(state.head)), state.history.bound
    tried: list[HeldOut] = []
    for each in cohorts:
        held_out = evaluate(_step(state, clipped_mean(each, length=length, bound=bound), optimizer)[0])
        if held_out is None:
            return checks
        tried.append(held_out)
    # A cohort has a part of the round's data, so its release alone may be worse than the round's.
    allowed = COHORT_SLACK * max(held_out.allowed_drop for held_out in tried)
    accuracies = [held_out.accuracy for held_out in tried]
    return compare_cohorts(checks, accuracies, best=state.best_accuracy or 0.0, allowed=allowed)


def _step(
    state: FederationState, change: NDArray[np.float64], optimizer: ServerOptimizer
) -> tuple[Weights, OptimizerState]:
    optimizer_state, stepped = server_optimizer.apply(optimizer, state.optimizer, flatten(state.head), change)
    return unflatten(stepped, state.head), optimizer_state
