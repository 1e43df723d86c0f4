"""Scoring the stored probes under a candidate release: the 2G integers that a device says about them, and the new ones.

The candidate never saw a probe in training; what its head would have answered is compared with what central did answer.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_client.releases.loading import LoadedRelease
from edge_client.store import DeviceStore
from fedge.routing import Policy, confidence, histogram, local_candidate, softmax


@dataclass(frozen=True, slots=True)
class ProbeCounts:
    """Probes per confidence bin of the release's grid, int64 [G] each: all of them, and the new ones only."""

    seen: NDArray[np.int64]
    disagreed: NDArray[np.int64]
    new_seen: NDArray[np.int64]
    new_disagreed: NDArray[np.int64]


def probe_counts(
    candidate: LoadedRelease, store: DeviceStore, *, policy: Policy, publication: int, central_price_usd: float
) -> ProbeCounts:
    """Counts under ``candidate``. New are the probes that came in after threshold publication number ``publication``.

    A device that missed that publication labels its probes with an older number: they are not counted as new, even those
    that are, since only the device's clock could tell.
    """
    manifest = candidate.release.manifest
    probes = store.probes.all()
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
                central_price_usd=central_price_usd,
                oos_label=manifest.oos_label,
            )
            for label, value in zip(predicted, sure, strict=True)
        ],
        dtype=bool,
    )
    new = np.array([probe.publication >= publication for probe in probes], dtype=bool)
    grid = manifest.threshold_grid
    seen, wrong = histogram(sure, disagreed, eligible=eligible, grid=grid)
    new_seen, new_wrong = histogram(sure, disagreed, eligible=eligible & new, grid=grid)
    return ProbeCounts(seen, wrong, new_seen, new_wrong)
