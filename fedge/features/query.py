"""The two kinds of query: a text, or a picture as one vector of pixels in [0, 1]. Checks them, never converts one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedge.errors import InputError

Query = str | NDArray[np.float32]
"""A text, or pixels ``float32 [d]`` in [0, 1]."""

Queries = Sequence[Query] | Sequence[str] | NDArray[np.float32]
"""Several queries of one kind: a list of texts, a list of pixel vectors, or pixels ``float32 [n, d]``."""


def checked_pixels(pixels: NDArray[np.float32], *, size: int | None = None) -> NDArray[np.float32]:
    """``pixels`` as float32, after a look at its length (last axis, ``size`` where given) and its range.

    Raises InputError for another length, for values outside [0, 1] and for those that are no numbers.
    """
    array = np.asarray(pixels, dtype=np.float32)
    if array.ndim == 0 or (size is not None and array.shape[-1] != size):
        raise InputError(f"pixels of shape {array.shape} do not fit: a query is a vector of {size or 'some'} pixels")
    # One comparison for both ends: NaN fails it too.
    if not bool(np.all((array >= 0.0) & (array <= 1.0))):
        raise InputError("a query's pixels must be finite numbers from 0 to 1: divide by the largest value before asking")
    return array
