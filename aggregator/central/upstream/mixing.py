"""From upstream's label and the strong model's distribution to one distribution whose most probable label is upstream's.

d = (1 - w) s + w e, with s the strong model's distribution and e all on upstream's label. The weight w is the probability
that upstream gave to its whole reply where it said so, else UNTOLD, and never below the least weight with which the label
leads every other one by LEAD. So d is a distribution, upstream's label leads, and the other labels keep their proportions.
"""

import numpy as np
from numpy.typing import NDArray

UNTOLD = 0.6
LEAD = 0.01


def mixed(strong: NDArray[np.float32], label: int, probability: float | None) -> NDArray[np.float32]:
    """The distribution float32 [C]. ``strong``: float32 [C], sums to 1 up to rounding. ``label``: upstream's, an index."""
    given = np.asarray(strong, dtype=np.float64)
    given = given / given.sum()
    ahead = float(np.delete(given, label).max(initial=0.0)) - float(given[label])
    # (1 - w) * ahead <= w - LEAD, solved for w; where the label leads already nothing is needed.
    least = (ahead + LEAD) / (1 + ahead) if ahead + LEAD > 0 else 0.0
    weight = min(1.0, max(UNTOLD if probability is None else probability, least))
    result = (1 - weight) * given
    result[label] += weight
    rounded: NDArray[np.float32] = result.astype(np.float32)
    return rounded
