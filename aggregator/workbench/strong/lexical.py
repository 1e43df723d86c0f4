"""What the words and letters of a text say: TF-IDF over hashed n-grams, projected at random to a few hundred dimensions.

Two halves, each a unit vector before projection: words with their pairs, and character n-grams within words. A random
projection keeps inner products up to about 1 / sqrt(dimensions) (Johnson and Lindenstrauss 1984), which is all that a
kernel asks of vectors, and makes dense rows that can stand beside sentence embeddings. Learns document frequencies and
nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from fedge.features import TextFeatures
from fedge.randomness import generator

_BUCKETS = 1 << 18  # so many that a few 10,000 n-grams hardly ever share one
_WORDS = TextFeatures(buckets=_BUCKETS, max_tokens=512, word_ngrams=2, char_ngrams=(0, 0))
_LETTERS = TextFeatures(buckets=_BUCKETS, max_tokens=512, word_ngrams=1, char_ngrams=(2, 4))
_PARTS = ("ids", "rarity", "projection")


@dataclass(frozen=True, slots=True, eq=False)
class _Half:
    features: TextFeatures
    ids: NDArray[np.int64]  # [m], ascending: the n-grams met in training
    rarity: NDArray[np.float32]  # [m]: their inverse document frequency
    projection: NDArray[np.float32]  # [m, D]

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Float32 [n, D]; n-grams that training never met are left out."""
        counts = _counts(self.features, texts, self.ids)
        counts.data = (1.0 + np.log(counts.data)) * self.rarity[counts.indices]
        lengths = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)))
        projected = counts @ self.projection
        return np.asarray(projected / np.maximum(lengths, 1e-6), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class LexicalVectors:
    """Texts to float32 [n, 2 D] rows of length about 1, shared equally by the two halves."""

    halves: tuple[_Half, _Half]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, whatever else is in the call."""
        both = np.concatenate([half.vectors(texts) for half in self.halves], axis=1)
        return np.asarray(both * np.float32(0.5**0.5), dtype=np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that was learned or drawn, by name."""
        named = zip(("words", "letters"), self.halves, strict=True)
        return {f"{name}.{part}": getattr(half, part) for name, half in named for part in _PARTS}

    @staticmethod
    def of_arrays(arrays: Mapping[str, NDArray[Any]]) -> "LexicalVectors":
        """The inverse of `arrays`; raises KeyError for a missing one."""

        def half(name: str, features: TextFeatures) -> _Half:
            return _Half(features, *(arrays[f"{name}.{part}"] for part in _PARTS))

        return LexicalVectors((half("words", _WORDS), half("letters", _LETTERS)))


def fit_lexical_vectors(texts: Sequence[str], *, dimensions: int, seed: bytes) -> LexicalVectors:
    """Count how many of ``texts`` hold each n-gram and draw the projections; ``dimensions`` is D, for each half."""

    def half(name: str, features: TextFeatures) -> _Half:
        every = np.unique(features.encode(texts)["ids"])
        ids = every[every > 0]
        holding = np.bincount(_counts(features, texts, ids).indices, minlength=len(ids))
        rarity = np.log((1.0 + len(texts)) / (1.0 + holding)) + 1.0
        drawn = generator(seed, "lexical projection", name).standard_normal((len(ids), dimensions), dtype=np.float32)
        return _Half(features, ids, rarity.astype(np.float32), drawn / np.float32(dimensions**0.5))

    return LexicalVectors((half("words", _WORDS), half("letters", _LETTERS)))


def _counts(features: TextFeatures, texts: Sequence[str], known: NDArray[np.int64]) -> csr_matrix:
    """How often each text [n] holds each known n-gram [m]."""
    ids = features.encode(texts)["ids"]
    column = np.searchsorted(known, ids)
    held = (ids > 0) & (known[np.minimum(column, len(known) - 1)] == ids)
    starts = np.concatenate([[0], np.cumsum(held.sum(axis=1))])
    counts = csr_matrix((np.ones(int(starts[-1]), dtype=np.float32), column[held], starts), shape=(len(texts), len(known)))
    counts.sum_duplicates()
    return counts
