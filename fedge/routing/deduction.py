"""What a bound takes off probe counts before it trusts them: invented agreements, and the noise that devices added.

**Why it is enough to lower agreements and raise disagreements.** Let a be the agreements and d the disagreements. The
Clopper-Pearson bound is the largest p with P(Bin(a + d, p) <= d) >= delta. That probability falls with a (one trial more, the
same allowance) and grows with d (Bin(n + 1, p) <= d + 1 wherever Bin(n, p) <= d); so the bound falls with a and grows with d. In the
running bound's terms (1 - c)^S (1 - t p)^(-n / m), with t = 1 - (1 - c)^m, a disagreement of weight w multiplies by
(1 - c)^w (1 - t p)^(-w / m) <= 1, since 1 - t p >= (1 - c)^m, and an agreement by (1 - t p)^(-w / m) >= 1: the same holds. Hence
a bound from at most the true agreements and at least the true disagreements is valid where the one from the true counts is.

**Liars.** A device that invents agreements puts them where they help most, at the strictest threshold, so that they count for every
threshold. `Deduction.probes` of them are taken off all thresholds alike. Invented disagreements only raise a bound.

**Noise.** Agreements and disagreements of each bin carry the sum of the devices' shares, each the difference of two negative
binomial variables (`fedge.routing.probe_noise`). Over k bins and s shares of size 1 / h these add up to the difference of two NB(k s / h, alpha)
variables. All thresholds are corrected by a quantile of that at once (a union bound over 2 G sums), for a stated share of delta.
The sum is symmetric and unimodal, so that fewer shares than assumed make no tail heavier (Anderson 1955).

The order in which thresholds are tested must not depend on disagreements given the confidences: `ConservativeCounts.order` is
made of probes seen, deductions and noise alone.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedge.errors import InputError
from fedge.routing.grid import from_above

NOISE_SHARE = 0.1
"""Share of delta that pays for the noise of a histogram, where it has any."""


@dataclass(frozen=True, slots=True)
class PooledNoise:
    """The noise in one coordinate of a pooled histogram.

    ``epsilon`` as devices used it; ``parts`` is the number of shares added over the number that makes up one geometric
    variable, summed over the cohorts. Raises InputError.
    """

    epsilon: float
    parts: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon > 0 and math.isfinite(self.parts) and self.parts > 0):
            raise InputError(f"noise of epsilon {self.epsilon:g} in {self.parts:g} parts cannot be: both must be above 0")

    def quantile(self, bins: int, miss: float) -> int:
        """Return the smallest q >= 0 such that the noise in a sum of ``bins`` coordinates exceeds q with at most ``miss``."""
        return _quantile(self.epsilon, bins * self.parts, miss)


@dataclass(frozen=True, slots=True)
class ConservativeCounts:
    """Counts by threshold, int64 [G] each: at threshold g, of the bins from g up.

    ``seen`` and ``disagreed`` hold at most the true agreements and at least the true disagreements; ``order`` decides where a
    walk starts.
    """

    seen: NDArray[np.int64]
    disagreed: NDArray[np.int64]
    order: NDArray[np.int64]
    noise: NDArray[np.int64]
    """By how much agreements were lowered and disagreements raised for noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deduction:
    """What is taken off a histogram: ``probes`` agreements at every threshold, and ``noise`` where devices added any."""

    probes: int = 0
    noise: PooledNoise | None = None

    def __post_init__(self) -> None:
        if self.probes < 0:
            raise InputError(f"{self.probes} probes cannot be deducted")

    def test_delta(self, delta: float) -> float:
        """Return what is left of ``delta`` for the test itself."""
        return delta if self.noise is None else delta * (1.0 - NOISE_SHARE)


NO_DEDUCTION = Deduction()


def conservative(seen: ArrayLike, disagreed: ArrayLike, deduction: Deduction, *, delta: float) -> ConservativeCounts:
    """Return counts by threshold from counts by bin, int [G] each, with everything deducted.

    With noise, single bins may be negative or hold more disagreements than probes.
    """
    counts, wrong = np.asarray(seen, dtype=np.int64), np.asarray(disagreed, dtype=np.int64)
    agreed = from_above(counts - wrong)
    size = agreed.size
    doubt = np.zeros(size, np.int64)
    if deduction.noise is not None:
        miss = delta * NOISE_SHARE / (2 * size)
        doubt[:] = [deduction.noise.quantile(size - index, miss) for index in range(size)]
    # Both true sums fall from threshold to threshold, so a bound on one holds for its neighbors too.
    least_agreed = _largest_from_above(np.maximum(agreed - doubt - deduction.probes, 0))
    most_wrong = np.minimum.accumulate(np.maximum(from_above(wrong) + doubt, 0))
    order = _largest_from_above(np.maximum(from_above(counts) - deduction.probes, 0))
    return ConservativeCounts(least_agreed + most_wrong, most_wrong, order, doubt)


def conservative_pair(agreed: int, disagreed: int, *, probes: int) -> tuple[int, int]:
    """Return (seen, disagreed) of a running pair whose agreements may hold up to ``probes`` invented ones."""
    return max(agreed - probes, 0) + disagreed, disagreed


def _largest_from_above(values: NDArray[np.int64]) -> NDArray[np.int64]:
    largest: NDArray[np.int64] = np.maximum.accumulate(values[::-1])[::-1]
    return largest


@lru_cache(maxsize=4096)
def _quantile(epsilon: float, shape: float, miss: float) -> int:
    """Return the upper quantile of X - Y, both NB(shape, exp(-epsilon)), by exact summation and bisection."""
    alpha = math.exp(-epsilon)
    mean, deviation = shape * alpha / (1 - alpha), math.sqrt(shape * alpha) / (1 - alpha)
    top = int(mean + 12 * deviation + 60 / epsilon) + 2
    k = np.arange(top, dtype=np.float64)
    steps = np.log(alpha) + np.log(k + shape) - np.log(k + 1)
    logs = shape * math.log1p(-alpha) + np.concatenate([[0.0], np.cumsum(steps[:-1])])
    mass = np.exp(logs)
    above = np.concatenate([np.cumsum(mass[::-1])[::-1], [0.0]])  # above[j] = P(X >= j)

    def exceeds(q: int) -> float:
        """Return P(X - Y > q)."""
        tail = above[np.minimum(np.arange(top) + q + 1, top)]
        return float(mass @ tail)

    low, high = -1, 1
    while exceeds(high) > miss:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if exceeds(middle) <= miss else (middle, high)
    return max(high, 0)
