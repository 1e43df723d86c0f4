"""What a session's vectors look like and how many devices it takes. Both ends derive the same numbers from it."""

import math
from dataclasses import dataclass

from fedge.errors import InputError
from fedge.secagg import noise
from fedge.secagg.rotation import SPREAD, SPREAD_SLACK, rotated_scale

COHORT_LIMIT = 128
NOISE_LIMIT = 1000.0
LENGTH_LIMIT = 1 << 26
DIGIT_BITS = 8
"""At 16 bits an integer travels as three coordinates, digits of so many bits: what it sums to is the same."""


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
    """c: a real lies in [-c, c]; what lies outside is clipped. c sqrt(reals) is at most 4 C, save with noise."""
    clip_norm: float
    """C: the L2 norm to which an update is clipped."""
    weight_cap: int
    """W: examples beyond this many do not raise a device's weight."""
    n_min: int
    """The least number of devices in the roster, among those who shared and among those who delivered."""
    deadline: float
    """Unix time in seconds at which devices erase the session's secrets."""
    noise_multiplier: float = 0.0
    """Z of distributed differential privacy: the noise of a sum's reals in units of what one device can change; 0: none."""

    def __post_init__(self) -> None:
        if self.bits not in (16, 32):
            raise InputError(f"bits is {self.bits}: choose 16 or 32")
        if not 2 <= self.cohort_max <= COHORT_LIMIT:
            raise InputError(f"cohort_max is {self.cohort_max}: choose 2 to {COHORT_LIMIT}")
        if not 2 <= self.n_min <= self.cohort_max:
            raise InputError(f"n_min is {self.n_min}: choose 2 to cohort_max, which is {self.cohort_max}")
        if self.reals < 0 or self.integers < 0 or not 2 <= self.length <= LENGTH_LIMIT:
            raise InputError(f"{self.reals} reals and {self.integers} integers: choose 1 to {LENGTH_LIMIT - 1} in all")
        if not 1 <= self.weight_cap < 1 << 32:
            raise InputError(f"weight_cap is {self.weight_cap}: choose 1 to 2^32 - 1")
        for name in ("scale", "clip_norm", "deadline"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}: choose a positive number")
        if not 0.0 <= self.noise_multiplier <= NOISE_LIMIT:
            raise InputError(f"noise_multiplier is {self.noise_multiplier}: choose 0 to {NOISE_LIMIT}")
        if self.noise_multiplier and (self.integers or not self.reals or self.scale != self.clip_norm):
            raise InputError(
                "noise is for reals that are clipped to the scale, and exact integers beside them would tell more"
            )
        if self.reals and not self.noise_multiplier:
            self._check_spread()
        _ = self.quantum  # raises where noise leaves no room

    def _check_spread(self) -> None:
        """Raise InputError where a vector that fits the encoding could be over 4 times longer than the clip norm."""
        root = math.sqrt(self.reals)
        spread, largest = self.scale * root, SPREAD * self.clip_norm / root
        if spread > SPREAD * self.clip_norm * (1.0 + SPREAD_SLACK):
            raise InputError(
                f"scale {self.scale} lets {self.reals} reals reach a norm of {spread:.6g}, more than {SPREAD:g} times "
                f"the clip norm {self.clip_norm}: choose a scale of at most {largest:.6g}"
            )

    @property
    def rotated_scale(self) -> float:
        """The scale that a session must have: that of rotated updates; C itself where noise leaves them unrotated."""
        return self.clip_norm if self.noise_multiplier else rotated_scale(self.clip_norm, self.reals)

    @property
    def digits(self) -> int:
        """Coordinates that one integer takes."""
        return 1 if self.bits == 32 else 3

    @property
    def length(self) -> int:
        """m: reals, the integers' coordinates and the tripwire, which counts the devices."""
        return self.reals + self.integers * self.digits + 1

    @property
    def half(self) -> int:
        """floor((2^b - 1) / (2 n_max)): n_max values of at most twice that never wrap."""
        return ((1 << self.bits) - 1) // (2 * self.cohort_max)

    @property
    def quantum(self) -> int:
        """Q: the largest magnitude of an encoded real. All of `half`, or what noise leaves of it."""
        if not self.noise_multiplier:
            return self.half
        return noise.noisy_quantum(self.half, self.noise_multiplier, self.reals, self.honest)

    @property
    def offset(self) -> int:
        """Q + B: what an encoded real is lifted by, so that it is never negative; noise never exceeds B."""
        return self.quantum + (noise.tail(self.noise_sigma) if self.noise_multiplier else 0)

    @property
    def honest(self) -> int:
        """The fewest honest devices whose noise is in a released sum."""
        return noise.honest_minimum(self.n_min, self.cohort_max)

    @property
    def noise_sigma(self) -> float:
        """Standard deviation of one device's noise, in integer units."""
        return noise.device_sigma(self.noise_multiplier, self.quantum, self.reals, self.honest)

    @property
    def largest_integer(self) -> int:
        """What an integer may be at most: 2Q, or what its digits hold."""
        return 2 * self.half if self.digits == 1 else (1 << DIGIT_BITS * self.digits) - 1

    @property
    def vector_bytes(self) -> int:
        """Size of a vector on the wire."""
        return self.length * self.bits // 8

    def threshold(self, n: int) -> int:
        """t = t_c = floor(2n/3) + 1 of a roster of ``n``."""
        return threshold(n)
