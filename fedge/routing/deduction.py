"""What a bound takes off probe counts before it trusts them: invented agreements, and the noise that devices added.

**Why it is enough to lower agreements and raise disagreements.** Let a be agreements and d disagreements. The
Clopper-Pearson bound is the largest p with P(Bin(a + d, p) <= d) >= delta. That probability falls with a (one trial more,
the same
allowance) and grows with d (Bin(n + 1, p) <= d + 1 wherever Bin(n, p) <= d); so the bound falls with a and grows with d.
In the running bound's terms (1 - c)^S (1 - t p)^(-n / m), with t = 1 - (1 - c)^m, a disagreement of weight w multiplies by
(1 - c)^w (1 - t p)^(-w / m) <= 1, since 1 - t p >= (1 - c)^m, and an agreement by (1 - t p)^(-w / m) >= 1: the same holds.
Hence a bound from at most the true agreements and at least the true disagreements is valid where that of the true ones is.

**Liars.** A device that invents agreements puts them where they help most, at the strictest threshold, so that they count
for
every threshold. `Deduction.probes` of them are taken off all thresholds alike. Invented disagreements
only raise a bound. Where counts carry noise, a device may report less than nothing, and a liar pretends that its noise took
disagreements of others away: range proofs leave it `ProbeNoise.room` at each threshold. `Deduction.hidden` of them are added
to every threshold's disagreements; agreements stay as they are or lower, so the rule above applies.

**Noise.** Agreements and disagreements of each bin carry the sum of the devices' shares, each the difference of two negative
binomial variables (`fedge.routing.probe_noise`). Over k bins and s shares of size 1 / h these add up to N, the difference
of two NB(k s / h, alpha) variables. What is observed is D + N <= d, so the bound is the largest p with
P(Bin(n, p) + N <= d) >= delta', a sum over N's values (`noisy_cdf`): noise adds its variance, where a quantile added to d
would add its worst case. n must be at most the true number of probes: a quantile of the noise in it is taken off, for which
NOISE_SHARE of delta pays; delta' is the rest. Fewer honest shares than assumed make neither tail heavier: the noise is
symmetric and unimodal (Anderson 1955 for the quantile), and D is strongly unimodal, so that what more noise adds to
P(D + N <= d), far below the mode, is never negative.

Where D is not binomial (given their confidences, probes disagree independently with unlike probabilities), Hoeffding's
theorem bounds P(D <= j) for j at least one below the mean only; for larger j, reached when N is very low, 1 is taken.

Thresholds are tested one after the other, and the walk's start must depend on no noise: then the first false threshold is
fixed, and one event for it alone has to hold. So a noisy histogram needs an ``order`` of exact counts.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedge.errors import InputError
from fedge.routing.grid import from_above

NOISE_SHARE = 0.05
"""Share of delta that pays for the noise in the number of probes, where it has any."""
_NEGLIGIBLE = 1e-12


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

    def over(self, bins: int) -> "PooledNoise":
        """Return the noise in a sum of ``bins`` coordinates."""
        return PooledNoise(self.epsilon, bins * self.parts)

    def quantile(self, miss: float) -> int:
        """Return the smallest q >= 0 that the noise exceeds with probability at most ``miss``."""
        values, masses = self.law()
        above = np.cumsum(masses[::-1])[::-1] + _NEGLIGIBLE  # above[i]: at least values[i]
        enough = np.flatnonzero(np.append(above[1:], _NEGLIGIBLE) <= miss)
        return max(int(values[enough[0]]), 0)

    def law(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the noise's values, ascending, and their probabilities; what is left out sums to less than 1e-12."""
        return _law(self.epsilon, self.parts)


@dataclass(frozen=True, slots=True)
class ConservativeCounts:
    """Counts by threshold, int64 [G] each: at threshold g, of the bins from g up.

    ``seen`` is at most the true number of honest probes, ``disagreed`` at least their disagreements but for noise;
    ``order`` decides where a walk starts. ``noise`` [G] is what ``disagreed`` carries, None where it carries none.
    """

    seen: NDArray[np.int64]
    disagreed: NDArray[np.int64]
    order: NDArray[np.int64]
    noise: tuple[PooledNoise | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deduction:
    """The corrections of one histogram: ``probes`` agreements fewer and ``hidden`` disagreements more at every threshold,
    and ``noise`` where devices added any. Raises InputError for negative numbers.
    """

    probes: int = 0
    hidden: int = 0
    noise: PooledNoise | None = None

    def __post_init__(self) -> None:
        if self.probes < 0:
            raise InputError(f"{self.probes} probes cannot be deducted")
        if self.hidden < 0:
            raise InputError(f"{self.hidden} disagreements cannot be hidden")

    def test_delta(self, delta: float) -> float:
        """Return what is left of ``delta`` for the test itself."""
        return test_delta(delta, self.noise)


NO_DEDUCTION = Deduction()


def test_delta(delta: float, noise: PooledNoise | None) -> float:
    """Return what is left of ``delta`` for a test of counts with this ``noise``."""
    return delta if noise is None else delta * (1.0 - NOISE_SHARE)


def conservative(
    seen: ArrayLike, disagreed: ArrayLike, deduction: Deduction, *, delta: float, order: ArrayLike | None = None
) -> ConservativeCounts:
    """Return counts by threshold from counts by bin, int [G] each, with everything deducted.

    With noise, single bins may be negative or hold more disagreements than probes, and ``order`` [G], exact counts by
    threshold of about the same probes, is needed. Raises InputError without it.
    """
    above, wrong = from_above(seen), from_above(disagreed)
    noises: tuple[PooledNoise | None, ...] = (None,) * above.size
    doubt = np.zeros(above.size, np.int64)
    if deduction.noise is not None:
        if order is None:
            raise InputError("a histogram with noise needs exact counts to order its thresholds by")
        noise = deduction.noise
        noises = tuple(noise.over(above.size - index) for index in range(above.size))
        # Probes are agreements and disagreements, each with noise of its own.
        doubt[:] = [one.over(2).quantile(delta * NOISE_SHARE) for one in noises if one is not None]
    first = above if order is None else np.asarray(order, dtype=np.int64)
    # What is deducted are agreements: disagreements stay, and those that a liar may have hidden come back.
    least = np.maximum(above - doubt - deduction.probes, 0)
    most_wrong = np.maximum(wrong + deduction.hidden, 0)
    return ConservativeCounts(np.maximum(least, most_wrong), most_wrong, np.maximum(first - deduction.probes, 0), noises)


def conservative_pair(agreed: int, disagreed: int, *, probes: int) -> tuple[int, int]:
    """Return (seen, disagreed) of a running pair whose agreements may hold up to ``probes`` invented ones."""
    return max(agreed - probes, 0) + disagreed, disagreed


@lru_cache(maxsize=1024)
def _law(epsilon: float, shape: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the law of X - Y, both NB(shape, exp(-epsilon)): values and probabilities."""
    alpha = math.exp(-epsilon)
    mean, deviation = shape * alpha / (1 - alpha), math.sqrt(shape * alpha) / (1 - alpha)
    top = int(mean + 12 * deviation + 60 / epsilon) + 2
    k = np.arange(top, dtype=np.float64)
    steps = math.log(alpha) + np.log(k + shape) - np.log(k + 1)
    mass = np.exp(shape * math.log1p(-alpha) + np.concatenate([[0.0], np.cumsum(steps[:-1])]))
    both = np.convolve(mass, mass[::-1])
    values = np.arange(1 - top, top, dtype=np.int64)
    kept = both > _NEGLIGIBLE / (4 * top)
    return values[kept], both[kept]
