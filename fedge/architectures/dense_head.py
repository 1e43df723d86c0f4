"""A dense softmax head over the embeddings of a frozen encoder: forward, backward and update, written out in numpy.

The loss is the cross-entropy of ``softmax(x @ W + b)`` with smoothed labels. Its gradient for one example is the outer
product of (x, 1) and p - y, so its L2 norm has the closed form ``|p - y| * sqrt(|x|^2 + 1)``: clipping per example (Abadi et
al., "Deep Learning with Differential Privacy", 2016) costs no gradient per example. The step is plain gradient descent: the
server's optimizer has the state.

Everything is float32 on one thread's worth of small products: the same inputs give the same bytes on one machine.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedge.errors import InputError

HEAD_WEIGHT, HEAD_BIAS = "head.weight", "head.bias"
MAX_DIMENSIONS, MAX_CLASSES = 65_536, 10_000
SHARE_SLACK = 1e-4
"""A share may be this much over its limit, for rounding."""

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DescentSettings:
    """How one step descends. ``example_clip_norm``: bound on the L2 norm of one example's gradient (infinite: none)."""

    l2: float = 0.0
    label_smoothing: float = 0.0
    example_clip_norm: float = math.inf


@dataclass(frozen=True, slots=True)
class Step:
    """The outcome of one step of descent.

    ``loss``: weighted mean loss of the batch before the step. ``moves`` float32 [n, C]: what each example added to the bias;
    what it added to the weights is the outer product of its embedding and its row.
    """

    weights: Weights
    loss: float
    moves: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DenseHead:
    """Weights ``head.weight`` [dimensions, classes] and ``head.bias`` [classes]. Raises InputError for unusable sizes."""

    dimensions: int
    classes: int

    NAME: ClassVar[str] = "dense-head-v1"

    def __post_init__(self) -> None:
        for name, value, most in (
            ("dimensions", self.dimensions, MAX_DIMENSIONS),
            ("classes", self.classes, MAX_CLASSES),
        ):
            if type(value) is not int or not 1 <= value <= most:
                raise InputError(f"{self.NAME}: {name} is {value!r}, it must be a whole number from 1 to {most}")

    def to_mapping(self) -> dict[str, Any]:
        """Return the JSON object by which a manifest names this architecture."""
        return {"name": self.NAME, "dimensions": self.dimensions, "classes": self.classes}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "DenseHead":
        """Read what `to_mapping` returned, without its name. Raises InputError for missing or unknown sizes."""
        if set(mapping) != {"dimensions", "classes"}:
            raise InputError(f"{cls.NAME}: its sizes are classes and dimensions, not {', '.join(sorted(mapping))[:200]}")
        return cls(**mapping)

    @property
    def parameters(self) -> int:
        """The number of trainable values."""
        return (self.dimensions + 1) * self.classes

    def zeros(self) -> Weights:
        """Return weights that know nothing, as read-only views that take no memory."""
        return {
            HEAD_WEIGHT: np.broadcast_to(np.float32(0), (self.dimensions, self.classes)),
            HEAD_BIAS: np.broadcast_to(np.float32(0), (self.classes,)),
        }

    def normalize(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale each embedding [n, D] to the L2 norm sqrt(D), so that no encoder makes one example count more than another.

        An encoder that ends in a layer normalization gives this norm already. An embedding of zeros becomes one of ones.
        Raises InputError for another width and for values that are not finite.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dimensions:
            raise InputError(f"embeddings of shape {embeddings.shape} do not fit a head of {self.dimensions} dimensions")
        if not np.isfinite(embeddings).all():
            raise InputError("the encoder gives embeddings that are not finite")
        largest = np.abs(embeddings).max(axis=1, keepdims=True)
        # Divided by the largest value first: squares of float32 would overflow or vanish.
        unit = np.where(largest > 0, embeddings / np.where(largest > 0, largest, 1), np.float32(1)).astype(np.float32)
        norm = np.sqrt(np.square(unit).sum(axis=1, keepdims=True, dtype=np.float64))
        normalized: NDArray[np.float32] = (unit * (math.sqrt(self.dimensions) / norm)).astype(np.float32)
        return normalized

    def logits(self, weights: Weights, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 [n, C] for embeddings [n, D]."""
        logits: NDArray[np.float32] = embeddings @ weights[HEAD_WEIGHT] + weights[HEAD_BIAS]
        return logits

    def step(
        self,
        weights: Weights,
        embeddings: NDArray[np.float32],
        labels: NDArray[np.int64],
        sample_weights: NDArray[np.float32],
        *,
        learning_rate: float,
        settings: DescentSettings,
    ) -> Step:
        """Descend once on a batch of embeddings [n, D] with labels [n] and weights [n], n > 0.

        Descended is the mean over the batch of weight times loss, each example's gradient clipped before it is weighed, plus
        ``l2 / 2 * |W|^2`` times the mean weight. A batch whose weights are all 0 changes nothing and has loss 0.
        """
        rows = np.arange(len(labels))
        logits = self.logits(weights, embeddings)
        shifted = logits - logits.max(axis=1, keepdims=True)
        exponentials = np.exp(shifted)
        sums = exponentials.sum(axis=1, keepdims=True)
        log_probabilities = shifted - np.log(sums)
        errors = exponentials / sums
        smoothing = settings.label_smoothing
        losses = -log_probabilities[rows, labels]
        if smoothing:
            losses = (1 - smoothing) * losses - smoothing * log_probabilities.mean(axis=1)
            errors -= np.float32(smoothing / self.classes)
        errors[rows, labels] -= np.float32(1 - smoothing)
        factors = sample_weights / np.float32(len(labels))
        if settings.example_clip_norm < math.inf:
            norms = np.sqrt(np.square(errors).sum(axis=1) * (np.square(embeddings).sum(axis=1) + 1))
            factors = factors * np.minimum(1, np.float32(settings.example_clip_norm) / np.maximum(norms, np.float32(1e-30)))
        moves = errors * (factors * np.float32(-learning_rate))[:, None]
        decay = np.float32(1 - learning_rate * settings.l2 * float(sample_weights.mean()))
        total = float(sample_weights.sum())
        return Step(
            {
                HEAD_WEIGHT: weights[HEAD_WEIGHT] * decay + embeddings.T @ moves,
                HEAD_BIAS: weights[HEAD_BIAS] + moves.sum(axis=0),
            },
            float((losses * sample_weights).sum()) / total if total > 0 else 0.0,
            moves,
        )

    @staticmethod
    def shares(embeddings: NDArray[np.float32], moves: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return each example's share [n] of the change that examples with ``moves`` [n, C] made together.

        Example i made the change c_i (the outer product of its embedding, with a 1 for the bias, and its moves); together
        they made D. Its share is <c_i, D> / <D, D>: shares add up to 1, and a share is over one half exactly where the
        change without the example would be shorter than the example's own part. All are 0 where nothing changed.
        """
        x, a = embeddings.astype(np.float64), moves.astype(np.float64)
        weight, bias = x.T @ a, a.sum(axis=0)
        square = float(np.square(weight).sum() + np.square(bias).sum())
        if square == 0:
            return np.zeros(len(a))
        shares: NDArray[np.float64] = ((x @ weight + bias) * a).sum(axis=1) / square
        return shares

    @classmethod
    def limit_shares(
        cls, embeddings: NDArray[np.float32], moves: NDArray[np.float32], most: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return the moves with every share (`shares`) at ``most`` or below, and what each example kept of its own [n].

        With c the change of the example with the largest share and r that of all others, f is the root of
        <f c, f c + r> = most * |f c + r|^2: at one half |f c| = |r|. Scaling one example raises others' shares, so it is
        done again until all hold; where that takes too long, shares stay above and the caller sees it. 1: no limit.
        """
        limited, kept = moves.copy(), np.ones(len(moves))
        for _ in range(4 * len(moves) if most < 1 else 0):
            shares = cls.shares(embeddings, limited)
            example = int(shares.argmax())
            if shares[example] <= most + SHARE_SLACK:
                break
            x, a = embeddings.astype(np.float64), limited.astype(np.float64)
            weight, bias = x.T @ a, a.sum(axis=0)
            whole = float(np.square(weight).sum() + np.square(bias).sum())
            own = float(np.square(a[example]).sum() * (np.square(x[example]).sum() + 1))
            cross = shares[example] * whole - own
            rest = max(0.0, whole - 2 * cross - own)
            tilt = (2 * most - 1) * cross
            factor = (tilt + math.sqrt(tilt**2 + 4 * (1 - most) * most * own * rest)) / (2 * (1 - most) * own)
            factor = min(1.0, max(0.0, factor))
            limited[example] *= np.float32(factor)
            kept[example] *= factor
        return limited, kept
