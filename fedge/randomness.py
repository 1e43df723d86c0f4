"""Randomness as a value: every stream is derived from a 32-byte seed and a path of labels, so that two runs with one seed
draw the same numbers whatever ran in between, and a resumed run needs no generator state.

Never used for keys or masks: those come from the operating system.
"""

import hashlib

import numpy as np


def root_seed(seed: int) -> bytes:
    """The 32-byte root of a run's randomness from a person's integer (any size, any sign)."""
    return hashlib.sha256(f"fedge/seed/{seed}".encode()).digest()


def derive(seed: bytes, *labels: str | int) -> bytes:
    """A 32-byte seed for the stream that ``labels`` name. Labels are length-prefixed: ("a", "bc") is not ("ab", "c")."""
    digest = hashlib.sha256(seed)
    for label in labels:
        encoded = f"{type(label).__name__}:{label}".encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return digest.digest()


def generator(seed: bytes, *labels: str | int) -> "np.random.Generator":  # quoted: numpy loads that part when it is named
    """A numpy generator (PCG64) of the stream that ``labels`` name."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(derive(seed, *labels), "big")))
