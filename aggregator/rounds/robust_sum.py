"""Bound what one lying device can do to a round's mean change: the sum is clipped, never refused.

A device may put any value modulo 2^b into its vector. `check_sum` says of one cohort's sum whether honest devices could have
sent it; `robust_mean` makes the mean change of a round, which is never longer than past honest rounds allow. `SumHistory` is
what those rounds left behind, and gives the next session its clip norm and weight cap.

Sources: Andrew et al. 2021, "Differentially Private Learning with Adaptive Clipping" (the ladder of norms); claims and
proofs stand in docs/research/robust-sums.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedge.layouts import EXAMPLE_RUNGS, NORM_RUNGS, UpdateLayout, UpdateSums
from fedge.routing.confidence import TEMPERATURE_GRID, best_temperature
from fedge.secagg import Decoded, SessionConfig
from fedge.secagg.rotation import rotate_back

Kind = Literal["range", "norm", "accuracy"]

REMEMBERED = 8
"""Accepted rounds whose mean norms bound the next one."""
SLACK = 2.0
"""How far a mean may exceed the median of those norms."""
CLIP_FALL, CLIP_RISE = 0.5, 1.25
"""Most that the clip norm changes from one round to the next."""
CLIP_FLOOR = 1 / 16
"""Smallest clip norm, as a share of the one that rounds began with."""
LEAST_MEAN_WEIGHT = 0.25
"""At least half of the devices weigh 1/2 or more where W is at most twice the median of the examples."""
FLATNESS_BETA = 1e-6
"""Probability that an honest sum's largest rotated coordinate is called too large."""
TEMPERATURE_STEPS = 2
"""Most points of the grid that the temperature moves in a round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SumHistory:
    """What accepted rounds said: clip norm and weight cap of the next session, and norms of the last mean changes.

    ``first_clip_norm`` and ``largest_weight_cap`` are the release's own, which devices accept at most.
    """

    first_clip_norm: float
    largest_weight_cap: int
    clip_norm: float
    weight_cap: int = 1
    """1 in the first round, when nothing is known: every device weighs the same."""
    mean_norms: tuple[float, ...] = ()

    @classmethod
    def begin(cls, *, clip_norm: float, weight_cap: int) -> "SumHistory":
        """Return the history before the first round on a release with these settings."""
        return cls(first_clip_norm=clip_norm, largest_weight_cap=weight_cap, clip_norm=clip_norm)

    @property
    def bound(self) -> float:
        """B: the largest norm of the next mean change. No honest mean exceeds the clip norm."""
        if not self.mean_norms:
            return self.clip_norm
        return min(self.clip_norm, SLACK * float(np.median(self.mean_norms)))

    def check(self) -> None:
        """Raise ValueError for values that no round leaves behind."""
        numbers = (self.first_clip_norm, self.clip_norm, *self.mean_norms)
        if not all(type(x) is float and math.isfinite(x) and x >= 0 for x in numbers) or self.clip_norm <= 0:
            raise ValueError(f"the history of sums is {self}")
        caps = (self.weight_cap, self.largest_weight_cap)
        if not all(type(cap) is int for cap in caps) or not 1 <= self.weight_cap <= self.largest_weight_cap:
            raise ValueError(f"the history of sums has weight caps {caps}")

    def extend(self, sums: UpdateSums, *, devices: int, mean_norm: float) -> "SumHistory":
        """Return the history after a round that was accepted. Ladders that ``devices`` cannot have change nothing."""
        clip_norm, weight_cap = self.clip_norm, self.weight_cap
        bucket = _median_bucket(sums.norms, devices)
        if bucket is not None:
            target = NORM_RUNGS[min(bucket, len(NORM_RUNGS) - 1)]
            clip_norm = min(max(target, CLIP_FALL * clip_norm), CLIP_RISE * clip_norm, self.first_clip_norm)
            clip_norm = max(clip_norm, CLIP_FLOOR * self.first_clip_norm)
        bucket = _median_bucket(sums.example_counts, devices)
        if bucket is not None:
            median = EXAMPLE_RUNGS[bucket - 1] if bucket else 1
            weight_cap = max(1, min(2 * median, self.largest_weight_cap))
        norms = (*self.mean_norms, mean_norm)[-REMEMBERED:] if mean_norm > 0 else self.mean_norms
        return replace(self, clip_norm=clip_norm, weight_cap=weight_cap, mean_norms=norms)


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortSum:
    """One session's sum of updates: ``decoded`` as it came (rotated reals), over ``survivors`` devices."""

    decoded: Decoded
    survivors: int
    config: SessionConfig
    rotation_seed: bytes


@dataclass(frozen=True, slots=True)
class SumCheck:
    """A verdict on one cohort's sum. ``norm`` of its mean change before clipping, and the ``bound`` it is clipped to.

    ``suspicious``: honest devices hardly ever send such a sum; ``reason`` says why, and is empty otherwise. ``kind``:
    "range" is what they never send, "norm" and "accuracy" what they rarely do.
    """

    suspicious: bool
    reason: str
    norm: float
    bound: float
    kind: Kind | None = None

    def suspect(self, kind: Kind, reason: str) -> "SumCheck":
        """Return the verdict with a reason to suspect the sum, unless there is one already."""
        return self if self.suspicious else replace(self, suspicious=True, kind=kind, reason=reason)


@dataclass(frozen=True, slots=True)
class RobustMean:
    """The round's mean change float64 [m]; ``cohort_sums``: what is believed of the metrics of the ``devices`` in it."""

    change: NDArray[np.float64]
    cohort_sums: tuple[UpdateSums, ...]
    devices: int

    @property
    def norm(self) -> float:
        """The norm of the mean change."""
        return float(np.linalg.norm(self.change))

    @property
    def sums(self) -> UpdateSums:
        """The metrics over all cohorts."""
        return reduce(add, self.cohort_sums)


def check_sum(decoded: Decoded, *, survivors: int, config: SessionConfig, bound: float) -> SumCheck:
    """Return the verdict on one cohort's sum, rotated as it was decoded, under the round's ``bound`` on the mean's norm."""
    sums = UpdateLayout().decode(decoded.integers)
    norm = float(np.linalg.norm(decoded.reals)) / _total_weight(sums, survivors, config)
    check = SumCheck(False, "", norm, bound)
    if fault := _find_fault(decoded, sums, survivors, config):
        return check.suspect("range", fault)
    if norm > bound:
        check = check.suspect("norm", f"its mean change has a norm of {norm:.4g}, more than {bound:.4g}")
    largest, rms = float(np.abs(decoded.reals).max(initial=0.0)), _rms(decoded.reals)
    limit = math.sqrt(2.0 * math.log(2.0 * max(len(decoded.reals), 1) / FLATNESS_BETA)) * rms
    if largest > limit:
        check = check.suspect("norm", f"a rotated coordinate is {largest:.4g}, where {limit:.4g} is likely")
    return check


def clipped_mean(each: CohortSum, *, length: int, bound: float) -> NDArray[np.float64]:
    """Return one cohort's mean change of ``length`` weights, in their own coordinates, no longer than ``bound``."""
    sums = UpdateLayout().decode(each.decoded.integers)
    mean = rotate_back(each.decoded.reals, each.rotation_seed, length) / _total_weight(sums, each.survivors, each.config)
    norm = float(np.linalg.norm(mean))
    return mean * (bound / norm) if norm > bound else mean


def compare_cohorts(
    checks: Sequence[SumCheck], accuracies: Sequence[float], *, best: float, allowed: float
) -> tuple[SumCheck, ...]:
    """Return the verdicts after each cohort's own release was tried on the server's held-out queries.

    A cohort is suspected whose accuracy is over ``allowed`` below the ``best`` so far or below another cohort of the round.
    """
    least = max([best, *accuracies]) - allowed
    return tuple(
        check
        if accuracy >= least
        else check.suspect("accuracy", f"its release alone is right on {accuracy:.1%}, where {least:.1%} is likely")
        for check, accuracy in zip(checks, accuracies, strict=True)
    )


def robust_mean(
    cohorts: Sequence[CohortSum], checks: Sequence[SumCheck], *, length: int, bound: float
) -> RobustMean:
    """Return the mean change of ``length`` weights over the cohorts, clipped to ``bound``.

    Each cohort's mean is clipped by itself, so that none outweighs another by its norm, and averaged by its devices.
    Suspicious cohorts are left out where others are not; where all are, all count, clipped.
    """
    chosen = [each for each, check in zip(cohorts, checks, strict=True) if not check.suspicious] or list(cohorts)
    devices = sum(each.survivors for each in chosen)
    change = np.zeros(length)
    for each in chosen:
        change += clipped_mean(each, length=length, bound=bound) * (each.survivors / devices)
    believed = [bound_metrics(UpdateLayout().decode(each.decoded.integers), each.survivors, each.config) for each in chosen]
    return RobustMean(change, tuple(believed), devices)


def bound_metrics(sums: UpdateSums, devices: int, config: SessionConfig) -> UpdateSums:
    """Return the sums with each metric within what ``devices`` can have."""
    most = devices * EXAMPLE_RUNGS[-1]
    return replace(sums, weight=min(sums.weight, devices * config.weight_cap), examples=min(sums.examples, most))


def next_temperature(sums: Sequence[UpdateSums], current: float) -> float:
    """Return the median of the cohorts' best temperatures, at most `TEMPERATURE_STEPS` grid points from ``current``.

    Cohorts without a fresh answer, or with equal losses at all temperatures, say nothing; where none does, it stays.
    """
    said = [TEMPERATURE_GRID.index(best_temperature(each.nll)) for each in sums if np.ptp(each.nll) > 0.0]
    if not said:
        return current
    here = min(range(len(TEMPERATURE_GRID)), key=lambda index: abs(math.log(TEMPERATURE_GRID[index] / current)))
    wanted = sorted(said)[len(said) // 2]
    return TEMPERATURE_GRID[min(max(wanted, here - TEMPERATURE_STEPS), here + TEMPERATURE_STEPS)]


def _total_weight(sums: UpdateSums, survivors: int, config: SessionConfig) -> float:
    """Return the sum of weights, within what ``survivors`` devices have where W is at most twice the median."""
    return min(max(sums.weight / config.weight_cap, LEAST_MEAN_WEIGHT * survivors), float(survivors))


def _find_fault(decoded: Decoded, sums: UpdateSums, survivors: int, config: SessionConfig) -> str:
    """Return why honest devices cannot have sent this sum, or an empty text."""
    if decoded.out_of_range:
        return f"{decoded.out_of_range} coordinates are no sum of {survivors} devices"
    if sums.weight > survivors * config.weight_cap:
        return f"a weight of {sums.weight} is more than {survivors} devices have under a cap of {config.weight_cap}"
    for name, ladder in (("norms", sums.norms), ("example counts", sums.example_counts)):
        if not _can_be(ladder, survivors):
            return f"the ladder of {name} is not that of {survivors} devices"
    if sums.norms.sum() != sums.example_counts.sum():
        return "the two ladders do not hold the same devices"
    return ""


def _rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else 0.0


def _can_be(ladder: NDArray[np.int64], devices: int) -> bool:
    return bool((ladder >= 0).all() and (ladder <= devices).all() and ladder.sum() <= devices)


def _median_bucket(ladder: NDArray[np.int64], devices: int) -> int | None:
    """Return the bucket of the lower median; None where nobody stands on the ladder or it cannot be that of ``devices``."""
    total = int(ladder.sum())
    if not total or not _can_be(ladder, devices):
        return None
    return int(np.searchsorted(np.cumsum(ladder), (total + 1) // 2))
