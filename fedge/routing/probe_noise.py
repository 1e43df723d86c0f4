"""Distributed noise on the histograms of stored probes: no sum tells whether one probe stands in it.

Stored probes are scored again under each candidate release, so that a probe may stand in several sums. In each of them every
device adds, to each coordinate, the difference of two draws of the negative binomial distribution NB(1 / h, alpha) with
alpha = exp(-epsilon). The negative binomial is infinitely divisible: the shares of any h devices add up to the difference of
two geometric variables, the two-sided geometric mechanism, and more shares only add noise.

Claim: with h honest survivors, a histogram with one probe more and the same without it are within a factor exp(epsilon) of
each other in probability, for every set of sums. Proof sketch: a probe counts as agreed or as disagreed in one bin, so it
changes one coordinate by 1; P(N = k) is proportional to alpha^|k|, so shifting it by 1 changes no probability by more than
1 / alpha; what the other devices add is independent of the probe. The truncation of each share costs less than 2^-60. The
claim is about one probe, not about one device, and the losses of several sums add up: a device lets each probe into
`max_rescores` of them.

Sources: Ghosh, Roughgarden and Sundararajan 2009 (geometric mechanism); Shi et al. 2011 and Goryczka and Xiong 2017 (its
distribution over parties).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedge.errors import InputError
from fedge.secagg.masks import key_stream

LEAST_EPSILON = 0.05
MOST_EPSILON = 20.0
_WORD = 1 << 64


@dataclass(frozen=True, slots=True)
class ProbeNoise:
    """The noise of one histogram: ``epsilon`` for one probe, from ``parties`` shares. Raises InputError."""

    epsilon: float
    parties: int

    def __post_init__(self) -> None:
        if not LEAST_EPSILON <= self.epsilon <= MOST_EPSILON:
            raise InputError(f"an epsilon of {self.epsilon:g} cannot be: choose {LEAST_EPSILON:g} to {MOST_EPSILON:g}")
        if self.parties < 1:
            raise InputError(f"{self.parties} shares of noise hide nothing: at least 1 is needed")

    @property
    def alpha(self) -> float:
        """The ratio of neighboring probabilities, exp(-epsilon)."""
        return math.exp(-self.epsilon)

    @property
    def bound(self) -> int:
        """The largest magnitude of one device's share; it is also what a coordinate is lifted by, to stay non-negative."""
        return math.ceil(64 * math.log(2) / self.epsilon)

    @property
    def room(self) -> int:
        """What the sum of a device's shares over some bins of one histogram stays within, but for a small chance.

        For ten bins it is 2^-19 where two shares make up one geometric variable, 2^-26 for six and 2^-30 for twenty (at an
        epsilon of 2; at 0.5: 2^-16, 2^-23 and 2^-27). A device whose noise is larger stays out of that sum. A range proof
        leaves a device this much room below 0, so it is also what a liar can take away there.
        """
        return math.ceil(24 * math.log(2) / self.epsilon)

    def sample(self, seed: bytes, count: int) -> NDArray[np.int64]:
        """Draw one device's shares for ``count`` coordinates, int64 [count], each in [-bound, bound].

        ``seed`` (32 bytes) must be secret and used once: whoever knows it takes the noise away.
        """
        words = np.frombuffer(key_stream(seed, 16 * count), dtype="<u8").reshape(2, count)
        up, down = np.searchsorted(_thresholds(self), words, side="right").astype(np.int64)
        difference: NDArray[np.int64] = up - down
        return difference


@lru_cache(maxsize=64)
def _thresholds(noise: ProbeNoise) -> NDArray[np.uint64]:
    """Return the cumulative distribution of NB(1 / parties, alpha) in units of 2^-64, uint64 [bound]."""
    shape = 1 / noise.parties
    mass = (1 - noise.alpha) ** shape
    below, thresholds = 0.0, []
    for k in range(noise.bound):
        below += mass
        thresholds.append(min(int(below * _WORD), _WORD - 1))
        mass *= noise.alpha * (k + shape) / (k + 1)
    return np.array(thresholds, dtype=np.uint64)
