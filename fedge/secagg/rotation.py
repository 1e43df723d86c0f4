"""Rotate a vector by a public random Hadamard transform, so that no coordinate of an honest update is large.

The rotation is R = H D: D flips signs by a ChaCha20 stream, H is the normalized Walsh-Hadamard matrix on the vector padded
with zeros to a power of two. R is orthogonal. A coordinate of R u exceeds 4 |u| / sqrt(m) with probability at most
2 exp(-8) for any fixed u of m values (Hoeffding), so that a scale of c = 4 C / sqrt(m) serves updates of norm C, and every
vector that fits into the encoding has norm at most 4 C. The seed is public: it follows from the signed descriptor.

Source: Suresh et al. 2017, "Distributed Mean Estimation with Limited Communication", section 3. Proofs stand in
docs/research/robust-sums.md.
"""

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedge.errors import InputError
from fedge.secagg.masks import key_stream

SPREAD = 4.0
"""c * sqrt(m) over C: how many times an encodable vector may be longer than an honest one."""
SPREAD_SLACK = 1e-9
_BLOCK = 1 << 14
"""Values that are transformed together while they stay in the processor's cache."""


def padded_length(length: int) -> int:
    """Return the smallest power of two that holds ``length`` values; 0 for none."""
    return 0 if length == 0 else 1 << (length - 1).bit_length()


def rotated_scale(clip_norm: float, reals: int) -> float:
    """Return c = min(C, 4 C / sqrt(m)) for updates of norm ``clip_norm`` in ``reals`` rotated coordinates."""
    return clip_norm if reals <= SPREAD**2 else SPREAD * clip_norm / math.sqrt(reals)


def rotation_seed(release_id: str, round_number: int, attempt: int) -> bytes:
    """Return the public 32-byte seed of a session's rotation, which follows from its descriptor."""
    return hashlib.sha256(f"fedge/rotation/{release_id}/{round_number}/{attempt}".encode()).digest()


def rotate(vector: NDArray[Any], seed: bytes) -> NDArray[np.float64]:
    """Return R ``vector``, float64 [padded_length(m)] of values [m]. Norms and sums are kept."""
    values = np.zeros(padded_length(len(vector)), dtype=np.float64)
    values[: len(vector)] = vector
    values *= _signs(seed, len(values))
    _transform(values)
    return values


def rotate_back(rotated: NDArray[Any], seed: bytes, length: int) -> NDArray[np.float64]:
    """Return the ``length`` values that `rotate` made ``rotated`` of; what fell on the padding is dropped.

    Raises InputError where ``rotated`` has another number of coordinates than ``length`` values are padded to.
    """
    if rotated.shape != (padded_length(length),):
        raise InputError(f"{rotated.shape} rotated coordinates are not those of {length} values: {padded_length(length)}")
    values = np.array(rotated, dtype=np.float64)
    _transform(values)
    values *= _signs(seed, len(values))
    return values[:length]


def _signs(seed: bytes, count: int) -> NDArray[np.int8]:
    """Return ``count`` signs, int8."""
    bits = np.unpackbits(np.frombuffer(key_stream(seed, -(-count // 8)), dtype=np.uint8), count=count)
    return 1 - 2 * bits.astype(np.int8)


def _transform(values: NDArray[np.float64]) -> None:
    """Apply the normalized Walsh-Hadamard transform in place: its own inverse.

    Small strides are done block by block, where a block stays in the cache; then the large ones over all values.
    """
    size = len(values)
    for start in range(0, size, _BLOCK):
        _butterflies(values[start : start + _BLOCK], 1)
    if size > _BLOCK:
        _butterflies(values, _BLOCK)
    if size:
        values *= 1.0 / math.sqrt(size)


def _butterflies(values: NDArray[np.float64], stride: int) -> None:
    """Replace pairs (a, b) that lie ``stride``, 2 ``stride``, ... apart by (a + b, a - b), in place."""
    while stride < len(values):
        pairs = values.reshape(-1, 2, stride)
        low, high = pairs[:, 0], pairs[:, 1]
        difference = low - high
        low += high
        high[...] = difference
        stride *= 2
