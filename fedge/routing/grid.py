"""The fixed grid of thresholds and the counts over it: such integers are all that a device says about its probes.

Bin g holds the probes whose confidence lies in [grid[g], grid[g + 1]), the last bin those at or above the last grid point.
Confidences below grid[0] are counted nowhere: no threshold could answer them on the device. A query is answered locally at
threshold grid[g] exactly when its confidence is at least grid[g], so the counts for that threshold are the sums of bins g
and up.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedge.errors import InputError

DEFAULT_GRID: tuple[float, ...] = (
    *(round(0.05 * i, 2) for i in range(1, 13)),  # 0.05 .. 0.60
    *(round(0.6 + 0.025 * i, 3) for i in range(1, 13)),  # 0.625 .. 0.90
    *(0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99),
    *(0.993, 0.995, 0.997, 0.998, 0.999, 0.9995, 0.9998, 0.9999),
)
"""40 thresholds, denser near 1, where small models put most of their answers."""


def coarse_indices(size: int) -> range:
    """Return which of ``size`` thresholds make up the coarse grid: every third, but for the lowest fifth and the top
    twentieth.

    Noise falls on each bin, so fewer bins bear less of it, and thresholds hardly ever end at the lowest. The 40 thresholds
    of `DEFAULT_GRID` leave 0.45, 0.6, 0.675, 0.75, 0.825, 0.9, 0.95, 0.98, 0.993 and 0.998.
    """
    return range(size // 5, size - size // 20, 3)


def coarse_grid(grid: Sequence[float]) -> tuple[float, ...]:
    """Return the thresholds of ``grid`` that histograms of stored probes are taken over (`coarse_indices`)."""
    return tuple(grid[index] for index in coarse_indices(len(grid)))


def check_grid(grid: Sequence[float]) -> NDArray[np.float64]:
    """The grid float64 [G]; raises InputError unless it is ascending, inside (0, 1) and holds 1 to 256 points."""
    points = np.asarray(grid, dtype=np.float64)
    if points.ndim != 1 or not 1 <= points.size <= 256:
        raise InputError(f"a threshold grid holds 1 to 256 numbers, not an array of shape {points.shape}")
    if not (np.isfinite(points).all() and points[0] > 0 and points[-1] < 1 and (np.diff(points) > 0).all()):
        raise InputError("a threshold grid is strictly ascending inside (0, 1)")
    return points


def bin_index(confidence: ArrayLike, grid: Sequence[float] = DEFAULT_GRID) -> NDArray[np.int64]:
    """Number of grid points at or below each confidence, int64 [n] in 0..G. Not a number counts as 0."""
    values = np.nan_to_num(np.asarray(confidence, dtype=np.float64), nan=0.0)
    return np.searchsorted(check_grid(grid), values, side="right").astype(np.int64)


def histogram(
    confidence: ArrayLike, disagreed: ArrayLike, *, eligible: ArrayLike | None = None, grid: Sequence[float] = DEFAULT_GRID
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(seen, disagreed), each int64 [G], of probes with ``confidence`` [n] and whether device and central ``disagreed`` [n].

    ``eligible`` [n] leaves out the probes that no threshold would keep local (predicted out of scope, pinned by policy, an
    error dearer than the question): see ``router.local_candidate``.
    """
    bins = bin_index(confidence, grid)
    wrong = np.asarray(disagreed, dtype=bool)
    kept = np.ones(bins.shape, dtype=bool) if eligible is None else np.asarray(eligible, dtype=bool)
    if not bins.shape == wrong.shape == kept.shape or bins.ndim != 1:
        raise InputError(f"confidence, disagreed and eligible differ in shape: {bins.shape}, {wrong.shape}, {kept.shape}")
    size = len(grid) + 1
    seen = np.bincount(bins[kept], minlength=size)[1:]
    return seen.astype(np.int64), np.bincount(bins[kept & wrong], minlength=size)[1:].astype(np.int64)


def from_above(counts: ArrayLike) -> NDArray[np.int64]:
    """Counts int64 [G] at or above each threshold, from counts per bin [G]."""
    return np.cumsum(np.asarray(counts, dtype=np.int64)[::-1])[::-1]
