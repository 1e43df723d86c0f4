"""Training on the device: a release's own optimizer step (``step.onnx``) over the remembered labels, without torch.

Never sees a probe, and its result never leaves the device except clipped, weighted and masked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

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


@dataclass(frozen=True, slots=True)
class Update:
    """``delta`` float32 [m] = trained minus initial weights, in the order of `fedge.release.flatten`.

    ``loss_sum``: summed loss of the examples, times their weights, over the last epoch, each at the weights just before its
    step.
    """

    delta: NDArray[np.float32]
    examples: int
    loss_sum: float
    steps: int


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
    for name in ("learning_rate", "batch_size", "epochs", "clip_norm", "weight_cap"):
        value = mapping.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise VerificationError(f"the release's training.{name} is {value!r}, it must be a number above 0")
        numbers[name] = float(value)
    for name in ("batch_size", "epochs", "weight_cap"):
        if numbers[name] != int(numbers[name]):
            raise VerificationError(f"the release's training.{name} is {numbers[name]}, it must be a whole number")
    noise = mapping.get("noise_multiplier", 0.0)
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise < 1e6:
        raise VerificationError(f"the release's training.noise_multiplier is {noise!r}, it must be a number of at least 0")
    return Training(
        learning_rate=numbers["learning_rate"],
        batch_size=int(numbers["batch_size"]),
        epochs=int(numbers["epochs"]),
        clip_norm=numbers["clip_norm"],
        weight_cap=int(numbers["weight_cap"]),
        noise_multiplier=float(noise),
    )


def train(
    step: onnxruntime.InferenceSession,
    weights: Weights,
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    training: Training,
    seed: bytes,
    sample_weights: NDArray[np.float32] | None = None,
) -> Update:
    """Run ``training.epochs`` over embeddings [n, D] with labels [n] (and weights [n], 1 where not given) from ``weights``.

    Descended is the sum of weight times loss over the *number* of examples in a batch. The step graph divides by the sum of
    their weights, so that each step is made longer by the batch's mean weight: without that, a device all of whose examples
    are heavy would train as if none were.

    The order of each epoch is drawn from ``seed``; the last batch of an epoch is padded with examples of weight 0. With no
    examples the update is zero. Raises FedgeError where the training leaves the finite numbers.
    """
    examples = len(labels)
    names = sorted(weights)
    outputs = [f"{name}.next" for name in names]
    if examples == 0:
        return Update(np.zeros(sum(weights[name].size for name in names), np.float32), 0, 0.0, 0)
    sample_weights = np.ones(examples, np.float32) if sample_weights is None else sample_weights
    batch = training.batch_size
    padding = -examples % batch
    current: list[NDArray[Any]] = [weights[name] for name in names]
    steps = 0
    loss_sum = 0.0
    for epoch in range(training.epochs):
        loss_sum = 0.0
        order = generator(seed, "epoch", epoch).permutation(examples)
        # Padding repeats the first example with weight 0: any valid row will do.
        rows = np.concatenate([order, np.zeros(padding, dtype=order.dtype)]) if padding else order
        row_weights = sample_weights[rows]
        row_weights[examples:] = 0.0
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            part_weights = row_weights[start : start + batch]
            mean_weight = float(part_weights.sum()) / min(batch, examples - start)
            rate = np.array(training.learning_rate * mean_weight, dtype=np.float32)
            batch_of = {"embedding": embeddings[part], "label": labels[part], "sample_weight": part_weights}
            feed = dict(zip(names, current, strict=True)) | batch_of | {"learning_rate": rate}
            loss, *current = step.run(["loss", *outputs], feed)
            loss_sum += float(loss) * float(part_weights.sum())
            steps += 1
    delta = flatten(dict(zip(names, current, strict=True))) - flatten(weights)
    if not np.isfinite(delta).all():
        raise FedgeError(
            f"training diverged at learning rate {training.learning_rate}: the update is not finite and is dropped"
        )
    return Update(delta, examples, loss_sum, steps)


def prepare_update(update: Update, *, clip_norm: float, weight_cap: int) -> PreparedUpdate:
    """Clip the delta to L2 norm ``clip_norm`` and weigh it by min(examples, weight_cap) / weight_cap."""
    norm = float(np.linalg.norm(update.delta.astype(np.float64)))
    weight = min(update.examples, weight_cap) / weight_cap
    factor = weight * min(1.0, clip_norm / norm if norm > 0 else 1.0)
    return PreparedUpdate(update.delta * np.float32(factor), weight, norm, norm > clip_norm)
