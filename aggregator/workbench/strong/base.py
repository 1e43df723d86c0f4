"""What a strong model is, and one that remembers its answers. Knows nothing of how models are made."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedge.features import Query, content_hash


class StrongModel(Protocol):
    """Probabilities float32 [n, C] in the order of the workload's labels, the out-of-scope label included."""

    @property
    def name(self) -> str:
        """What it is made of, for the summary."""

    def predict(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """One row a query; a query's row does not depend on the others in the call."""


class TrainedModel(StrongModel, Protocol):
    """A strong model that can be written down."""

    def stored(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What it is made of, for a folder of prepared models: plain values, and arrays by name."""


class MemoizedModel:
    """A strong model that answers each distinct query once, so that a simulator can have a day's queries answered together.

    Equal queries (by content hash) get the answer that the first of them got. Grows with the number of distinct queries.
    """

    def __init__(self, model: StrongModel) -> None:
        self._model = model
        self._rows: dict[bytes, NDArray[np.float32]] = {}

    @property
    def name(self) -> str:
        """The model's own name."""
        return self._model.name

    def precompute(self, queries: Sequence[Query]) -> None:
        """Answer those that were not answered before, in one call."""
        self._answer(queries)

    def predict(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Probabilities float32 [n, C]."""
        if len(queries) == 0:
            return self._model.predict(queries)
        return np.stack([self._rows[key] for key in self._answer(queries)])

    def _answer(self, queries: Sequence[Query]) -> list[bytes]:
        keys = [content_hash(query) for query in queries]
        fresh = {key: query for key, query in zip(keys, queries, strict=True) if key not in self._rows}
        if fresh:
            rows = self._model.predict(list(fresh.values()))
            self._rows.update(zip(fresh, rows, strict=True))
        return keys
