"""What a confidence is worth on the test third: how much it would let the device answer, and at which quality.

The device's and central's answers to the same queries are given; the more confident a query, the sooner the device keeps
it. Shares at a quality are read off the test third's own curve: they say what a threshold could reach, not what the
certified one does. That one's answers stand under ``threshold``, with both directions of error apart.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedge.errors import InputError
from fedge.randomness import generator
from fedge.routing.evaluation import aurc, auroc, bootstrap, curve, risk_at

COVERAGES = tuple(round(0.05 * step, 2) for step in range(1, 21))
DRAWS = 200
"""Bootstrap draws behind an interval of a run's summary."""

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]

LOCAL_SHARES = {"local_at_equal": 0.0, "local_at_minus_half_point": 0.005, "local_at_minus_one_point": 0.01}
"""Names of the shares answered locally, and how far below central's accuracy they may lie."""


def selective_figures(
    sure: Floats, device: Labels, central: Labels, truth: Labels, in_scope: Mask, *, seed: bytes, draws: int = DRAWS
) -> dict[str, Any]:
    """Figures of the confidence ``sure`` [n]: ``all`` queries, those ``in_scope``, and ``out_of_scope`` (None without any).

    Each figure is ``{"value", "interval_95"}``, a percentile bootstrap over queries; null where it is not defined (CPT and
    APGR where central is no better than the device).
    """
    right, strong = (device == truth).astype(np.float64), (central == truth).astype(np.float64)
    rows = np.flatnonzero(in_scope)
    figures: dict[str, Any] = {"all": _curve_figures(sure, right, strong, seed=seed, draws=draws)}
    if len(rows) == len(truth):
        return {**figures, "in_scope": figures["all"], "out_of_scope": None}
    figures["in_scope"] = _curve_figures(sure[rows], right[rows], strong[rows], seed=seed, draws=draws)

    def detection(drawn: Labels) -> list[float]:
        level = _level(sure[drawn], right[drawn], strong[drawn], in_scope[drawn])
        outside = sure[drawn][~in_scope[drawn]]
        return [auroc(sure[drawn], in_scope[drawn]), float((outside >= level).mean())]

    names = ("auroc", "local_at_minus_one_point_in_scope")
    found = _with_intervals(names, detection, len(truth), seed=seed, draws=draws)
    return {**figures, "out_of_scope": {"queries": int((~in_scope).sum()), **found}}


def threshold_counts(device: Labels, central: Labels, truth: Labels, local: Mask, in_scope: Mask) -> dict[str, int]:
    """What a threshold really did, in test queries. ``local`` bool [n]: the device answered.

    ``kept_wrongly``: answered locally and wrong where central is right; ``escalated_needlessly``: sent to central though the
    device is right.
    """
    right = device == truth
    return {
        "queries": len(truth),
        "local": int(local.sum()),
        "in_scope": int(in_scope.sum()),
        "in_scope_local": int((local & in_scope).sum()),
        "out_of_scope": int((~in_scope).sum()),
        "out_of_scope_local": int((local & ~in_scope).sum()),
        "kept_wrongly": int((local & ~right & (central == truth)).sum()),
        "escalated_needlessly": int((~local & right).sum()),
    }


def _curve_figures(sure: Floats, right: Floats, strong: Floats, *, seed: bytes, draws: int) -> dict[str, Any]:
    def shares(drawn: Labels) -> list[float]:
        line = curve(-sure[drawn], right[drawn], strong[drawn])
        return [*(line.local_share(points) for points in LOCAL_SHARES.values()), aurc(sure[drawn], 1.0 - right[drawn])]

    def recovered(drawn: Labels) -> list[float]:
        line = curve(-sure[drawn], right[drawn], strong[drawn])
        return [line.cpt(0.5), line.cpt(0.8), line.apgr()]

    return {
        "accuracy": {"device": float(right.mean()), "central": float(strong.mean())},
        **_with_intervals((*LOCAL_SHARES, "aurc"), shares, len(right), seed=seed, draws=draws),
        **_with_intervals(("cpt_50", "cpt_80", "apgr"), recovered, len(right), seed=seed, draws=draws),
        "risk_coverage": [
            {"coverage": coverage, "risk": risk}
            for coverage, risk in zip(COVERAGES, risk_at(sure, 1.0 - right, COVERAGES), strict=True)
        ],
    }


def _with_intervals(
    names: tuple[str, ...], values: Callable[[Labels], list[float]], n: int, *, seed: bytes, draws: int
) -> dict[str, Any]:
    try:
        found = values(np.arange(n))
        intervals = bootstrap(values, n, generator(seed, "bootstrap"), draws=draws)
    except InputError:  # no gap between device and central: there is nothing to recover
        return dict.fromkeys(names)
    return {
        name: {"value": value, "interval_95": list(interval)}
        for name, value, interval in zip(names, found, intervals, strict=True)
    }


def _level(sure: Floats, right: Floats, strong: Floats, in_scope: Mask) -> float:
    """The least confidence of the in-scope queries that the device answers within one point of central's accuracy."""
    known = np.sort(sure[in_scope])[::-1]
    kept = round(curve(-sure[in_scope], right[in_scope], strong[in_scope]).local_share(0.01) * len(known))
    return float(known[kept - 1]) if kept else np.inf
