"""Masks: ChaCha20 key streams, added to and taken from a vector in place.

A stream is the cipher's output for a zero nonce with the counter from 0; its key must be used for nothing else. The vector
is walked in chunks that stay in the cache while all streams pass over them, and key stream goes into one buffer that is
allocated once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

CHUNK_BYTES = 256 * 1024
_COUNTER_AND_NONCE = bytes(16)
_ZEROS = memoryview(bytes(CHUNK_BYTES))


def _stream(key: bytes) -> CipherContext:
    return Cipher(ChaCha20(key, _COUNTER_AND_NONCE), mode=None).encryptor()


def key_stream(key: bytes, size: int) -> bytes:
    """The first ``size`` bytes of the stream of ``key`` (32 bytes)."""
    return _stream(key).update(bytes(size))


def apply_masks(vector: NDArray[np.unsignedinteger[Any]], *, added: Sequence[bytes], subtracted: Sequence[bytes]) -> None:
    """Adds and subtracts the streams of the given keys, in place and modulo 2^b. ``vector`` is little-endian, contiguous."""
    adding = [_stream(key) for key in added]
    subtracting = [_stream(key) for key in subtracted]
    step = CHUNK_BYTES // vector.itemsize
    mask = np.empty(min(step, vector.size), dtype=vector.dtype)
    buffer = mask.data.cast("B")
    for start in range(0, vector.size, step):
        part = vector[start : start + step]
        values, size = mask[: part.size], part.nbytes
        zeros, window = _ZEROS[:size], buffer[:size]
        for stream in adding:
            stream.update_into(zeros, window)
            np.add(part, values, out=part)
        for stream in subtracting:
            stream.update_into(zeros, window)
            np.subtract(part, values, out=part)
