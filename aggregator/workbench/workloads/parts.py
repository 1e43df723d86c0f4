"""Dividing labelled rows into parts that keep each label's share. Never looks at the queries themselves."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def stratified_parts(
    labels: NDArray[np.int64], shares: Sequence[float], draw: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Indices (ascending) of each of ``len(shares)`` parts; ``shares`` sum to 1. Every row lands in exactly one part.

    Rows are shuffled within each label and the labels laid one after the other; each row then goes to the part that is
    furthest behind its share so far. So every part holds its share of each label within one row, and of the whole as
    well.
    """
    want = np.asarray(shares, dtype=np.float64)
    taken = np.zeros(len(want))
    part = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        for row in draw.permutation(np.flatnonzero(labels == label)):
            chosen = int(np.argmax(want * (taken.sum() + 1.0) - taken))
            taken[chosen] += 1.0
            part[row] = chosen
    return [np.flatnonzero(part == number).astype(np.int64) for number in range(len(want))]
