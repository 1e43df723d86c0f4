"""Reals and integers to integers modulo 2^b and back. Overflow is impossible by construction: n_max times 2Q fits.

A real u becomes clip(floor(u / c * Q + r), -Q, Q) + Q with r uniform in [0, 1): rounding is unbiased, so that rounding
errors of many devices cancel. An integer in [0, 2Q] stays as it is. The last coordinate is 1 and sums up to the number of
devices: a sum in which a mask did not cancel, or a device stands twice, shows there.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedge.secagg.config import SessionConfig
from fedge.secagg.errors import CodecError
from fedge.secagg.masks import key_stream

Vector = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A cohort's sum: float64 [reals] and int64 [integers]."""

    reals: NDArray[np.float64]
    integers: NDArray[np.int64]


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


def encode(reals: NDArray[Any], integers: NDArray[Any], config: SessionConfig, rounding_seed: bytes) -> Vector:
    """The vector [length] of one device: uint32 or uint16.

    ``rounding_seed`` (32 bytes) must be fresh for each vector. Raises CodecError for wrong lengths, values that are not
    finite and integers outside [0, 2Q].
    """
    quantum = config.quantum
    values, counts = np.asarray(reals, dtype=np.float64), np.asarray(integers)
    if values.shape != (config.reals,) or counts.shape != (config.integers,):
        expected = f"[{config.reals}] and [{config.integers}]"
        raise CodecError(f"reals and integers have shapes {values.shape} and {counts.shape}, expected {expected}")
    if not np.isfinite(values).all():
        raise CodecError("the reals hold a value that is not finite")
    if counts.size and counts.dtype.kind not in "iu":
        raise CodecError(f"the integers have dtype {counts.dtype}, expected a whole-number type")
    if counts.size and not (counts.min() >= 0 and counts.max() <= 2 * quantum):
        raise CodecError(f"an integer lies outside [0, {2 * quantum}]: from {counts.min()} to {counts.max()}")
    words = np.frombuffer(key_stream(rounding_seed, 4 * config.reals), dtype="<u4")
    rounded = np.floor(values * (quantum / config.scale) + words * 2.0**-32)
    vector = np.empty(config.length, dtype=dtype_of(config))
    vector[: config.reals] = np.clip(rounded, -quantum, quantum) + quantum
    vector[config.reals : -1] = counts
    vector[-1] = 1
    return vector


def check_total(total: Vector, survivors: int, config: SessionConfig) -> None:
    """Raises CodecError unless ``total`` can be the sum of ``survivors`` encoded vectors."""
    if total.shape != (config.length,) or total.dtype != dtype_of(config):
        raise CodecError(f"the sum is {total.dtype} {total.shape}, expected {dtype_of(config)} [{config.length}]")
    if not 1 <= survivors <= config.cohort_max:
        raise CodecError(f"{survivors} survivors: the encoding has room for 1 to {config.cohort_max}")
    if int(total[-1]) != survivors:
        raise CodecError(f"the tripwire counts {int(total[-1])} devices where {survivors} delivered: the sum is worthless")
    largest = int(total[:-1].max())
    if largest > 2 * config.quantum * survivors:
        raise CodecError(f"a sum of {largest} exceeds what {survivors} devices can reach ({2 * config.quantum * survivors})")


def decode(total: Vector, survivors: int, config: SessionConfig) -> Decoded:
    """The sums of the reals and of the integers. Raises CodecError where ``total`` cannot be a sum of encoded vectors."""
    check_total(total, survivors, config)
    shifted = total[: config.reals].astype(np.float64) - float(survivors * config.quantum)
    reals = np.multiply(shifted, config.scale / config.quantum, dtype=np.float64)
    return Decoded(reals, total[config.reals : -1].astype(np.int64))
