"""Server optimizers as pairs of functions, `init` and `apply(state, change) -> (state, weights)`.

Source: Reddi et al., "Adaptive Federated Optimization" (2021), algorithms FedAvgM, FedAdam and FedAdagrad, without bias
correction as there; `tau` is the adaptivity floor.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["fedavgm", "fedadam", "fedadagrad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptimizer:
    """Hyperparameters. ``momentum`` is beta of FedAvgM and beta_1 of the adaptive ones."""

    kind: Kind = "fedavgm"
    learning_rate: float = 1.0
    momentum: float = 0.0
    beta_2: float = 0.99
    tau: float = 1e-3


@dataclass(frozen=True, slots=True)
class OptimizerState:
    """First and second moment of the mean change, float64 [m] each."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]


def init(length: int) -> OptimizerState:
    """The state before the first round."""
    return OptimizerState(np.zeros(length), np.zeros(length))


def apply(
    optimizer: ServerOptimizer, state: OptimizerState, weights: NDArray[np.float32], change: NDArray[np.float64]
) -> tuple[OptimizerState, NDArray[np.float32]]:
    """One server step: ``change`` is the weighted mean of the cohort's changes, float64 [m]."""
    if optimizer.kind == "fedavgm":
        first = optimizer.momentum * state.first + change
        step = optimizer.learning_rate * first
        moved = replace(state, first=first)
    else:
        first = optimizer.momentum * state.first + (1.0 - optimizer.momentum) * change
        if optimizer.kind == "fedadam":
            second = optimizer.beta_2 * state.second + (1.0 - optimizer.beta_2) * change**2
        else:
            second = state.second + change**2
        step = optimizer.learning_rate * first / (np.sqrt(second) + optimizer.tau)
        moved = OptimizerState(first, second)
    return moved, (weights.astype(np.float64) + step).astype(np.float32)
