"""From scores to probabilities, learned on scores of examples that were left out of training.

Two small fits. Among the labels in scope: a softmax whose sharpness has the least log loss. Out of scope or not: a logistic
curve over the best score (Platt 1999), each side weighted to its share of the natural mixture. Multiplied together they are
probabilities over all labels, whose largest is therefore the decision of the best expected accuracy on that mixture.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

_SHARPNESS = (1.0, 200.0)
_PRIOR = 1e-4  # a faint pull of the logistic slope towards zero, so that it stays finite where both sides are separable


def softmax(scores: NDArray[Any], sharpness: float) -> NDArray[np.float32]:
    """Probabilities float32 [n, K] of ``scores`` [n, K] times ``sharpness``."""
    return np.asarray(np.exp(_log_softmax(scores, sharpness)), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Calibration:
    """``sharpness`` of the softmax; the logit of being in scope is ``slope * best score + intercept``, None where all is."""

    sharpness: float
    scope: tuple[float, float] | None

    def probabilities(self, scores: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities float32 [n, K] of the labels in scope and [n] of being out of scope, from scores [n, K]."""
        within = softmax(scores, self.sharpness)
        if self.scope is None:
            return within, np.zeros(len(scores), dtype=np.float32)
        slope, intercept = self.scope
        inside = 0.5 * (1.0 + np.tanh(0.5 * (slope * scores.max(axis=1).astype(np.float64) + intercept)))
        return (within * inside[:, None]).astype(np.float32), (1.0 - inside).astype(np.float32)


def fit_calibration(
    scores: NDArray[np.float32], targets: NDArray[np.int64], inside: NDArray[np.bool_], *, oos_share: float
) -> Calibration:
    """From left-out ``scores`` [n, K], ``targets`` int64 [n] (columns, for those in scope) and ``inside`` bool [n]."""
    own, wanted = scores[inside], targets[inside]
    loss = minimize_scalar(
        lambda log_sharpness: -np.mean(_log_softmax(own, np.exp(log_sharpness))[np.arange(len(own)), wanted]),
        bounds=tuple(np.log(_SHARPNESS)),
        method="bounded",
    )
    best = scores.max(axis=1).astype(np.float64)
    return Calibration(float(np.exp(loss.x)), _fit_scope(best, inside, oos_share))


def _fit_scope(best: NDArray[np.float64], inside: NDArray[np.bool_], oos_share: float) -> tuple[float, float] | None:
    if inside.all() or oos_share <= 0.0:
        return None
    weight = np.where(inside, (1.0 - oos_share) / inside.sum(), oos_share / (~inside).sum())
    sign = np.where(inside, -1.0, 1.0)

    def loss(line: NDArray[np.float64]) -> float:
        return float((weight * np.logaddexp(0.0, sign * (line[0] * best + line[1]))).sum() + _PRIOR * (line[0] / 10.0) ** 2)

    slope, intercept = minimize(loss, np.array([10.0, -3.0]), method="L-BFGS-B").x
    return float(slope), float(intercept)


def _log_softmax(scores: NDArray[Any], sharpness: float) -> NDArray[np.float64]:
    scaled = scores.astype(np.float64) * sharpness
    scaled -= scaled.max(axis=1, keepdims=True)
    return np.asarray(scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True)))
