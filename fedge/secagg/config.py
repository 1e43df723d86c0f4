"""What a session's vectors look like and how many devices it takes. Both ends derive the same numbers from it."""

import math
from dataclasses import dataclass

from fedge.errors import InputError

COHORT_LIMIT = 128
LENGTH_LIMIT = 1 << 26


def threshold(n: int) -> int:
    """t = t_c = floor(2n/3) + 1: two sets of so many members share an honest one while floor((n-1)/3) are corrupt."""
    return 2 * n // 3 + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """The configuration of one session. Raises InputError for values that no session can have."""

    reals: int
    """Number of real coordinates, first in the vector."""
    integers: int
    """Number of integer coordinates, after the reals."""
    bits: int
    """b: coordinates are added modulo 2^b. 32, or 16 for slow uplinks."""
    cohort_max: int
    """n_max: the largest cohort that the encoding has room for."""
    scale: float
    """c: a real lies in [-c, c]; what lies outside is clipped."""
    clip_norm: float
    """C: the L2 norm to which an update is clipped."""
    weight_cap: int
    """W: examples beyond this many do not raise a device's weight."""
    n_min: int
    """The least number of devices in the roster, among those who shared and among those who delivered."""
    deadline: float
    """Unix time in seconds at which devices erase the session's secrets."""

    def __post_init__(self) -> None:
        if self.bits not in (16, 32):
            raise InputError(f"bits is {self.bits}: choose 16 or 32")
        if not 2 <= self.cohort_max <= COHORT_LIMIT:
            raise InputError(f"cohort_max is {self.cohort_max}: choose 2 to {COHORT_LIMIT}")
        if not 2 <= self.n_min <= self.cohort_max:
            raise InputError(f"n_min is {self.n_min}: choose 2 to cohort_max, which is {self.cohort_max}")
        if self.reals < 0 or self.integers < 0 or not 1 <= self.reals + self.integers < LENGTH_LIMIT:
            raise InputError(f"{self.reals} reals and {self.integers} integers: choose 1 to {LENGTH_LIMIT - 1} in all")
        if not 1 <= self.weight_cap < 1 << 32:
            raise InputError(f"weight_cap is {self.weight_cap}: choose 1 to 2^32 - 1")
        for name in ("scale", "clip_norm", "deadline"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}: choose a positive number")

    @property
    def length(self) -> int:
        """m: reals, integers and the tripwire, which counts the devices."""
        return self.reals + self.integers + 1

    @property
    def quantum(self) -> int:
        """Q = floor((2^b - 1) / (2 n_max)): n_max values of at most 2Q each never wrap."""
        return ((1 << self.bits) - 1) // (2 * self.cohort_max)

    @property
    def vector_bytes(self) -> int:
        """Size of a vector on the wire."""
        return self.length * self.bits // 8

    def threshold(self, n: int) -> int:
        """t = t_c = floor(2n/3) + 1 of a roster of ``n``."""
        return threshold(n)
