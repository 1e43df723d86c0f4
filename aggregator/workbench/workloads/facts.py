"""What a running server has to know of its workload: names and sizes, and not one query."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aggregator.workbench.workloads.base import Workload
from fedge.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadFacts:
    """See `Workload` for the fields of the same names. ``pixels``: of a query that is a picture; 0 where they are texts."""

    name: str
    labels: tuple[str, ...]
    oos_label: str | None
    topics: Mapping[str, str]
    data_sha256: str
    note: str
    queries_per_round: int
    pixels: int

    @staticmethod
    def of(workload: Workload) -> "WorkloadFacts":
        """The facts of a workload that is at hand."""
        queries = workload.test.queries
        return WorkloadFacts(
            name=workload.name,
            labels=workload.labels,
            oos_label=workload.oos_label,
            topics=workload.topics,
            data_sha256=workload.data_sha256,
            note=workload.note,
            queries_per_round=workload.queries_per_round,
            pixels=0 if isinstance(queries, list) else int(queries.shape[1]),
        )

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, JSON-ready."""
        return {**asdict(self), "labels": list(self.labels)}

    @staticmethod
    def from_mapping(mapping: Mapping[str, Any]) -> "WorkloadFacts":
        """The inverse of `to_mapping`. Raises InputError."""
        try:
            return WorkloadFacts(**{**mapping, "labels": tuple(mapping["labels"])})
        except (TypeError, KeyError) as error:
            raise InputError(f"the facts of a workload cannot be read: {error}") from None
