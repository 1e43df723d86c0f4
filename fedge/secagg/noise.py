"""Distributed differential privacy: each device adds discrete Gaussian noise, in integer units, before it masks.

After Kairouz, Liu and Steinke (ICML 2021), "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure
Aggregation". What is asked for is a noise multiplier Z: the noise of the honest survivors together has standard deviation
Z times the L2 sensitivity of the sum, however many devices leave and collude as the session's configuration lets them.
Never accounts for a budget: see `aggregator.rounds.privacy`.
"""

import math
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedge.errors import InputError
from fedge.secagg.masks import key_stream

TAIL_SIGMAS = 9.3
"""Beyond so many standard deviations lies less than 2^-64 of the distribution, which is what one word can tell."""
SIGMA_LIMIT = 4096.0
"""Largest sigma of a device, so that a table stays below 80,000 entries."""
SIGMA_LEAST = 0.5
"""Smallest: below it the sum of several discrete Gaussians is too far from one (`tau` in the accounting)."""
_FRACTION_BITS = 192


def honest_minimum(n_min: int, cohort_max: int) -> int:
    """The fewest honest devices behind a released sum, over every roster that the configuration allows.

    At least max(n_min, t) delivered, of which floor((n-1)/3) may collude: they know their own noise.
    """
    return min(max(n_min, 2 * n // 3 + 1) - (n - 1) // 3 for n in range(n_min, cohort_max + 1))


def rounded_norm(quantum: int, dimensions: int) -> float:
    """c': what the L2 norm of an encoded update is kept to. Rounding lifts a norm of c = ``quantum``; a draw above c' is
    repeated, and with beta = exp(-1/2) at least 39 % of the draws are not (Kairouz et al., Theorem 1).
    """
    c, d = float(quantum), float(dimensions)
    return min(c + math.sqrt(d), math.sqrt(c * c + d / 4 + c + math.sqrt(d) / 2))


def device_sigma(multiplier: float, quantum: int, dimensions: int, honest: int) -> float:
    """One device's share: sigma_i^2 = (Z c')^2 / honest."""
    return multiplier * rounded_norm(quantum, dimensions) / math.sqrt(honest)


def tail(sigma: float) -> int:
    """B: no noise is beyond this."""
    return math.ceil(TAIL_SIGMAS * sigma)


@lru_cache(maxsize=64)
def noisy_quantum(room: int, multiplier: float, dimensions: int, honest: int) -> int:
    """The largest Q for which Q + B <= ``room`` and sigma stays in bounds. Raises InputError where there is none."""

    def fits(quantum: int) -> bool:
        sigma = device_sigma(multiplier, quantum, dimensions, honest)
        return sigma <= SIGMA_LIMIT and quantum + tail(sigma) <= room

    low, high = 0, room
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    if low < 1 or device_sigma(multiplier, low, dimensions, honest) < SIGMA_LEAST:
        raise InputError(
            f"a noise multiplier of {multiplier} on {dimensions} values leaves no room in the ring ({room} steps for value "
            "and noise): take 32 bits, fewer values or another multiplier"
        )
    return low


@lru_cache(maxsize=4)
def _table(sigma: float) -> NDArray[np.uint64]:
    """Thresholds [2B]: a word w draws (number of thresholds <= w) - B. Exact to 2^-64, the same on every machine."""
    bound = tail(sigma)
    context = Context(prec=80)
    step = context.divide(Decimal(-1), context.multiply(Decimal(2), context.power(Decimal(sigma), 2)))
    one = 1 << _FRACTION_BITS
    ratio = int(context.multiply(context.exp(step), one))  # of weight(1) to weight(0)
    square = int(context.multiply(context.exp(context.multiply(step, 2)), one))
    weights = [one]
    for _ in range(bound):
        weights.append(weights[-1] * ratio >> _FRACTION_BITS)
        ratio = ratio * square >> _FRACTION_BITS
    total = 2 * sum(weights) - one
    thresholds = np.empty(2 * bound, dtype=np.uint64)
    below = 0
    for index, k in enumerate(range(-bound, bound)):
        below += weights[abs(k)]
        thresholds[index] = min((below << 64) // total, (1 << 64) - 1)
    return thresholds


def sample(seed: bytes, count: int, sigma: float) -> NDArray[np.int64]:
    """``count`` independent draws of the discrete Gaussian over the integers, P(k) ~ exp(-k^2 / (2 sigma^2)), int64 [count].

    ``seed`` (32 bytes) must be secret and used once: whoever knows it takes the noise away.
    """
    words = np.frombuffer(key_stream(seed, 8 * count), dtype="<u8")
    return np.searchsorted(_table(sigma), words, side="right").astype(np.int64) - tail(sigma)


def clipped_to(values: NDArray[Any], norm: float) -> NDArray[np.float64]:
    """``values`` in float64, scaled down where their L2 norm exceeds ``norm``."""
    exact = np.asarray(values, dtype=np.float64)
    length = float(np.linalg.norm(exact))
    return exact if length <= norm else exact * (norm / length)
