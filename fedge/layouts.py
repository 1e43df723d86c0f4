"""Which integer coordinate of a secure sum means what: agreed here once for devices and aggregator.

An update's integers: weight, examples, training loss, one negative log-likelihood a temperature of the grid, and two one-hot
ladders: in which bucket the update's norm and the device's number of examples lie (secure bit counts, after Andrew et al.
2021, "Differentially Private Learning with Adaptive Clipping"). A certificate's integers: stored probes that agreed and
disagreed with central by confidence bin, with noise; new probes, which no sum has carried before, seen and disagreed by bin;
and the running pair. A canary's integers: four counts. Real-valued metrics travel in thousandths.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedge.errors import InputError
from fedge.routing.confidence import TEMPERATURE_GRID
from fedge.routing.grid import coarse_indices
from fedge.routing.statement import SEEN_CAP

THOUSANDTHS = 1000.0
# A device's sum of losses is capped, so that one device can neither overflow its coordinate nor drown the others.
LOSS_CAP = 16_000.0
# More probes than a device ever reports: it keeps some thousands.
PROBES_CAP = 1 << 16
# Most queries, and most failures, that a device reports at once of a release on the canary; the rest waits for the next sum.
HEALTH_CAP = 1_000_000
# Rungs of the ladders, about sqrt(2) apart. Bucket k holds what lies from rung k - 1 up to below rung k.
NORM_RUNGS: tuple[float, ...] = tuple(2.0 ** (k / 2) for k in range(-16, 13))
EXAMPLE_RUNGS: tuple[int, ...] = tuple(sorted({round(2.0 ** (k / 2)) for k in range(25)}))


@dataclass(frozen=True, slots=True)
class UpdateSums:
    """The decoded metrics of a cohort: total weight (in units of the weight cap's examples), examples, summed loss,
    summed NLL, and devices by bucket of their norm and of their number of examples.
    """

    weight: int
    examples: int
    loss_sum: float
    nll: NDArray[np.float64]
    norms: NDArray[np.int64]
    example_counts: NDArray[np.int64]

    def __add__(self, other: "UpdateSums") -> "UpdateSums":
        return UpdateSums(
            self.weight + other.weight,
            self.examples + other.examples,
            self.loss_sum + other.loss_sum,
            self.nll + other.nll,
            self.norms + other.norms,
            self.example_counts + other.example_counts,
        )


@dataclass(frozen=True, slots=True)
class UpdateLayout:
    """Integer coordinates of an update session."""

    @property
    def integers(self) -> int:
        """How many there are."""
        return 3 + len(TEMPERATURE_GRID) + len(NORM_RUNGS) + 1 + len(EXAMPLE_RUNGS) + 1

    def encode(self, *, weight: int, examples: int, loss_sum: float, nll: ArrayLike, norm: float) -> NDArray[np.int64]:
        """Return one device's coordinates, int64 [integers]; losses above `LOSS_CAP` count as the cap.

        ``norm``: of the update before it is clipped. A device without examples stands on no ladder.
        """
        losses = np.concatenate([[loss_sum], np.asarray(nll, dtype=np.float64)])
        scaled = np.rint(np.clip(losses, 0.0, LOSS_CAP) * THOUSANDTHS).astype(np.int64)
        ladders = [_one_hot(norm, NORM_RUNGS), _one_hot(examples, EXAMPLE_RUNGS)]
        if not examples:
            ladders = [np.zeros_like(ladder) for ladder in ladders]
        return np.concatenate([np.array([weight, examples], dtype=np.int64), scaled, *ladders])

    def decode(self, integers: NDArray[np.int64]) -> UpdateSums:
        """The cohort's sums. Raises InputError for another number of coordinates."""
        _require_length(integers, self.integers)
        ends = np.cumsum([2, 1, len(TEMPERATURE_GRID), len(NORM_RUNGS) + 1])
        counts, loss, nll, norms, example_counts = np.split(integers, ends)
        return UpdateSums(
            int(counts[0]),
            int(counts[1]),
            float(loss[0]) / THOUSANDTHS,
            nll.astype(np.float64) / THOUSANDTHS,
            norms,
            example_counts,
        )


@dataclass(frozen=True, slots=True)
class CountSums:
    """Probes by confidence bin, int64, and the running pair of the devices that reported.

    ``seen`` and ``disagreed``, [coarse] each, are over the coarse grid and carry the devices' noise; the new ones, [G] each
    over the grid itself, and the pair are exact.
    """

    seen: NDArray[np.int64]
    disagreed: NDArray[np.int64]
    new_seen: NDArray[np.int64]
    new_disagreed: NDArray[np.int64]
    running_seen: int
    running_disagreed: int

    def check(self, *, devices: int) -> None:
        """Raises InputError for histograms that ``devices`` honest devices cannot have: then one of them lied in its sum.

        What comes after takes time and memory in proportion to the counts. The running pair is not looked at here: it is
        held against central's totals (`fedge.routing.cross_check`).
        """
        if (self.new_disagreed > self.new_seen).any():
            raise InputError("the counts name more disagreements than probes")
        largest = max(int(np.abs(counts).sum()) for counts in (self.seen, self.disagreed, self.new_seen))
        if largest > min(devices * PROBES_CAP, SEEN_CAP):
            raise InputError(f"the counts name {largest} probes, more than {devices} devices can have")

    def __add__(self, other: "CountSums") -> "CountSums":
        return CountSums(
            self.seen + other.seen,
            self.disagreed + other.disagreed,
            self.new_seen + other.new_seen,
            self.new_disagreed + other.new_disagreed,
            self.running_seen + other.running_seen,
            self.running_disagreed + other.running_disagreed,
        )


@dataclass(frozen=True, slots=True)
class CountsLayout:
    """Integer coordinates of a counts session over a grid of ``bins`` thresholds.

    ``lift`` keeps noisy coordinates above 0 (`fedge.routing.probe_noise.ProbeNoise.bound`).
    """

    bins: int
    lift: int = 0

    @property
    def integers(self) -> int:
        """How many there are."""
        return 2 * self.coarse_bins + 2 * self.bins + 2

    @property
    def coarse_bins(self) -> int:
        """Bins of the coarse grid (`fedge.routing.grid.coarse_grid`)."""
        return len(coarse_indices(self.bins))

    def encode(
        self,
        *,
        agreed: NDArray[np.int64],
        disagreed: NDArray[np.int64],
        new_seen: NDArray[np.int64],
        new_disagreed: NDArray[np.int64],
        running_seen: int,
        running_disagreed: int,
    ) -> NDArray[np.int64]:
        """Return one device's coordinates, int64 [integers].

        ``agreed`` and ``disagreed`` hold noise of at most ``lift`` in magnitude, by which they are lifted to stay above 0.
        """
        pair = np.array([running_seen, running_disagreed], dtype=np.int64)
        return np.concatenate([agreed + self.lift, disagreed + self.lift, new_seen, new_disagreed, pair])

    def decode(self, integers: NDArray[np.int64], *, devices: int) -> CountSums:
        """Return the sums over ``devices`` devices. Raises InputError for another number of coordinates.

        Noise may leave a bin below 0, or with more disagreements than probes; `fedge.routing.deduction` makes up for it.
        """
        _require_length(integers, self.integers)
        agreed, disagreed = np.split(integers[: 2 * self.coarse_bins], 2)
        new_seen, new_disagreed = np.split(integers[2 * self.coarse_bins : -2], 2)
        agreed, disagreed = agreed - devices * self.lift, disagreed - devices * self.lift
        pair = int(integers[-2]), int(integers[-1])
        return CountSums(agreed + disagreed, disagreed, new_seen, new_disagreed, *pair)


@dataclass(frozen=True, slots=True)
class HealthSums:
    """How a release on the canary did: devices that took it, of them those that gave it up, its queries, its failures."""

    taken: int = 0
    rolled_back: int = 0
    answered: int = 0
    errors: int = 0

    def __add__(self, other: "HealthSums") -> "HealthSums":
        return HealthSums(
            self.taken + other.taken,
            self.rolled_back + other.rolled_back,
            self.answered + other.answered,
            self.errors + other.errors,
        )


@dataclass(frozen=True, slots=True)
class HealthLayout:
    """Integer coordinates of a session about a release on the canary."""

    @property
    def integers(self) -> int:
        """How many there are."""
        return 4

    def encode(self, *, taken: int, rolled_back: int, answered: int, errors: int) -> NDArray[np.int64]:
        """One device's coordinates, int64 [integers]; the caller keeps them at `HEALTH_CAP` at most."""
        return np.array([taken, rolled_back, answered, errors], dtype=np.int64)

    def decode(self, integers: NDArray[np.int64]) -> HealthSums:
        """The cohort's sums. Raises InputError for another number of coordinates."""
        _require_length(integers, self.integers)
        return HealthSums(*(int(value) for value in integers))


def _one_hot(value: float, rungs: Sequence[float]) -> NDArray[np.int64]:
    """Return a 1 in the bucket of ``value``, int64 [len(rungs) + 1]."""
    buckets = np.zeros(len(rungs) + 1, dtype=np.int64)
    buckets[bisect_right(rungs, value)] = 1
    return buckets


def _require_length(integers: NDArray[np.int64], expected: int) -> None:
    if integers.shape != (expected,):
        raise InputError(f"a sum of {integers.shape} integers does not fit a layout of {expected}")
