"""Training on the device: the package's own optimizer step (`fedge.architectures`) over the remembered labels, in numpy.

Never sees a probe, and its result never leaves the device except clipped, weighted and masked. A release brings numbers,
never code.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedge.architectures import Architecture, DescentSettings
from fedge.errors import FedgeError, VerificationError
from fedge.randomness import generator
from fedge.release import Weights, flatten


@dataclass(frozen=True, slots=True)
class Training:
    """Hyperparameters of a device's training, from the release's manifest."""

    learning_rate: float
    batch_size: int
    epochs: int
    clip_norm: float
    weight_cap: int
    noise_multiplier: float = 0.0
    """Z of distributed differential privacy; above 0 every device weighs the same and reports nothing but its update."""
    example_clip_norm: float = math.inf
    """Bound on the L2 norm of one example's gradient."""
    l2: float = 0.0
    label_smoothing: float = 0.0

    @property
    def descent(self) -> DescentSettings:
        """What one step needs."""
        return DescentSettings(
            l2=self.l2, label_smoothing=self.label_smoothing, example_clip_norm=self.example_clip_norm
        )


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


@dataclass(frozen=True, slots=True)
class PreparedUpdate:
    """What goes into the sum: ``vector`` float32 [m] = ``weight`` times the clipped delta, ``weight`` in (0, 1]."""

    vector: NDArray[np.float32]
    weight: float
    norm: float
    clipped: bool


def training_from_mapping(mapping: Mapping[str, object]) -> Training:
    """The hyperparameters that ``Manifest.training`` holds. Raises VerificationError for missing or unusable ones."""
    numbers: dict[str, float] = {}
    for name in ("learning_rate", "batch_size", "epochs", "clip_norm", "example_clip_norm", "weight_cap"):
        value = mapping.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise VerificationError(f"the release's training.{name} is {value!r}, it must be a number above 0")
        numbers[name] = float(value)
    for name in ("batch_size", "epochs", "weight_cap"):
        if numbers[name] != int(numbers[name]):
            raise VerificationError(f"the release's training.{name} is {numbers[name]}, it must be a whole number")
    for name in ("noise_multiplier", "l2", "label_smoothing"):
        value = mapping.get(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
            raise VerificationError(f"the release's training.{name} is {value!r}, it must be a number of at least 0")
        numbers[name] = float(value)
    return Training(
        learning_rate=numbers["learning_rate"],
        batch_size=int(numbers["batch_size"]),
        epochs=int(numbers["epochs"]),
        clip_norm=numbers["clip_norm"],
        weight_cap=int(numbers["weight_cap"]),
        noise_multiplier=numbers["noise_multiplier"],
        example_clip_norm=numbers["example_clip_norm"],
        l2=numbers["l2"],
        label_smoothing=numbers["label_smoothing"],
    )


def train(
    architecture: Architecture,
    weights: Weights,
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    training: Training,
    seed: bytes,
    sample_weights: NDArray[np.float32] | None = None,
) -> Update:
    """Run ``training.epochs`` over normalized embeddings [n, D] with labels [n] (and weights [n], 1 where not given).

    Descended is the sum of weight times loss over the *number* of examples in a batch: a device all of whose examples are
    heavy trains as hard as they weigh. The order of each epoch is drawn from ``seed``. With no examples the update is zero.
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
    return Update(delta, examples, loss_sum, steps, float(architecture.shares(embeddings, moves).max()))


def prepare_update(update: Update, *, clip_norm: float, weight_cap: int) -> PreparedUpdate:
    """Clip the delta to L2 norm ``clip_norm`` and weigh it by min(examples, weight_cap) / weight_cap."""
    norm = float(np.linalg.norm(update.delta.astype(np.float64)))
    weight = min(update.examples, weight_cap) / weight_cap
    factor = weight * min(1.0, clip_norm / norm if norm > 0 else 1.0)
    return PreparedUpdate(update.delta * np.float32(factor), weight, norm, norm > clip_norm)
