"""The release's statement: the lowest threshold whose risk of disagreeing with central is shown to be small by probe counts.

Two pieces: the exact binomial (Clopper-Pearson) upper bound, and the fixed-sequence test that walks the threshold grid with
it. Pure counts in, numbers out; nothing here knows a device, a clock or a release.

**Why walking the grid costs no confidence.** Condition on every probe's confidence, and so on all of ``seen``. The order of
the tests is then fixed: start at the strictest threshold with enough probes (a rule on ``seen`` alone, never on
``disagreed``), go down, stop at the first failure. A false statement needs the first threshold in that order whose risk
exceeds ``max_risk`` to pass, and one test passes wrongly with probability at most delta; so all thresholds passed hold
together at 1 - delta, without a correction (Maurer et al. 1995; Bauer 1991; "fixed sequence testing" in Angelopoulos et al.
2021, Learn then Test). The risk meant is the mean over the bins of the probes seen; given their confidences, disagreements
are independent but not identically distributed, and Hoeffding (1956, theorem 5) shows that the binomial tail then bounds
theirs wherever the count is at least one below its mean, which every passing count is for delta below 1/4 (Greenberg and
Mohri 2014).

**Where to start.** One disagreement too many at the first threshold ends the walk with nothing, so the first should bear a
few; but the more it must bear, the more probes it needs and the lower it lies. Chosen: the strictest threshold whose probes
suffice for 10 disagreements, or as many as a third of all probes suffices for. Local share reached at max_risk 0.05, delta
0.05, mean of 400 draws, under two curves of risk ("steep": 1 % at 40 % local, 6 % at 75 %; "noisy": 1.5 % even at the top;
at best 69 and 76 % stay local):

    probes                        steep: 300   600   1200   3000      noisy: 300   600   1200   3000
    start bears 0                        0.36  0.48  0.56   0.61             0.17  0.18  0.19   0.33
    start bears 3                        0.35  0.58  0.63   0.66             0.31  0.47  0.50   0.59
    up to 10, third of probes            0.42  0.58  0.63   0.66             0.30  0.51  0.65   0.70

False statements of the chosen rule in these cells: 2.2 to 4.8 % of draws, delta allows 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedge.errors import InputError
from fedge.routing.deduction import NO_DEDUCTION, ConservativeCounts, Deduction, PooledNoise, conservative
from fedge.routing.grid import DEFAULT_GRID, check_grid

START_ALLOWANCE = 10
"""The first threshold tested can bear this many disagreements and still pass, or fewer where probes are few: see _start."""


@dataclass(frozen=True, slots=True)
class GridTest:
    """Outcome of one walk down the grid. ``seen`` and ``disagreed`` count the probes that the threshold keeps local, after
    deductions; ``noise`` is what ``disagreed`` still carries.
    """

    index: int | None
    threshold: float | None
    seen: int
    disagreed: int
    bound: float | None
    tested: int
    noise: PooledNoise | None = None


def binomial_cdf(disagreed: int, seen: int, risk: float) -> float:
    """P(at most ``disagreed`` of ``seen`` independent events of probability ``risk``)."""
    _check_counts(disagreed, seen)
    return 1.0 if disagreed == seen else _tail(_log_coefficients(disagreed, seen), seen, risk)


def clopper_pearson_upper(disagreed: int, seen: int, delta: float) -> float:
    """Upper bound on the risk that misses with probability at most ``delta``: the largest p with cdf(d; n, p) >= delta.

    Exact (Clopper and Pearson 1934), by bisection on the tail, rounded up to the next double. 1.0 without evidence.
    """
    _check_counts(disagreed, seen)
    _check_probability("delta", delta)
    if disagreed == seen:
        return 1.0
    coefficients = _log_coefficients(disagreed, seen)
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        if _tail(coefficients, seen, middle) >= delta:
            low = middle
        else:
            high = middle
    return high


def noisy_cdf(disagreed: int, seen: int, risk: float, noise: PooledNoise) -> float:
    """P(Bin(seen, risk) + N <= disagreed) for N of law ``noise``, from above: see `fedge.routing.deduction`."""
    _check_counts(disagreed, seen)
    values, masses = noise.law()
    at = disagreed - values
    top = int(min(seen, max(at.max(), 0)))
    below = np.concatenate([[0.0], np.cumsum(_mass(_log_coefficients(top, seen), seen, risk))])
    tails = below[np.clip(at + 1, 0, top + 1)]
    tails = np.where(at > seen * risk - 1, 1.0, np.minimum(tails, 1.0))
    return min(1.0, float(masses @ tails) + (1.0 - min(1.0, float(masses.sum()))))


def risk_upper(disagreed: int, seen: int, delta: float, noise: PooledNoise | None) -> float:
    """Return the upper bound on the risk from counts whose disagreements carry ``noise``; Clopper-Pearson's without any."""
    if noise is None:
        return clopper_pearson_upper(disagreed, seen, delta)
    _check_counts(disagreed, seen)
    _check_probability("delta", delta)
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if noisy_cdf(disagreed, seen, middle, noise) >= delta else (low, middle)
    return high


def probes_needed(max_risk: float, delta: float, allowed: int = 0) -> int:
    """Fewest probes with which ``allowed`` disagreements still show a risk of at most ``max_risk`` (59 for 0.05, 0.05 and
    0).
    """
    _check_probability("max_risk", max_risk)
    _check_probability("delta", delta)
    low, high = allowed, allowed + 1
    while not _passes(allowed, high, max_risk, delta):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _passes(allowed, middle, max_risk, delta) else (middle, high)
    return high


def grid_test(
    seen: ArrayLike,
    disagreed: ArrayLike,
    *,
    max_risk: float,
    delta: float,
    grid: Sequence[float] = DEFAULT_GRID,
    deduction: Deduction = NO_DEDUCTION,
    order: ArrayLike | None = None,
) -> GridTest:
    """The lowest threshold shown to have at most ``max_risk`` at confidence 1 - ``delta``, from counts per bin, int [G].

    ``deduction`` is taken off first; where it has noise, ``order`` (exact counts by threshold, int [G]) decides on
    the start. Raises InputError for counts that cannot be: negative ones or more disagreements than probes, unless
    they carry noise; or another length than the grid's.
    """
    points = check_grid(grid)
    _check_probability("max_risk", max_risk)
    _check_probability("delta", delta)
    counts = _counted(seen, disagreed, points.size, deduction, delta, order=order)
    test_delta = deduction.test_delta(delta)
    above, wrong = counts.seen.tolist(), counts.disagreed.tolist()
    passed, tested = None, 0
    for index in range(_start(counts, max_risk, test_delta), -1, -1):
        tested += 1
        if not _passes(wrong[index], above[index], max_risk, test_delta, noise=counts.noise[index]):
            break
        passed = index
    if passed is None:
        return GridTest(None, None, 0, 0, None, tested)
    return _outcome(passed, points, counts, test_delta, tested)


def grid_test_at(
    passed: GridTest,
    index: int,
    seen: ArrayLike,
    disagreed: ArrayLike,
    *,
    delta: float,
    grid: Sequence[float] = DEFAULT_GRID,
    deduction: Deduction = NO_DEDUCTION,
) -> GridTest | None:
    """The same walk's outcome at the stricter threshold ``index``; None where the walk started below it.

    All thresholds that a walk passes hold together at 1 - ``delta``, so any of them may be chosen, for whatever reason.
    """
    points = check_grid(grid)
    if passed.index is None:
        return None
    start = passed.index + passed.tested - (2 if passed.index else 1)  # a walk that ended above 0 tested one that failed
    if not passed.index <= index <= start:
        return None
    counts = _counted(seen, disagreed, points.size, deduction, delta)
    return _outcome(index, points, counts, deduction.test_delta(delta), passed.tested)


def _outcome(
    index: int, points: NDArray[np.float64], counts: ConservativeCounts, test_delta: float, tested: int
) -> GridTest:
    seen, wrong = int(counts.seen[index]), int(counts.disagreed[index])
    noise = counts.noise[index]
    return GridTest(index, float(points[index]), seen, wrong, risk_upper(wrong, seen, test_delta, noise), tested, noise)


def _start(counts: ConservativeCounts, max_risk: float, delta: float) -> int:
    """Index of the strictest threshold whose probes bear as many disagreements as a third of all probes bears where there is
    no noise, at most START_ALLOWANCE; fewer where no threshold has the probes for that, -1 where none can bear any.
    """
    order = counts.order.tolist()
    allowed = 0
    while allowed < START_ALLOWANCE and _passes(allowed + 1, order[0] // 3, max_risk, delta):
        allowed += 1
    # From the top: with noise, what a threshold has to bear falls together with its counts.
    for bears in range(allowed, -1, -1):
        for g in range(len(order) - 1, -1, -1):
            if _passes(bears, order[g], max_risk, delta, noise=counts.noise[g]):
                return g
    return -1


def _passes(
    disagreed: int, seen: int, max_risk: float, delta: float, *, noise: PooledNoise | None = None
) -> bool:
    """Whether the bound is at most ``max_risk``, without computing it."""
    if disagreed >= seen:
        return False
    if noise is None:
        return binomial_cdf(disagreed, seen, max_risk) < delta
    return noisy_cdf(disagreed, seen, max_risk, noise) < delta


def _log_coefficients(disagreed: int, seen: int) -> NDArray[np.float64]:
    k = np.arange(1, disagreed + 1, dtype=np.float64)
    return np.concatenate([[0.0], np.cumsum(np.log(seen - k + 1) - np.log(k))])


def _mass(coefficients: NDArray[np.float64], seen: int, risk: float) -> NDArray[np.float64]:
    """Return P(Bin(seen, risk) = k) for k below the number of ``coefficients``."""
    k = np.arange(coefficients.size)
    if risk <= 0 or risk >= 1:
        certain: NDArray[np.float64] = (k == (0 if risk <= 0 else seen)).astype(np.float64)
        return certain
    mass: NDArray[np.float64] = np.exp(coefficients + k * np.log(risk) + (seen - k) * np.log1p(-risk))
    return mass


def _tail(coefficients: NDArray[np.float64], seen: int, risk: float) -> float:
    if risk <= 0:
        return 1.0
    if risk >= 1:
        return 0.0
    k = np.arange(coefficients.size)
    terms = coefficients + k * np.log(risk) + (seen - k) * np.log1p(-risk)
    largest = terms.max()
    return min(1.0, float(np.exp(largest) * np.exp(terms - largest).sum()))


def _check_counts(disagreed: int, seen: int) -> None:
    if not 0 <= disagreed <= seen:
        raise InputError(f"{disagreed} disagreements among {seen} probes cannot be")


def _check_probability(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InputError(f"{name} {value!r} must lie strictly between 0 and 1")


def _counted(
    seen: ArrayLike,
    disagreed: ArrayLike,
    size: int,
    deduction: Deduction,
    delta: float,
    *,
    order: ArrayLike | None = None,
) -> ConservativeCounts:
    counts, wrong = np.asarray(seen), np.asarray(disagreed)
    if counts.shape != (size,) or wrong.shape != (size,):
        raise InputError(f"a grid of {size} thresholds needs {size} counts each, not {counts.shape} and {wrong.shape}")
    if not (np.issubdtype(counts.dtype, np.integer) and np.issubdtype(wrong.dtype, np.integer)):
        raise InputError("probe counts are integers")
    if deduction.noise is None and ((wrong < 0).any() or (wrong > counts).any()):
        raise InputError("a bin has a negative count or more disagreements than probes")
    return conservative(counts, wrong, deduction, delta=delta, order=order)
