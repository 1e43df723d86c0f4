"""How a threshold tightens by itself: the risk that the next grid test may tolerate, from the running statement's counts.

A release is tested against less than ``max_risk`` so that the running bound, which pays for holding at all times, can end
below ``max_risk``. The rule is a budget: of the next HORIZON local probes, how many may disagree and still bring the bound
to AIM * ``max_risk``? A good past leaves room up to ``max_risk`` itself; a bad one shrinks the tolerance and, with it, what
stays local. Any tolerance at or below ``max_risk`` keeps the grid test's own statement valid.

Measured on 200 simulated runs of 20 rounds, 160 probes a round (max_risk 0.05, confidence 0.95, grid test on all probes so
far; risk 1 % at 40 % local, 3 % at 60 %, 6 % at 75 %, so at best 69 % stay local at 5 %). "drift": what stays local is 1.6
times as often wrong as the probes that chose the threshold. Runs that end with the running bound at or below max_risk, and
the local share of the last round:

    rule                        steady        improving     weak model    drift
    always max_risk             48 %  0.66    50 %  0.67    49 %  0.39     0 %  0.66
    always 0.8 max_risk         94 %  0.61    90 %  0.61    78 %  0.36    15 %  0.61
    budget, aim 1.0, 1000       90 %  0.65    90 %  0.65    81 %  0.37    16 %  0.59
    budget, aim 0.95, 1000      98 %  0.64    96 %  0.64    92 %  0.36    42 %  0.58
    budget, aim 0.9, 1000      100 %  0.63    98 %  0.62    94 %  0.35    66 %  0.56   (this one)
    budget, aim 0.9, 3000      100 %  0.62    98 %  0.61    92 %  0.35    30 %  0.58
"""

import math

from fedge.errors import InputError
from fedge.routing.running import RunningBound

HORIZON = 1_000
"""Local probes over which the budget is spread."""

AIM = 0.9
"""What the budget aims the bound at, as a share of ``max_risk``: room for luck and for drift."""

FLOOR = 0.25
"""Smallest tolerance as a share of ``max_risk``: below it no grid test has the probes to pass and nothing could recover."""


def effective_risk(running: RunningBound, *, max_risk: float, delta: float) -> float:
    """Tolerance for the next grid test, in FLOOR * max_risk .. max_risk; a function of the past counts alone."""
    if not 0 < max_risk < 1:
        raise InputError(f"max_risk {max_risk!r} must lie strictly between 0 and 1")
    if not 0 < delta < 1:
        raise InputError(f"delta {delta!r} must lie strictly between 0 and 1")
    evidence = -math.log(delta)
    low, high = -1, int(HORIZON * max_risk) + 1  # with `low` more disagreements (if any) the aim is met, with `high` not
    weight = running.weight
    while high - low > 1:
        middle = (low + high) // 2
        met = (running + RunningBound(weight * HORIZON, weight * middle)).log_capital(AIM * max_risk) >= evidence
        low, high = (middle, high) if met else (low, middle)
    return min(max_risk, max(FLOOR * max_risk, low / HORIZON))
