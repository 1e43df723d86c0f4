"""The certificate half of a round: probe counts of a cohort become a threshold and two statements about it.

The grid test uses the newest evidence that suffices: probes newer than the last published threshold if they pass (the
release's statement is then valid), else all probes (it is then called empirical: older probes shaped the training through
what was escalated).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedge.layouts import CountSums
from fedge.routing.certificate import GridTest, grid_test
from fedge.routing.probes import probe_rate
from fedge.routing.running import RunningBound
from fedge.routing.statement import CertificateStatement, statement
from fedge.routing.tolerance import effective_risk


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatePolicy:
    """What a certificate promises: disagreement of at most ``max_risk`` at ``confidence``; how long it is good for."""

    max_risk: float
    confidence: float
    lifetime_s: float
    grid: tuple[float, ...]


def certify(
    counts: CountSums, past: RunningBound, policy: CertificatePolicy, *, release_id: str, round_number: int, now: float
) -> tuple[CertificateStatement, RunningBound]:
    """The statement for ``release_id``, and the running counts with this round's pairs added to the ``past`` ones.

    The tolerance of the grid test follows from the past alone: the probes that are tested must not choose their own bar.
    """
    delta = 1.0 - policy.confidence
    running = past + RunningBound(counts.running_seen, counts.running_disagreed)
    tolerance = effective_risk(past, max_risk=policy.max_risk, delta=delta)
    fresh = _walk(counts.new_seen, counts.new_disagreed, tolerance, delta, policy.grid)
    pooled = _walk(counts.seen, counts.disagreed, tolerance, delta, policy.grid)
    # A valid statement is preferred only where it costs no local answers: it may pass at a stricter threshold alone.
    use_fresh = fresh.index is not None and (pooled.index is None or fresh.index <= pooled.index)
    chosen = fresh if use_fresh else pooled
    certificate = statement(
        release_id=release_id,
        round=round_number,
        grid=chosen,
        running=running,
        max_risk=policy.max_risk,
        tolerance=tolerance,
        confidence=policy.confidence,
        probes_are_new=use_fresh,
        probe_rate=probe_rate(running.seen, chosen.threshold is not None),
        issued_at=int(now),
        expires_at=int(now + policy.lifetime_s),
    )
    return certificate, running


def _walk(
    seen: NDArray[np.int64], disagreed: NDArray[np.int64], tolerance: float, delta: float, grid: tuple[float, ...]
) -> GridTest:
    return grid_test(seen, disagreed, max_risk=tolerance, delta=delta, grid=grid)
