"""`fedge route eval`: divides recorded answers by seed, trains on one half, measures on the other.

Nothing of the measuring half is used before it is scored: hyperparameters of the router and of the baseline come from
cross-validation on the training half.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedge.errors import InputError
from fedge.randomness import derive, generator, root_seed
from fedge.routing.evaluation import Curve, aurc, bootstrap, curve, risk_at
from fedge.routing.learned import Counted, Floats, count
from sim.routing import baselines
from sim.routing.recorded import Recorded, devices, folds, halves, load
from sim.routing.training import GRID, Settings, Stage, train_federated, train_pooled

FOLDS = 5
COVERAGES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def evaluate(path: Path, *, seeds: list[int], draws: int, stage: Stage) -> dict[str, Any]:
    """The document that `fedge route eval --json` prints. Raises InputError for a file that cannot be used."""
    recorded = load(path)
    stage("hashing prompts", 0, 1)
    counted = count(recorded.prompts)
    runs = [_one_seed(recorded, counted, seed, draws=draws, stage=stage, name=str(path)) for seed in seeds]
    return {
        "data": str(path),
        "data_sha256": recorded.sha256,
        "prompts": len(recorded.prompts),
        "contaminated_left_out": recorded.contaminated,
        "columns_not_used": list(recorded.unused),
        "unit": "accuracy" if recorded.binary else "score",
        "runs": runs,
        "apgr_mean": {
            router: float(np.mean([run["routers"][router]["apgr"]["value"] for run in runs]))
            for router in runs[0]["routers"]
        },
    }


def choose(recorded: Recorded, counted: Counted, rows: NDArray[np.int64], seed: bytes, *, stage: Stage) -> Settings:
    """The settings with the best cross-validated APGR on ``rows``."""
    gains = _unit_gains(recorded)
    parts = folds(recorded, rows, FOLDS, seed)
    best, chosen = -np.inf, GRID[0]
    for number, settings in enumerate(GRID):
        stage("choosing settings on the training half", number, len(GRID))
        scores = np.empty(len(gains))
        for part in parts:
            others = np.setdiff1d(rows, part)
            router = train_pooled(counted.take(others), gains[others], settings)
            scores[part] = router.gains_of(counted.take(part))
        value = _apgr(recorded, scores, rows)
        if value > best:
            best, chosen = value, settings
    return chosen


def _one_seed(recorded: Recorded, counted: Counted, seed: int, *, draws: int, stage: Stage, name: str) -> dict[str, Any]:
    root = root_seed(seed)
    train, held_out = halves(recorded, root)
    for rows, half in ((train, "training"), (held_out, "held-out")):
        if recorded.strong[rows].mean() <= recorded.weak[rows].mean():
            raise InputError(f"{name}: in the {half} half of seed {seed} strong is not better than weak: give more rows")
    settings = choose(recorded, counted, train, root, stage=stage)
    parts, divided_by = devices(recorded, train, root)
    gains = _unit_gains(recorded)
    trained = train_federated(counted, gains, parts, settings, seed=derive(root, "rounding"), stage=stage)
    texts = [recorded.prompts[row] for row in held_out.tolist()]
    train_texts = [recorded.prompts[row] for row in train.tolist()]
    inner = [np.searchsorted(train, part) for part in folds(recorded, train, FOLDS, root)]

    def judged(scores: Floats) -> float:
        return curve(scores, recorded.weak[train], recorded.strong[train]).apgr()

    scores: dict[str, Floats] = {"fedge": trained.router.gains_of(counted.take(held_out))}
    penalties = {}
    for number, (kind, vectorizer) in enumerate(baselines.VECTORIZERS.items()):
        stage("fitting the baselines", number, len(baselines.VECTORIZERS))
        scores[kind], penalties[kind] = baselines.tfidf_ridge(
            vectorizer, train_texts, gains[train], texts, folds=inner, judge=judged
        )
    scores["prompt_length"] = baselines.prompt_length(texts)
    scores["random"] = np.zeros(len(held_out))  # one tie: the expectation over all orders
    scores["oracle"] = (recorded.strong - recorded.weak)[held_out]
    entries = {}
    for number, (router, values) in enumerate(scores.items()):
        stage("bootstrap", number, len(scores))
        entries[router] = _measured(recorded, values, held_out, derive(root, "bootstrap"), draws=draws)
    entries["fedge"]["apgr_above"] = {
        other: _difference(recorded, scores["fedge"], scores[other], held_out, derive(root, "bootstrap"), draws=draws)
        for other in (*baselines.VECTORIZERS, "prompt_length")
    }
    return {
        "seed": seed,
        "training_prompts": len(train),
        "held_out_prompts": len(held_out),
        "weak": float(recorded.weak[held_out].mean()),
        "strong": float(recorded.strong[held_out].mean()),
        "settings": {"penalty": settings.penalty, "least_documents": settings.least_documents},
        "baseline_penalties": penalties,
        "training": {
            "devices": trained.devices,
            "divided_by": divided_by,
            "rounds": trained.rounds,
            "upload_bytes_per_device": trained.upload_bytes_per_device,
            "router_bytes": trained.router.size_bytes,
        },
        "routers": entries,
    }


def _measured(recorded: Recorded, scores: Floats, rows: NDArray[np.int64], seed: bytes, *, draws: int) -> dict[str, Any]:
    weak, strong = recorded.weak[rows], recorded.strong[rows]
    point = 0.01 * (1.0 if recorded.binary else float(max(weak.max(), strong.max()) - min(weak.min(), strong.min())))
    measures: dict[str, Callable[[Curve], float]] = {
        "apgr": Curve.apgr,
        "cpt_50": lambda c: c.cpt(0.5),
        "cpt_80": lambda c: c.cpt(0.8),
        "local_at_equal": lambda c: c.local_share(),
        "local_at_minus_half_point": lambda c: c.local_share(0.5 * point),
        "local_at_minus_one_point": lambda c: c.local_share(point),
    }

    def values(drawn: NDArray[np.int64]) -> list[float]:
        line = curve(scores[drawn], weak[drawn], strong[drawn])
        found = [measure(line) for measure in measures.values()]
        return [*found, aurc(-scores[drawn], 1.0 - weak[drawn])] if recorded.binary else found

    names = [*measures, "aurc"] if recorded.binary else list(measures)
    intervals = bootstrap(values, len(rows), generator(seed, "rows"), draws=draws)
    entry: dict[str, Any] = {
        name: {"value": value, "interval_95": list(interval)}
        for name, value, interval in zip(names, values(np.arange(len(rows))), intervals, strict=True)
    }
    if recorded.binary:
        risks = risk_at(-scores, 1.0 - weak, COVERAGES)
        entry["risk_coverage"] = [{"coverage": c, "risk": r} for c, r in zip(COVERAGES, risks, strict=True)]
    if recorded.weak_cost is not None and recorded.strong_cost is not None:
        local = 1.0 - curve(scores, weak, strong).cpt(0.8)
        order = np.argsort(scores, kind="stable")[: round(local * len(rows))]
        cost = recorded.strong_cost[rows].copy()
        cost[order] = recorded.weak_cost[rows][order]
        entry["usd_per_1k_at_cpt_80"] = float(1000 * cost.mean())
        entry["usd_per_1k_all_strong"] = float(1000 * recorded.strong_cost[rows].mean())
    return entry


def _difference(
    recorded: Recorded, ours: Floats, other: Floats, rows: NDArray[np.int64], seed: bytes, *, draws: int
) -> dict[str, Any]:
    """APGR of ours less the other's, both on the same rows of each draw."""
    weak, strong = recorded.weak[rows], recorded.strong[rows]

    def difference(drawn: NDArray[np.int64]) -> list[float]:
        low, high = weak[drawn], strong[drawn]
        return [curve(ours[drawn], low, high).apgr() - curve(other[drawn], low, high).apgr()]

    interval = bootstrap(difference, len(rows), generator(seed, "rows"), draws=draws)[0]
    return {"value": difference(np.arange(len(rows)))[0], "interval_95": list(interval)}


def _apgr(recorded: Recorded, scores: Floats, rows: NDArray[np.int64]) -> float:
    return curve(scores[rows], recorded.weak[rows], recorded.strong[rows]).apgr()


def _unit_gains(recorded: Recorded) -> Floats:
    """Gains within [-1, 1]: what devices send is bounded, and a ranking does not depend on the unit."""
    gains = recorded.strong - recorded.weak
    return np.asarray(gains / np.abs(gains).max(), dtype=np.float64)
