"""Masks: ChaCha20 key streams, added to and taken from a vector in place.

A stream is the cipher's output for a zero nonce with the counter from 0; its key must be used for nothing else, except under
another nonce for the blinding of a commitment (`range_proof.derive_blinding`). The vector is walked in chunks that stay in
the cache while all streams pass over them, and key stream goes into one buffer that is allocated once. The cipher is
seekable, so threads can take a range of chunks each: `cryptography` releases the interpreter's lock while it enciphers,
numpy while it adds.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

CHUNK_BYTES = 256 * 1024
_BLOCK_BYTES = 64
_NONCE = bytes(12)
_ZEROS = memoryview(bytes(CHUNK_BYTES))


def _stream(key: bytes, block: int = 0) -> CipherContext:
    """The stream of ``key`` from its 64-byte ``block`` on."""
    return Cipher(ChaCha20(key, block.to_bytes(4, "little") + _NONCE), mode=None).encryptor()


def key_stream(key: bytes, size: int) -> bytes:
    """The first ``size`` bytes of the stream of ``key`` (32 bytes)."""
    return _stream(key).update(bytes(size))


def apply_masks(
    vector: NDArray[np.unsignedinteger[Any]], *, added: Sequence[bytes], subtracted: Sequence[bytes], threads: int = 1
) -> None:
    """Adds and subtracts the streams of the given keys, in place and modulo 2^b. ``vector`` is little-endian, contiguous.

    With ``threads`` the vector is cut into as many ranges of whole chunks; what comes out is the same.
    """
    step = CHUNK_BYTES // vector.itemsize
    chunks = -(-vector.size // step)
    workers = max(1, min(threads, chunks))
    if workers == 1:
        _apply_range(vector, 0, vector.size, added, subtracted)
        return
    bounds = [step * (chunks * worker // workers) for worker in range(workers)] + [vector.size]
    with ThreadPoolExecutor(workers) as pool:
        ranges = [pool.submit(_apply_range, vector, low, high, added, subtracted) for low, high in pairwise(bounds)]
        for done in ranges:
            done.result()


def _apply_range(
    vector: NDArray[np.unsignedinteger[Any]], low: int, high: int, added: Sequence[bytes], subtracted: Sequence[bytes]
) -> None:
    """Masks ``vector[low:high]``; ``low`` lies on a chunk's edge, which is one of a block too."""
    first_block = low * vector.itemsize // _BLOCK_BYTES
    adding = [_stream(key, first_block) for key in added]
    subtracting = [_stream(key, first_block) for key in subtracted]
    step = CHUNK_BYTES // vector.itemsize
    mask = np.empty(min(step, high - low), dtype=vector.dtype)
    buffer = mask.data.cast("B")
    for start in range(low, high, step):
        part = vector[start : min(start + step, high)]
        values, size = mask[: part.size], part.nbytes
        zeros, window = _ZEROS[:size], buffer[:size]
        for stream in adding:
            stream.update_into(zeros, window)
            np.add(part, values, out=part)
        for stream in subtracting:
            stream.update_into(zeros, window)
            np.subtract(part, values, out=part)
