"""Training a `LearnedRouter` federally: devices send fixed-point vectors of which only sums are used.

Two steps. First one sum of counts: in how many prompts each hashed word occurs, and sums and squares of the shapes. Then
ridge regression on the gain by conjugate gradients (Hestenes and Stiefel 1952): the server sends a direction, each device
answers with the mean of x (x . direction) over its own prompts, weighted by their number, and the sum gives the next
direction. The result is that of ridge regression on all prompts together, however unevenly they are spread.

What a device sends passes `fedge.secagg`'s weighting, clipping and encoding, and is added modulo 2^32; the masks, which
cancel in that sum, are left out for speed (a masked session's sum has the same bytes). Cohorts have at most 128 devices;
sums of several cohorts are added. Counts of rare words are seen in the sum: with few devices they say who used one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedge.randomness import derive
from fedge.routing.learned import DIMENSIONS, FEATURES, SHAPES, Counted, Floats, LearnedRouter, Scaling
from fedge.secagg import Decoded, SessionConfig, decode, encode, weighted_update
from fedge.secagg.codec import dtype_of
from fedge.secagg.config import COHORT_LIMIT

ROUNDS = 25
"""Steps of conjugate gradients at most; on the MMLU pairs the residual is small enough after 14 to 18."""
_ENOUGH = 1e-3  # of the residual that it starts from
_SHAPE_MOST = 20.0  # no logarithm or share among the shapes is larger; only characters_per_word can be, and is clipped
_ROW_NORM = 6.0  # bounds |x|^2: words 1, shapes at most 18 * (4 * 0.1)^2 = 2.9, constant 1

Stage = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """``penalty`` of ridge regression, and the fewest prompts that a word must occur in."""

    penalty: float
    least_documents: int


GRID = tuple(Settings(penalty, least) for least in (2, 5) for penalty in (5.0, 10.0, 20.0))
"""What cross-validation chooses from."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The router, and what training it took."""

    router: LearnedRouter
    devices: int
    rounds: int
    upload_bytes_per_device: int


def train_federated(
    counted: Counted, gains: Floats, devices: Sequence[NDArray[np.int64]], settings: Settings, *, seed: bytes, stage: Stage
) -> Trained:
    """A router from the prompts of ``devices`` (row numbers of each, two devices at least)."""
    shares = [counted.take(rows) for rows in devices]
    sums = _Sums(len(devices), most=max(map(len, devices)), seed=seed)
    scaling = _federated_scaling(shares, sums, least=settings.least_documents)
    rows = [scaling.apply(share) for share in shares]
    targets = [gains[share] for share in devices]
    start = sums.of_means([r.transposed_times(t) / len(r) for r, t in zip(rows, targets, strict=True)], list(map(len, rows)))

    def product(direction: Floats) -> Floats:
        length = float(np.linalg.norm(direction))
        unit = direction / length
        return length * sums.of_means([r.transposed_times(r.times(unit)) / len(r) for r in rows], list(map(len, rows)))

    weights = _conjugate_gradients(product, start, settings.penalty, stage=stage)
    return Trained(LearnedRouter(scaling, weights.astype(np.float16)), len(devices), sums.rounds, sums.upload_bytes)


def train_pooled(counted: Counted, gains: Floats, settings: Settings) -> LearnedRouter:
    """The same router from all prompts in one place: what cross-validation uses, and what the federated one must equal."""
    scaling = Scaling.of(
        counted.document_counts(),
        _bounded(counted.shapes).sum(axis=0),
        (_bounded(counted.shapes) ** 2).sum(axis=0),
        len(gains),
        least=settings.least_documents,
    )
    rows = scaling.apply(counted)
    weights = _conjugate_gradients(
        lambda direction: rows.transposed_times(rows.times(direction)),
        rows.transposed_times(gains),
        settings.penalty,
        stage=lambda text, done, of: None,
    )
    return LearnedRouter(scaling, weights.astype(np.float16))


def _conjugate_gradients(product: Callable[[Floats], Floats], start: Floats, penalty: float, *, stage: Stage) -> Floats:
    """Solves (X'X + penalty) w = ``start``; the constant is not penalized."""
    ridge = np.full(DIMENSIONS, penalty)
    ridge[-1] = 0.0
    weights = np.zeros(DIMENSIONS)
    residual, direction = start.copy(), start.copy()
    squared = first = float(residual @ residual)
    for number in range(1, ROUNDS + 1):
        if squared <= _ENOUGH**2 * first:
            break
        moved = product(direction) + ridge * direction
        step = squared / float(direction @ moved)
        weights += step * direction
        residual -= step * moved
        before, squared = squared, float(residual @ residual)
        direction = residual + squared / before * direction
        stage("training the router federally", number, ROUNDS)
    return weights


def _bounded(shapes: Floats) -> Floats:
    return np.clip(shapes, 0.0, _SHAPE_MOST)


def _federated_scaling(shares: Sequence[Counted], sums: "_Sums", *, least: int) -> Scaling:
    contributions = []
    for share in shares:
        shapes = _bounded(share.shapes) / _SHAPE_MOST
        reals = np.concatenate([shapes.sum(axis=0), (shapes**2).sum(axis=0)])
        contributions.append((reals, np.concatenate([share.document_counts(), [len(shapes)]])))
    total = sums.of_counts(contributions)
    shape_sums = total.reals[:SHAPES] * _SHAPE_MOST
    shape_squares = total.reals[SHAPES:] * _SHAPE_MOST**2
    return Scaling.of(total.integers[: FEATURES.buckets], shape_sums, shape_squares, int(total.integers[-1]), least=least)


class _Sums:
    """The cohorts' sums, as the server gets them. Counts rounds and bytes."""

    def __init__(self, devices: int, *, most: int, seed: bytes) -> None:
        self._cohorts = list(_cohorts(devices))
        self._most, self._seed = most, seed
        self.rounds = self.upload_bytes = 0
        largest = max(map(len, self._cohorts))
        self._config = SessionConfig(
            reals=DIMENSIONS,
            integers=0,
            bits=32,
            cohort_max=max(2, largest),
            scale=_ROW_NORM / 2,
            clip_norm=_ROW_NORM * DIMENSIONS**0.5,
            weight_cap=most,
            n_min=2,
            deadline=1.0,
        )

    def of_means(self, means: Sequence[Floats], examples: Sequence[int]) -> Floats:
        """The sum over all examples [DIMENSIONS] of what each device sends as its mean."""
        updates = [weighted_update(mean, n, self._config)[0] for mean, n in zip(means, examples, strict=True)]
        none = np.empty(0, dtype=np.int64)
        return self._sum([(update, none) for update in updates], self._config).reals * self._most

    def of_counts(self, contributions: Sequence[tuple[Floats, NDArray[np.int64]]]) -> Decoded:
        """The sums of reals [2 SHAPES] and integers [buckets + 1]."""
        reals, integers = contributions[0]
        config = replace(
            self._config,
            reals=len(reals),
            integers=len(integers),
            scale=float(self._most),
            clip_norm=self._most * len(reals) ** 0.5,
        )
        return self._sum(contributions, config)

    def _sum(self, contributions: Sequence[tuple[Floats, NDArray[np.int64]]], config: SessionConfig) -> Decoded:
        self.rounds += 1
        self.upload_bytes += config.vector_bytes
        decoded: Decoded | None = None
        for cohort in self._cohorts:
            total = np.zeros(config.length, dtype=dtype_of(config))
            for device in cohort:
                total += encode(*contributions[device], config, derive(self._seed, self.rounds, device))
            part = decode(total, len(cohort), config)
            decoded = part if decoded is None else decoded + part
        assert decoded is not None
        return decoded


def _cohorts(devices: int) -> Iterator[range]:
    """Cohorts as equal as can be, none above the limit: no device is ever alone in one."""
    count = -(-devices // COHORT_LIMIT)
    for number in range(count):
        yield range(devices * number // count, devices * (number + 1) // count)
