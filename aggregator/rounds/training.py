"""The update half of a round: one secure sum of a cohort's changes, and the server optimizer's step with it."""

from dataclasses import dataclass, replace

import numpy as np

from aggregator.rounds import server_optimizer
from aggregator.rounds.server_optimizer import ServerOptimizer
from aggregator.rounds.state import FederationState
from fedge.layouts import UpdateLayout, UpdateSums
from fedge.release import flatten, unflatten
from fedge.routing.confidence import best_temperature
from fedge.secagg.codec import Decoded


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """The state after the server's step (not published yet) and what the cohort's sum said of its training."""

    state: FederationState
    sums: UpdateSums


def apply_noisy_sum(
    state: FederationState, decoded: Decoded, *, survivors: int, optimizer: ServerOptimizer
) -> FederationState:
    """Mean change = sum / number of devices. No metrics travel with noise, so the temperature stays."""
    weights = flatten(state.head)
    optimizer_state, stepped = server_optimizer.apply(optimizer, state.optimizer, weights, decoded.reals / survivors)
    return replace(state, head=unflatten(stepped, state.head), optimizer=optimizer_state)


def apply_sum(state: FederationState, decoded: Decoded, *, optimizer: ServerOptimizer, weight_cap: int) -> TrainingOutcome:
    """Mean change = (sum of weight times change) / (sum of weights); a cohort without examples changes nothing."""
    sums = UpdateLayout().decode(decoded.integers)
    weights = flatten(state.head)
    mean = decoded.reals / (sums.weight / weight_cap) if sums.weight else np.zeros(len(weights))
    optimizer_state, stepped = server_optimizer.apply(optimizer, state.optimizer, weights, mean)
    # Where no fresh answer came in, or a head that knows nothing gave equal losses at all temperatures, the old one stands.
    temperature = best_temperature(sums.nll) if np.ptp(sums.nll) > 0.0 else state.temperature
    moved = replace(state, head=unflatten(stepped, state.head), optimizer=optimizer_state, temperature=temperature)
    return TrainingOutcome(moved, sums)
