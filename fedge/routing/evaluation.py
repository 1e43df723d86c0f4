"""How good a router is on recorded answers: what each share of calls to the strong model buys. Pure numpy on arrays.

Definitions as in Ong et al. 2024 (RouteLLM: Learning to Route LLMs with Preference Data). Queries are ordered by a score,
highest first, and the first k of n go to the strong model. PGR, the performance gap recovered, is the share of the gap
between weak and strong that this closes; APGR is its mean over evenly spaced shares of calls; CPT(x) is the least share of
calls at which PGR reaches x. PGR can exceed 1, where the weak model is right and the strong one wrong. Equal scores are a
tie: each member of a tie counts as the tie's mean, so that the order of a file is worth nothing. Never chooses a threshold
and never trains.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedge.errors import InputError

GRID = 100
"""Intervals between the evenly spaced shares of calls, 0 to 1, over which APGR averages (trapezoid rule)."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """What a ranking buys. ``calls``, ``quality``: float64 [n + 1] at 0, 1, ... n queries sent to the strong model."""

    calls: Floats
    quality: Floats

    @property
    def gap(self) -> float:
        """Quality of the strong model less that of the weak one."""
        return float(self.quality[-1] - self.quality[0])

    def pgr(self) -> Floats:
        """Performance gap recovered [n + 1]. Raises InputError where the strong model is not better than the weak one."""
        if not self.gap > 0:
            raise InputError(
                f"the strong model is not better than the weak one ({self.quality[-1]:.4g} against {self.quality[0]:.4g}): "
                "there is no gap to recover"
            )
        recovered: Floats = (self.quality - self.quality[0]) / self.gap
        return recovered

    def apgr(self) -> float:
        """Mean PGR over evenly spaced shares of calls: the area under PGR, 0.5 for a random order."""
        shares = np.linspace(0.0, 1.0, GRID + 1)
        return float(np.trapezoid(np.interp(shares, self.calls, self.pgr()), shares))

    def cpt(self, recovered: float) -> float:
        """The least share of calls to the strong model at which PGR is ``recovered`` or more."""
        return float(self.calls[np.argmax(self.pgr() >= recovered - 1e-12)])

    def local_share(self, points: float = 0.0) -> float:
        """The largest share answered by the weak model with a quality at most ``points`` (of the scores' own unit) below the
        strong model's.
        """
        enough = self.quality >= self.quality[-1] - points - 1e-12
        return float(1.0 - self.calls[np.argmax(enough)])


def curve(scores: ArrayLike, weak: ArrayLike, strong: ArrayLike) -> Curve:
    """The curve of ``scores`` [n], higher for queries that need the strong model. Raises InputError for unequal lengths."""
    ranks, low, high = (np.asarray(values, dtype=np.float64) for values in (scores, weak, strong))
    if not ranks.shape == low.shape == high.shape or ranks.ndim != 1 or not len(ranks):
        raise InputError(f"scores, weak and strong have shapes {ranks.shape}, {low.shape} and {high.shape}: give [n] each")
    gains = _tied(ranks, high - low)
    n = len(ranks)
    return Curve(np.arange(n + 1) / n, low.mean() + np.concatenate([[0.0], np.cumsum(gains)]) / n)


def risk_coverage(confidence: ArrayLike, errors: ArrayLike) -> tuple[Floats, Floats]:
    """Coverage and risk [n]: the k most confident queries are answered, and what share of these is wrong.

    Geifman and El-Yaniv 2017 (Selective Classification for Deep Neural Networks). ``errors`` in [0, 1].
    """
    ranks, wrong = np.asarray(confidence, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    if ranks.shape != wrong.shape or ranks.ndim != 1 or not len(ranks):
        raise InputError(f"confidence and errors have shapes {ranks.shape} and {wrong.shape}: give [n] each")
    answered = np.arange(1, len(ranks) + 1)
    return answered / len(ranks), np.cumsum(_tied(ranks, wrong)) / answered


def aurc(confidence: ArrayLike, errors: ArrayLike) -> float:
    """Area under the risk-coverage curve: the mean risk over all coverages. Lower is better."""
    return float(risk_coverage(confidence, errors)[1].mean())


def risk_at(confidence: ArrayLike, errors: ArrayLike, coverages: tuple[float, ...]) -> list[float]:
    """The risk at each of ``coverages`` (rounded up to whole queries)."""
    risks = risk_coverage(confidence, errors)[1]
    return [float(risks[max(1, int(np.ceil(coverage * len(risks) - 1e-9))) - 1]) for coverage in coverages]


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Area under the ROC curve: how often a positive row scores above one that is not, a tie counting half.

    ``scores`` [n], ``positive`` bool [n]. Raises InputError where either kind of row is missing.
    """
    ranks, marked = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=np.bool_)
    if ranks.shape != marked.shape or ranks.ndim != 1:
        raise InputError(f"scores and positive have shapes {ranks.shape} and {marked.shape}: give [n] each")
    high, low = ranks[marked], np.sort(ranks[~marked])
    if not len(high) or not len(low):
        raise InputError(f"AUROC needs rows of both kinds, not {len(high)} positive and {len(low)} others")
    below, not_above = np.searchsorted(low, high, side="left"), np.searchsorted(low, high, side="right")
    return float((below + not_above).sum() / (2 * len(high) * len(low)))


def bootstrap(
    statistics: Callable[[NDArray[np.int64]], Sequence[float]],
    n: int,
    generator: np.random.Generator,
    *,
    draws: int,
    level: float = 0.95,
) -> list[tuple[float, float]]:
    """Percentile intervals of ``statistics``, a function of row numbers [n], over rows drawn anew with replacement.

    A draw on which they are not defined (InputError) is left out. Raises InputError where none is left.
    """
    values = []
    for _ in range(draws):
        with suppress(InputError):
            values.append(statistics(generator.integers(0, n, n)))
    if not values:
        raise InputError(f"none of {draws} bootstrap draws of {n} rows has a gap to recover: give more rows")
    bounds = np.quantile(np.asarray(values), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [(float(low), float(high)) for low, high in bounds.T]


def _tied(ranks: Floats, values: Floats) -> Floats:
    """``values`` in the order of falling ``ranks``, each replaced by the mean over its tie."""
    order = np.argsort(-ranks, kind="stable")
    _, starts, counts = np.unique(-ranks[order], return_index=True, return_counts=True)
    means: Floats = np.repeat(np.add.reduceat(values[order], starts) / counts, counts)
    return means
