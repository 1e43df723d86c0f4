"""Reals and integers to integers modulo 2^b and back. Overflow is impossible by construction: n_max times 2Q fits.

A real u becomes clip(floor(u / c * Q + r), -Q, Q) + Q with r uniform in [0, 1): rounding is unbiased, so that rounding
errors of many devices cancel. An integer in [0, 2Q] stays as it is; at 16 bits it travels as digits, since its sum would
not fit. The last coordinate is 1 and sums up to the number of devices: a sum in which a mask did not cancel, or a device
stands twice, shows there. With differential privacy discrete Gaussian noise is added to what a real became.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedge.randomness import derive
from fedge.secagg import noise
from fedge.secagg.config import DIGIT_BITS, SessionConfig
from fedge.secagg.errors import CodecError
from fedge.secagg.masks import key_stream

Vector = NDArray[np.unsignedinteger[Any]]
ROUNDING_DRAWS = 1000
"""Each is within the norm with probability at least 0.39: so many never all fail."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A cohort's sum: float64 [reals] and int64 [integers].

    ``out_of_range`` coordinates were no sum of encoded values and were clipped to the nearest: a device lied.
    """

    reals: NDArray[np.float64]
    integers: NDArray[np.int64]
    out_of_range: int = 0

    def __add__(self, other: "Decoded") -> "Decoded":
        """The sum over two cohorts."""
        return Decoded(self.reals + other.reals, self.integers + other.integers, self.out_of_range + other.out_of_range)


def dtype_of(config: SessionConfig) -> np.dtype[Any]:
    """The type of a vector's coordinates: little-endian unsigned, b bits."""
    return np.dtype("<u2" if config.bits == 16 else "<u4")


def weighted_update(update: NDArray[Any], examples: int, config: SessionConfig) -> tuple[NDArray[np.float64], float]:
    """``(w * clip_L2(update, C), w)`` with w = min(examples, W) / W: what one device adds to the cohort's weighted sum."""
    if examples < 0:
        raise CodecError(f"{examples} examples: a count cannot be negative")
    weight = min(examples, config.weight_cap) / config.weight_cap
    values = np.asarray(update, dtype=np.float64)
    norm = float(np.linalg.norm(values))
    shrink = min(1.0, config.clip_norm / norm) if norm > 0 else 1.0
    return values * (weight * shrink), weight


def encode(
    reals: NDArray[Any],
    integers: NDArray[Any],
    config: SessionConfig,
    rounding_seed: bytes,
    noise_seed: bytes | None = None,
) -> Vector:
    """The vector [length] of one device: uint32 or uint16.

    ``rounding_seed`` (32 bytes) must be fresh for each vector, and so must ``noise_seed``, which a session with noise needs
    and which nobody else may ever know. Raises CodecError for wrong lengths, values that are not finite and integers that
    are too large.
    """
    values, counts = np.asarray(reals, dtype=np.float64), np.asarray(integers)
    if values.shape != (config.reals,) or counts.shape != (config.integers,):
        expected = f"[{config.reals}] and [{config.integers}]"
        raise CodecError(f"reals and integers have shapes {values.shape} and {counts.shape}, expected {expected}")
    if not np.isfinite(values).all():
        raise CodecError("the reals hold a value that is not finite")
    if counts.size and counts.dtype.kind not in "iu":
        raise CodecError(f"the integers have dtype {counts.dtype}, expected a whole-number type")
    if counts.size and not (counts.min() >= 0 and counts.max() <= config.largest_integer):
        raise CodecError(f"an integer lies outside [0, {config.largest_integer}]: from {counts.min()} to {counts.max()}")
    if config.noise_multiplier:
        if noise_seed is None:
            raise CodecError("the session asks for noise and there is no seed for it")
        steps = _rounded_within(values, config, rounding_seed)
        steps += noise.sample(noise_seed, config.reals, config.noise_sigma)
    else:
        steps = _rounded(values, config, rounding_seed)
    vector = np.empty(config.length, dtype=dtype_of(config))
    vector[: config.reals] = steps + config.offset
    vector[config.reals : -1] = counts if config.digits == 1 else _digits(counts, config.digits)
    vector[-1] = 1
    return vector


def _rounded(values: NDArray[np.float64], config: SessionConfig, seed: bytes) -> NDArray[np.float64]:
    """Whole numbers in [-Q, Q]."""
    words = np.frombuffer(key_stream(seed, 4 * len(values)), dtype="<u4")
    rounded = np.floor(values * (config.quantum / config.scale) + words * 2.0**-32)
    return np.clip(rounded, -config.quantum, config.quantum)


def _rounded_within(values: NDArray[np.float64], config: SessionConfig, seed: bytes) -> NDArray[np.float64]:
    """As `_rounded`, drawn again until the norm is within c': what one device can change is bounded for certain."""
    clipped = noise.clipped_to(values, config.scale)
    limit = noise.rounded_norm(config.quantum, config.reals)
    for draw in range(ROUNDING_DRAWS):
        steps = _rounded(clipped, config, derive(seed, "draw", draw))
        if float(np.dot(steps, steps)) <= limit * limit:
            return steps
    raise CodecError(f"no rounding within a norm of {limit} in {ROUNDING_DRAWS} draws")


def _digits(counts: NDArray[Any], digits: int) -> NDArray[np.int64]:
    """Integers [i] as [i * digits], the lowest digit of each first."""
    shifts = DIGIT_BITS * np.arange(digits)
    return (counts.astype(np.int64)[:, None] >> shifts & ((1 << DIGIT_BITS) - 1)).ravel()


def _from_digits(sums: NDArray[np.int64], digits: int) -> NDArray[np.int64]:
    """Sums of integers from the sums of their digits, which carry nothing over and may be above a digit's size."""
    joined: NDArray[np.int64] = (sums.reshape(-1, digits) << DIGIT_BITS * np.arange(digits)).sum(axis=1)
    return joined


def check_total(total: Vector, survivors: int, config: SessionConfig) -> None:
    """Raise CodecError unless ``total`` can be the sum of ``survivors`` encoded vectors.

    Only the shape, the tripwire and, in sums without reals, the range decide: a sum of updates whose coordinates no honest
    vectors reach is clipped by `decode`, so that one device cannot discard the others' work. Counts are exact or nothing.
    """
    if total.shape != (config.length,) or total.dtype != dtype_of(config):
        raise CodecError(f"the sum is {total.dtype} {total.shape}, expected {dtype_of(config)} [{config.length}]")
    if not 1 <= survivors <= config.cohort_max:
        raise CodecError(f"{survivors} survivors: the encoding has room for 1 to {config.cohort_max}")
    if int(total[-1]) != survivors:
        raise CodecError(f"the tripwire counts {int(total[-1])} devices where {survivors} delivered: the sum is worthless")
    largest = 0 if config.reals else int(total[:-1].max())
    if largest > 2 * config.half * survivors:
        raise CodecError(f"a sum of {largest} exceeds what {survivors} devices can reach ({2 * config.half * survivors})")


def decode(total: Vector, survivors: int, config: SessionConfig) -> Decoded:
    """Return the sums of the reals and of the integers; coordinates that no sum of encoded vectors has are clipped.

    The reals end in [-n c, n c] (with noise: plus its tail), n = ``survivors``. Raises CodecError where `check_total` does.
    """
    check_total(total, survivors, config)
    values = total[:-1]
    limit = 2 * config.half * survivors
    outside = int(np.count_nonzero(values > limit))
    if outside:
        # Around the ring, what lies nearer to 2^b than to the limit is below 0.
        below = values > limit + ((1 << config.bits) - limit) // 2
        values = np.where(below, 0, np.minimum(values, limit)).astype(total.dtype)
    shifted = values[: config.reals].astype(np.float64) - float(survivors * config.offset)
    if not config.noise_multiplier:
        shifted = np.clip(shifted, -float(survivors * config.quantum), float(survivors * config.quantum))
    reals = np.multiply(shifted, config.scale / config.quantum, dtype=np.float64)
    sums = values[config.reals :].astype(np.int64)
    return Decoded(reals, sums if config.digits == 1 else _from_digits(sums, config.digits), outside)
