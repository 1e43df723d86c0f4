"""The certificate half of a round: probe counts of a cohort become a threshold and two statements about it.

The threshold is the one that all probes give, on a coarse grid. The release's statement about it is valid where the new
probes, which no sum has carried before, pass there as well, by themselves; else it is called empirical: older probes shaped
the training through what was escalated.
"""

from dataclasses import dataclass, replace

from fedge.layouts import CountSums
from fedge.routing.certificate import GridTest, grid_test, grid_test_at
from fedge.routing.grid import COARSE_STEP, coarse_grid
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
    running = past + RunningBound(past.weight * counts.running_seen, past.weight * counts.running_disagreed)
    tolerance = effective_risk(past, max_risk=policy.max_risk, delta=delta)
    chosen, use_fresh = _choose(counts, tolerance, delta, policy.grid)
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


def _choose(counts: CountSums, tolerance: float, delta: float, grid: tuple[float, ...]) -> tuple[GridTest, bool]:
    """The outcome to publish, and whether it rests on new probes alone."""
    new = counts.new_seen, counts.new_disagreed
    fresh = grid_test(*new, max_risk=tolerance, delta=delta, grid=grid)
    coarse = grid_test(counts.seen, counts.disagreed, max_risk=tolerance, delta=delta, grid=coarse_grid(grid))
    pooled = coarse if coarse.index is None else replace(coarse, index=coarse.index * COARSE_STEP)
    if fresh.index is None:
        return pooled, False
    if pooled.index is None:  # the older probes speak against a model or a stream that is no more
        return fresh, True
    # Where few new probes would go lower than all of them together they are mostly lucky. They passed the stricter threshold
    # too, so the statement there is valid. A valid one that needs a threshold stricter than all probes do is not preferred.
    both = grid_test_at(fresh, pooled.index, *new, delta=delta, grid=grid)
    return (pooled, False) if both is None else (both, True)
