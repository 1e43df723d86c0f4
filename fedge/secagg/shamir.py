"""Shamir's secret sharing of 32-byte secrets over the integers modulo p = 2^256 + 297 (Shamir 1979).

Any t shares give the secret back, fewer say nothing. Interpolation at 0 runs in integers: Delta = k! times a Lagrange
coefficient over points of 1..k is whole, so that one inverse (of Delta) is all the modular division there is.
"""

import math
from collections.abc import Sequence

PRIME = 2**256 + 297
SHARE_BYTES = 33
SECRET_BYTES = 32
COEFFICIENT_BYTES = 48


def split(secret: bytes, *, t: int, n: int, randomness: bytes) -> list[bytes]:
    """Shares at x = 1..n, any ``t`` of which give ``secret`` back.

    ``randomness`` is 48 uniform bytes for each of the t - 1 coefficients: 384 bits modulo p are uniform up to 2^-127.
    """
    if len(secret) != SECRET_BYTES or not 1 <= t <= n or len(randomness) != COEFFICIENT_BYTES * (t - 1):
        raise ValueError(f"cannot split {len(secret)} bytes {t}-of-{n} with {len(randomness)} random bytes")
    coefficients = [
        int.from_bytes(randomness[start : start + COEFFICIENT_BYTES], "big") % PRIME
        for start in range(0, len(randomness), COEFFICIENT_BYTES)
    ]
    constant = int.from_bytes(secret, "big")
    shares = []
    for x in range(1, n + 1):
        value = 0
        for coefficient in coefficients:
            value = (value + coefficient) * x % PRIME
        shares.append(((value + constant) % PRIME).to_bytes(SHARE_BYTES, "big"))
    return shares


def coefficients_at_zero(points: Sequence[int], k: int) -> list[int]:
    """Lagrange coefficients at 0, modulo p, for distinct ``points`` of 1..k: the secret is their product with the shares."""
    if len(set(points)) != len(points) or not all(1 <= point <= k for point in points):
        raise ValueError(f"points must be distinct and in 1..{k}: {list(points)}")
    delta = math.factorial(k)
    inverse = pow(delta, -1, PRIME)
    result = []
    for point in points:
        numerator, denominator = delta, 1
        for other in points:
            if other != point:
                numerator *= other
                denominator *= other - point
        result.append(numerator // denominator * inverse % PRIME)
    return result


def combine(shares: Sequence[bytes], coefficients: Sequence[int]) -> bytes | None:
    """The secret behind shares at the points that ``coefficients`` are for; None where what comes out is not 32 bytes."""
    total = sum(coefficient * int.from_bytes(share, "big") for coefficient, share in zip(coefficients, shares, strict=True))
    secret = total % PRIME
    return secret.to_bytes(SECRET_BYTES, "big") if secret < 1 << 256 else None
