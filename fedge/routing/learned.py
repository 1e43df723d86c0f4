"""A small learned router: from a prompt to what the strong model is expected to gain over the weak one.

Hashed words and word pairs (`fedge.features.text`), weighted by how rare they are, beside the text's shape, and one weight
for each. It predicts the gain strong - weak, not "the weak model is wrong": where both fail, a call buys nothing. Weights
and rarities are float16, 0.5 MB in all. Numpy only; never trains, never sees an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedge.features import TextFeatures
from fedge.features.text_shape import SHAPE_NAMES, text_shape

FEATURES = TextFeatures(buckets=131_072, max_tokens=4096, word_ngrams=2, char_ngrams=(0, 0))
SHAPES = len(SHAPE_NAMES)
DIMENSIONS = FEATURES.buckets + SHAPES + 1
"""Words and word pairs, shapes, and the constant."""
SHAPE_LENGTH = 0.1
"""What one standard deviation of a shape counts beside the words, whose vector has length 1."""
SHAPE_LIMIT = 4.0
"""Shapes are clipped to so many standard deviations."""
_CHUNK = 256

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rows:
    """A sparse matrix [n, DIMENSIONS], row after row: row i holds ``values[starts[i]:starts[i + 1]]`` at ``columns``."""

    starts: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: Floats

    def __len__(self) -> int:
        return len(self.starts) - 1

    def times(self, vector: Floats) -> Floats:
        """The product with ``vector`` [DIMENSIONS]: float64 [n]."""
        sums = np.concatenate([[0.0], np.cumsum(self.values * vector[self.columns])])
        return np.asarray(sums[self.starts[1:]] - sums[self.starts[:-1]], dtype=np.float64)

    def transposed_times(self, vector: Floats) -> Floats:
        """The product of the transposed matrix with ``vector`` [n]: float64 [DIMENSIONS]."""
        spread = self.values * np.repeat(vector, np.diff(self.starts))
        return np.bincount(self.columns, weights=spread, minlength=DIMENSIONS).astype(np.float64)

    def take(self, rows: NDArray[np.int64]) -> "Rows":
        """These rows, in this order."""
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        picked = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], lengths)
        return Rows(starts, self.columns[picked], self.values[picked])


@dataclass(frozen=True, slots=True)
class Counted:
    """Prompts before anything is known of other prompts: ``words`` holds counts in buckets, ``shapes`` [n, SHAPES]."""

    words: Rows
    shapes: Floats

    def take(self, rows: NDArray[np.int64]) -> "Counted":
        """These rows, in this order."""
        return Counted(self.words.take(rows), self.shapes[rows])

    def document_counts(self) -> NDArray[np.int64]:
        """In how many of the prompts each bucket occurs: int64 [FEATURES.buckets]."""
        return np.bincount(self.words.columns, minlength=FEATURES.buckets)[: FEATURES.buckets].astype(np.int64)


@dataclass(frozen=True, slots=True)
class Scaling:
    """What makes counts comparable. ``rarity`` float16 [buckets] (0: never used); ``mean`` and ``deviation`` [SHAPES]."""

    rarity: NDArray[np.float16]
    mean: Floats
    deviation: Floats

    @classmethod
    def of(
        cls, document_counts: NDArray[np.int64], shape_sums: Floats, shape_squares: Floats, prompts: int, *, least: int
    ) -> "Scaling":
        """From sums over all prompts; buckets that fewer than ``least`` prompts hold are left out."""
        rarity = np.log((1 + prompts) / (1 + document_counts)) + 1.0
        mean = shape_sums / prompts
        deviation = np.sqrt(np.maximum(shape_squares / prompts - mean * mean, 1e-12))
        return cls(np.where(document_counts >= least, rarity, 0.0).astype(np.float16), mean, deviation)

    def apply(self, counted: Counted) -> Rows:
        """Rows [n, DIMENSIONS]: words of length 1, then shapes, then the constant 1."""
        words = counted.words
        weighted = (1.0 + np.log(words.values)) * self.rarity.astype(np.float64)[words.columns]
        owner = np.repeat(np.arange(len(words)), np.diff(words.starts))
        length = np.sqrt(np.bincount(owner, weights=weighted * weighted, minlength=len(words)))
        weighted /= np.where(length > 0, length, 1.0)[owner]
        shapes = np.clip((counted.shapes - self.mean) / self.deviation, -SHAPE_LIMIT, SHAPE_LIMIT) * SHAPE_LENGTH
        dense = np.concatenate([shapes, np.ones((len(words), 1))], axis=1)
        starts = words.starts + np.arange(len(words) + 1) * (SHAPES + 1)
        total = int(starts[-1])
        place = np.arange(len(words.columns)) + owner * (SHAPES + 1)
        tail = (starts[1:] - SHAPES - 1)[:, None] + np.arange(SHAPES + 1)
        columns, values = np.empty(total, dtype=np.int64), np.empty(total)
        columns[place], values[place] = words.columns, weighted
        columns[tail] = FEATURES.buckets + np.arange(SHAPES + 1)
        values[tail] = dense
        return Rows(starts, columns, values)


@dataclass(frozen=True, slots=True)
class LearnedRouter:
    """``weights`` float16 [DIMENSIONS] on the rows that ``scaling`` makes."""

    scaling: Scaling
    weights: NDArray[np.float16]

    def gains(self, prompts: Sequence[str]) -> Floats:
        """The expected gain of asking the strong model: float64 [n], in the scores' own unit."""
        return self.gains_of(count(prompts))

    def gains_of(self, counted: Counted) -> Floats:
        """As `gains`, of prompts that were counted before."""
        return self.scaling.apply(counted).times(self.weights.astype(np.float64))

    @property
    def size_bytes(self) -> int:
        """All that a device stores of it."""
        scaling = self.scaling
        return self.weights.nbytes + scaling.rarity.nbytes + scaling.mean.nbytes + scaling.deviation.nbytes


def count(prompts: Sequence[str]) -> Counted:
    """Counts of hashed words and word pairs, and the shapes, of each prompt. Raises InputError for a broken text."""
    columns, counts, lengths = [], [], []
    for first in range(0, len(prompts), _CHUNK):
        for row in FEATURES.encode(list(prompts[first : first + _CHUNK]))["ids"]:
            ids, times = np.unique(row[row > 0], return_counts=True)
            columns.append(ids - 1)
            counts.append(times.astype(np.float64))
            lengths.append(len(ids))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    words = Rows(
        starts,
        np.concatenate(columns) if columns else np.empty(0, dtype=np.int64),
        np.concatenate(counts) if counts else np.empty(0),
    )
    return Counted(words, text_shape(prompts))
