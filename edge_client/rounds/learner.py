"""Training on the device: the package's own optimizer step (`fedge.architectures`) over the remembered labels, in numpy.

Never sees a probe, and its result never leaves the device except clipped, weighted and masked. A release brings numbers,
never code.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_client.training_policy import Training
from fedge.architectures import HEAD_BIAS, HEAD_WEIGHT, Architecture
from fedge.errors import FedgeError
from fedge.randomness import generator
from fedge.release import Weights, flatten


@dataclass(frozen=True, slots=True)
class Update:
    """``delta`` float32 [m] = trained minus initial weights, in the order of `fedge.release.flatten`.

    ``loss_sum``: summed loss of the examples, times their weights, over the last epoch, each at the weights just before its
    step. ``largest_share``: the largest share of one example in the change (`DenseHead.shares`), weight decay left out; 0
    without examples.
    """

    delta: NDArray[np.float32]
    examples: int
    loss_sum: float
    steps: int
    largest_share: float = 0.0
    kept: float = 1.0
    """The part of its own change that the most limited example kept."""


@dataclass(frozen=True, slots=True)
class PreparedUpdate:
    """What goes into the sum: ``vector`` float32 [m] = ``weight`` times the clipped delta, ``weight`` in (0, 1]."""

    vector: NDArray[np.float32]
    weight: float
    norm: float
    clipped: bool


def train(
    architecture: Architecture,
    weights: Weights,
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    training: Training,
    seed: bytes,
    sample_weights: NDArray[np.float32] | None = None,
    max_share: float = 1.0,
) -> Update:
    """Run ``training.epochs`` over normalized embeddings [n, D] with labels [n] (and weights [n], 1 where not given).

    Descended is the sum of weight times loss over the *number* of examples in a batch: a device all of whose examples are
    heavy trains as hard as they weigh. The order of each epoch is drawn from ``seed``. With no examples the update is zero.
    An example whose share of the change is over ``max_share`` is scaled down to that share (1 and above: never).
    Raises FedgeError where the training leaves the finite numbers.
    """
    examples = len(labels)
    if examples == 0:
        return Update(np.zeros(sum(array.size for array in weights.values()), np.float32), 0, 0.0, 0)
    sample_weights = np.ones(examples, np.float32) if sample_weights is None else sample_weights
    current = weights
    moves = np.zeros((examples, architecture.classes), np.float32)
    steps = 0
    loss_sum = 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # told below, once
        for epoch in range(training.epochs):
            loss_sum = 0.0
            order = generator(seed, "epoch", epoch).permutation(examples)
            for start in range(0, examples, training.batch_size):
                rows = order[start : start + training.batch_size]
                step = architecture.step(
                    current,
                    embeddings[rows],
                    labels[rows],
                    sample_weights[rows],
                    learning_rate=training.learning_rate,
                    settings=training.descent,
                )
                current = step.weights
                moves[rows] += step.moves
                loss_sum += step.loss * float(sample_weights[rows].sum())
                steps += 1
        delta = flatten(current) - flatten(weights)
    if not np.isfinite(delta).all():
        raise FedgeError(
            f"training diverged at learning rate {training.learning_rate}: the update is not finite and is dropped"
        )
    limited, kept = architecture.limit_shares(embeddings, moves, max_share)
    if kept.min() < 1:
        removed = moves - limited
        delta -= flatten({HEAD_WEIGHT: embeddings.T @ removed, HEAD_BIAS: removed.sum(axis=0)})
    largest = float(architecture.shares(embeddings, limited).max())
    return Update(delta, examples, loss_sum, steps, largest, float(kept.min()))


def prepare_update(update: Update, *, clip_norm: float, weight_cap: int) -> PreparedUpdate:
    """Clip the delta to L2 norm ``clip_norm`` and weigh it by min(examples, weight_cap) / weight_cap."""
    norm = float(np.linalg.norm(update.delta.astype(np.float64)))
    weight = min(update.examples, weight_cap) / weight_cap
    factor = weight * min(1.0, clip_norm / norm if norm > 0 else 1.0)
    return PreparedUpdate(update.delta * np.float32(factor), weight, norm, norm > clip_norm)
