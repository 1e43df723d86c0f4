"""What a workload is: labelled queries in three parts that never mix, with their features and topics.

The server's own part trains the strong model and the encoder. The devices' part is what users ask. The test part
measures and is never trained on, shifted or redrawn. Holds values only: loading and drawing stand in the neighbouring
files.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aggregator.workbench.workloads.handwriting import Handwriting
from fedge.errors import InputError
from fedge.features import FeatureSpec, Query


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One part. ``queries``: texts, or pixels ``float32 [n, d]``; ``labels``: int64 [n], indices into ``Workload.labels``;
    ``groups``: int64 [n], the natural key of each query (domain, user or style), -1 where there is none.
    """

    queries: list[str] | NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.queries) == len(self.labels) == len(self.groups):
            lengths = f"{len(self.queries)}, {len(self.labels)} and {len(self.groups)}"
            raise InputError(f"a split's queries, labels and groups differ in length: {lengths}")

    def __len__(self) -> int:
        return len(self.labels)

    def query(self, index: int) -> Query:
        """The query at ``index``."""
        return self.queries[index]

    def take(self, indices: NDArray[np.int64]) -> "Split":
        """The queries at ``indices``, in that order."""
        if isinstance(self.queries, list):
            return Split([self.queries[i] for i in indices.tolist()], self.labels[indices], self.groups[indices])
        return Split(self.queries[indices], self.labels[indices], self.groups[indices])


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """Everything that differs between workloads.

    ``labels``: sorted, the out-of-scope label (if any) last. ``topics``: topic of each in-scope label, for policies.
    ``test_device``: int64 [n], whose handwriting a test query carries, -1 where devices have none. ``data_sha256``: of
    the decompressed data file. ``note``: what is generated or redrawn, for the summary. ``oos_share``: share of
    out-of-scope queries in the natural mixture. ``handwriting``: the style that a device gives to its queries, or None.
    """

    name: str
    labels: tuple[str, ...]
    oos_label: str | None
    features: FeatureSpec
    topics: Mapping[str, str]
    server: Split
    devices: Split
    test: Split
    test_device: NDArray[np.int64]
    data_sha256: str
    note: str
    oos_share: float = 0.0
    queries_per_round: int = 20
    has_users: bool = False
    handwriting: Handwriting | None = None

    @property
    def oos_index(self) -> int | None:
        """The index of the out-of-scope label, None where the workload has none."""
        return None if self.oos_label is None else self.labels.index(self.oos_label)

    def in_scope(self, split: Split) -> NDArray[np.bool_]:
        """bool [n]: which of the split's queries have a label in scope."""
        oos = self.oos_index
        return np.ones(len(split), dtype=np.bool_) if oos is None else np.asarray(split.labels != oos)
