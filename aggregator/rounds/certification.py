"""The certificate half of a round: probe counts of a cohort become a threshold and two statements about it.

The threshold is the one that all probes give, on a coarse grid. The release's statement about it is valid where the new
probes, which no sum has carried before, pass there as well, by themselves; else it is called empirical: older probes shaped
the training through what was escalated.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedge.layouts import CountSums
from fedge.routing.certificate import GridTest, grid_test, grid_test_at
from fedge.routing.deduction import NO_DEDUCTION, Deduction, conservative_pair
from fedge.routing.grid import coarse_grid, coarse_indices, from_above
from fedge.routing.probes import probe_rate
from fedge.routing.running import RunningBound
from fedge.routing.statement import Cautions, CertificateStatement, statement
from fedge.routing.tolerance import effective_risk


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatePolicy:
    """What a certificate promises: disagreement of at most ``max_risk`` at ``confidence``; how long it is good for."""

    max_risk: float
    confidence: float
    lifetime_s: float
    grid: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Precautions:
    """What is deducted before anything is tested, for ``liars`` lying devices a cohort and period
    (`fedge.routing.deduction`).

    ``pair``: agreements off the running pair; ``new`` and ``pooled``: off the two histograms. ``cross_checked``: whether
    all counts were held against central's totals.
    """

    liars: int = 0
    probe_cap: int = 0
    pair: int = 0
    new: Deduction = NO_DEDUCTION
    pooled: Deduction = NO_DEDUCTION
    stored: int = 0
    """About how many probes stand in the pooled histogram, from exact counts of earlier rounds; 0 where it carries no
    noise.
    """
    cross_checked: bool = False


NO_PRECAUTIONS = Precautions()


def add_pair(past: RunningBound, seen: int, disagreed: int, *, deducted: int) -> RunningBound:
    """Return the running counts with one round's pair, ``deducted`` agreements less, each probe at its weight."""
    seen, disagreed = conservative_pair(seen - disagreed, disagreed, probes=deducted)
    return past + RunningBound(past.weight * seen, past.weight * disagreed)


def certify(
    counts: CountSums,
    past: RunningBound,
    policy: CertificatePolicy,
    *,
    release_id: str,
    round_number: int,
    now: float,
    precautions: Precautions = NO_PRECAUTIONS,
) -> tuple[CertificateStatement, RunningBound]:
    """The statement for ``release_id``, and the running counts with this round's pairs added to the ``past`` ones.

    The tolerance of the grid test follows from the past alone: the probes that are tested must not choose their own bar.
    """
    delta = 1.0 - policy.confidence
    running = add_pair(past, counts.running_seen, counts.running_disagreed, deducted=precautions.pair)
    tolerance = effective_risk(past, max_risk=policy.max_risk, delta=delta)
    chosen, use_fresh = _choose(counts, tolerance, delta, policy.grid, precautions)
    used = precautions.new if use_fresh else precautions.pooled
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
        cautions=Cautions(
            liars=precautions.liars,
            probe_cap=precautions.probe_cap,
            deducted=used.probes,
            cross_checked=precautions.cross_checked,
        ),
    )
    return certificate, running


def _choose(
    counts: CountSums, tolerance: float, delta: float, grid: tuple[float, ...], precautions: Precautions
) -> tuple[GridTest, bool]:
    """The outcome to publish, and whether it rests on new probes alone."""
    new = counts.new_seen, counts.new_disagreed
    fresh = grid_test(*new, max_risk=tolerance, delta=delta, grid=grid, deduction=precautions.new)
    coarse = grid_test(
        counts.seen,
        counts.disagreed,
        max_risk=tolerance,
        delta=delta,
        grid=coarse_grid(grid),
        deduction=precautions.pooled,
        order=_order(counts, precautions.stored) if precautions.stored else None,
    )
    pooled = coarse if coarse.index is None else replace(coarse, index=coarse_indices(len(grid))[coarse.index])
    if fresh.index is None:
        return pooled, False
    if pooled.index is None:  # the older probes speak against a model or a stream that is no more
        return fresh, True
    # Where few new probes would go lower than all of them together they are mostly lucky. They passed the stricter threshold
    # too, so the statement there is valid. A valid one that needs a threshold stricter than all probes do is not preferred.
    both = grid_test_at(fresh, pooled.index, *new, delta=delta, grid=grid, deduction=precautions.new)
    return (pooled, False) if both is None else (both, True)


def _order(counts: CountSums, stored: int) -> NDArray[np.int64]:
    """Return about how many stored probes each threshold of the coarse grid keeps local, from the new ones, which are
    exact.
    """
    above = from_above(counts.new_seen)
    coarse = above[list(coarse_indices(above.size))]
    order: NDArray[np.int64] = (coarse * max(stored, above[0]) // max(1, above[0])).astype(np.int64)
    return order
