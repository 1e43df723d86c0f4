"""How a threshold tightens by itself: the risk that the next grid test may tolerate, from the running statement's counts.

A release is tested against less than ``max_risk`` so that the running bound, which pays for holding at all times, can end
below ``max_risk``. The rule is a budget: of the next ``HORIZON`` local probes, how many may disagree and still leave the
bound at or below ``max_risk``? A good past leaves room up to ``max_risk`` itself; a bad one shrinks the tolerance and, with
it, what stays local. Any tolerance at or below ``max_risk`` keeps the grid test's own statement valid.
"""

from fedge.errors import InputError
from fedge.routing.running import RunningBound

HORIZON = 1_500
"""Local probes over which the budget is spread."""

FLOOR = 0.25
"""Smallest tolerance as a share of ``max_risk``: below it no grid test has the probes to pass and the bound could not
recover.
"""


def effective_risk(running: RunningBound, *, max_risk: float, delta: float, horizon: int = HORIZON) -> float:
    """Tolerance for the next grid test, between FLOOR * max_risk and ``max_risk``; a function of the past counts alone."""
    if not 0 < max_risk < 1:
        raise InputError(f"max_risk {max_risk!r} must lie strictly between 0 and 1")
    if horizon < 1:
        raise InputError(f"horizon is a number of probes, not {horizon}")
    low, high = -1, int(horizon * max_risk) + 1  # the bound holds with `low` more disagreements (if any), fails with `high`
    while high - low > 1:
        middle = (low + high) // 2
        after = running + RunningBound(horizon, middle)
        low, high = (middle, high) if after.upper(delta) <= max_risk else (low, middle)
    return min(max_risk, max(FLOOR * max_risk, low / horizon))
