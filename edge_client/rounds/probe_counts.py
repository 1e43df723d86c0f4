"""Scoring probes under a candidate release: what a device says about them, by confidence.

The candidate never saw a probe in training; what its head would have answered is compared with what central did answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_client.releases.loading import LoadedRelease
from edge_client.store import Probe, ProbeSelection
from fedge.routing import Policy, coarse_grid, confidence, histogram, local_candidate, softmax


@dataclass(frozen=True, slots=True)
class ProbeCounts:
    """Probes per confidence bin, int64: all of a selection over the coarse grid, its fresh ones over the release's grid."""

    seen: NDArray[np.int64]
    disagreed: NDArray[np.int64]
    new_seen: NDArray[np.int64]
    new_disagreed: NDArray[np.int64]


def count_probes(
    candidate: LoadedRelease, selection: ProbeSelection, *, policy: Policy, central_price_usd: float
) -> ProbeCounts:
    """Count a selection of probes under ``candidate``; the ones that are fresh are the new ones."""
    grid = candidate.release.manifest.threshold_grid
    sure, disagreed, eligible = _score(candidate, (*selection.fresh, *selection.old), policy, central_price_usd)
    fresh = slice(0, len(selection.fresh))
    pooled = histogram(sure, disagreed, eligible=eligible, grid=coarse_grid(grid))
    return ProbeCounts(*pooled, *histogram(sure[fresh], disagreed[fresh], eligible=eligible[fresh], grid=grid))


def _score(
    candidate: LoadedRelease, probes: Sequence[Probe], policy: Policy, price_usd: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return each probe's confidence, whether it disagreed with central, and whether a threshold may keep it local, [n]."""
    manifest = candidate.release.manifest
    logits = candidate.session.predict([probe.query for probe in probes]).logits
    predicted = [manifest.labels[index] for index in logits.argmax(axis=1)]
    sure = confidence(softmax(logits, manifest.temperature), manifest.confidence)
    disagreed = np.array([label != probe.central_label for label, probe in zip(predicted, probes, strict=True)], dtype=bool)
    eligible = np.array(
        [
            local_candidate(
                label=label,
                confidence=float(value),
                policy=policy,
                central_price_usd=price_usd,
                oos_label=manifest.oos_label,
            )
            for label, value in zip(predicted, sure, strict=True)
        ],
        dtype=bool,
    )
    return sure, disagreed, eligible
