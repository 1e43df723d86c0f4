"""Which score tells best what a device should answer? Compared on the test third with the device model of a recorded run.

    fedge sim run --workload clinc150 --devices 100 --rounds 20 --seed 1 --out /tmp/clinc150
    python -m benchmarks.routing_scores --run /tmp/clinc150

Scores: maximum probability as it is and at the release's temperature, margin, entropy, energy, and two small learned
routers: logistic regression of "device agrees with the label given" on those figures, and on the embedding besides.
They are trained federally, by Newton's method whose sums pass secure aggregation's weighting, clipping and fixed-point
code (the masks, which cancel in the sum, are left out). They learn from devices' memories, labels that escalated
queries and corrections brought: from all of them, and from those alone that the head has not been trained on, where two
devices have any. Never from probes or the test third.

Beside the fleet's head, on the same encoder: one trained in one place on the fleet's labels, and one on all true labels of
the server's and the devices' parts, both judged by maximum probability.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from edge_client.releases.inference import InferenceSession
from edge_client.store import restore
from fedge.architectures import HEAD_BIAS, HEAD_WEIGHT
from fedge.errors import InputError
from fedge.randomness import derive, generator, root_seed
from fedge.release import load_private_key, read_release
from fedge.routing.confidence import softmax
from fedge.routing.evaluation import aurc, bootstrap, curve
from fedge.secagg import SessionConfig, decode, encode, weighted_update
from fedge.secagg.codec import dtype_of
from sim import checkpoint as checkpoints
from sim.record import read_record
from sim.selective import LOCAL_SHARES, selective_figures

NEWTON_STEPS = 8
PENALTIES = {"learned on scores": 1.0, "learned on embedding": 10.0}
LIMIT = 32.0
"""No figure and no coordinate of an embedding is larger; one that were would be clipped."""
SHOWN = (*LOCAL_SHARES, "aurc", "cpt_50", "cpt_80", "apgr")

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def scores(logits: Floats, temperature: float) -> dict[str, Floats]:
    """The scores that need no training, float64 [n] each: higher is surer."""
    plain, scaled = softmax(logits), softmax(logits, temperature)
    top = np.sort(scaled, axis=1)
    peak = logits.max(axis=1)
    return {
        "maximum probability": scaled.max(axis=1),
        "maximum probability, not scaled": plain.max(axis=1),
        "margin": top[:, -1] - top[:, -2],
        "entropy": (scaled * np.log(np.maximum(scaled, 1e-30))).sum(axis=1),
        "energy": peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1)),
    }


def features(logits: Floats, embedding: Floats, temperature: float, *, with_embedding: bool) -> Floats:
    """What a learned router sees of each query [n, d], before scaling; the constant is added by `scaled`."""
    told = scores(logits, temperature)
    odds = [np.log(np.clip(told[name], 1e-6, 1 - 1e-6) / (1 - np.clip(told[name], 1e-6, 1 - 1e-6)))
            for name in ("maximum probability", "margin")]  # fmt: skip
    figures = np.stack([*odds, told["entropy"], told["energy"]], axis=1)
    return np.concatenate([figures, embedding], axis=1) if with_embedding else figures


def federated_logistic(
    rows: Sequence[Floats], targets: Sequence[Floats], *, penalty: float, seed: bytes
) -> tuple[Floats, Floats, Floats]:
    """Weights [d + 1], mean [d] and deviation [d] of logistic regression on each device's ``rows`` and 0/1 ``targets``."""
    most, width = max(map(len, rows)), rows[0].shape[1]
    bounded = [np.clip(r / LIMIT, -1.0, 1.0) for r in rows]
    moments = federated_sum(
        [np.concatenate([r.mean(axis=0), (r**2).mean(axis=0), [1.0]]) for r in bounded],
        list(map(len, rows)), most=most, bound=2 * width + 1.0, seed=derive(seed, "moments"),
    )  # fmt: skip
    mean, square = moments[:width] / moments[-1], moments[width:-1] / moments[-1]
    mean, deviation = mean * LIMIT, np.sqrt(np.maximum(square - mean**2, 1e-9)) * LIMIT
    ready = [scaled(r, mean, deviation) for r in rows]
    weights = np.zeros(width + 1)
    longest = 9.0 * width + 1.0  # |x|^2: every figure lies within three deviations
    ridge = np.append(np.full(width, penalty), 1e-6)
    for step in range(NEWTON_STEPS):
        told = []
        for x, t in zip(ready, targets, strict=True):
            p = 1 / (1 + np.exp(-(x @ weights)))
            hessian = (x.T * (p * (1 - p))) @ x
            told.append(np.concatenate([x.T @ (t - p), hessian.ravel()]) / len(x))
        total = federated_sum(
            told, list(map(len, rows)), most=most, bound=longest / 4 + longest**0.5, seed=derive(seed, "newton", step)
        )
        gradient, hessian = total[: width + 1], total[width + 1 :].reshape(width + 1, width + 1)
        weights += np.linalg.solve(hessian + np.diag(ridge), gradient - ridge * weights)
    return weights, mean, deviation


def scaled(rows: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Rows of mean 0 and deviation 1, within three deviations, with the constant 1 at the end."""
    bounded = np.clip((rows - mean) / deviation, -3.0, 3.0)
    return np.concatenate([bounded, np.ones((len(rows), 1))], axis=1)


def federated_sum(means: Sequence[Floats], examples: Sequence[int], *, most: int, bound: float, seed: bytes) -> Floats:
    """The sum over all examples of what each device sends as its mean, as secure aggregation's code carries it."""
    config = SessionConfig(
        reals=len(means[0]), integers=0, bits=32, cohort_max=128, scale=bound,
        clip_norm=bound * len(means[0]) ** 0.5, weight_cap=most, n_min=2, deadline=1.0,
    )  # fmt: skip
    if not 2 <= len(means) <= config.cohort_max:
        raise InputError(f"{len(means)} devices have labels: a learned router is trained in one cohort of 2 to 128")
    total = np.zeros(config.length, dtype=dtype_of(config))
    for number, (mean, n) in enumerate(zip(means, examples, strict=True)):
        update, _ = weighted_update(mean, n, config)
        total += encode(update, np.empty(0, dtype=np.int64), config, derive(seed, number))
    return decode(total, len(means), config).reals * most


def compare(folder: Path, *, draws: int) -> dict[str, Any]:
    """The document that ``--json`` writes."""
    from aggregator.workbench.encoder_training import fit_head, seeded
    from aggregator.workbench.preparation import prepared_workload

    record, stored = read_record(folder), checkpoints.load(folder)
    if record is None or stored is None:
        raise InputError(f"{folder} holds no finished run: make one with `fedge sim run --out {folder}`")
    settings = json.loads(stored.config)
    key = load_private_key(folder / checkpoints.STATE / "keys" / "release.pem")
    release = read_release(folder / "release", key.public_key())
    manifest, session = release.manifest, InferenceSession(release)
    data = None if settings.get("data") is None else Path(settings["data"])
    workload = prepared_workload(record.workload, seed=record.seed, data=data, devices=record.devices)
    told = session.predict(list(workload.test.queries))
    logits, embedding = told.logits.astype(np.float64), told.embedding.astype(np.float64)
    truth, central, in_scope = record.queries.truth, record.queries.central, workload.in_scope(workload.test)
    device = logits.argmax(axis=1).astype(np.int64)
    seed, index = root_seed(record.seed), {label: i for i, label in enumerate(manifest.labels)}

    memories = [restore(dumped).memory.all() for dumped in stored.devices]
    told_of = [session.predict([example.query for example in memory]) for memory in memories]
    given = [np.array([index[example.label] for example in memory], dtype=np.int64) for memory in memories]
    unused = [np.array([example.fresh for example in memory], dtype=bool) for memory in memories]
    rated = scores(logits, manifest.temperature)
    learned: dict[str, Any] = {}
    for name, penalty in PENALTIES.items():
        for which, masks in (("all labels", [np.ones_like(mask) for mask in unused]), ("fresh labels", unused)):
            wide = name == "learned on embedding"
            rows, targets = [], []
            for one, labels, mask in zip(told_of, given, masks, strict=True):
                if mask.any():
                    own = one.logits[mask].astype(np.float64)
                    seen = one.embedding[mask].astype(np.float64)
                    rows.append(features(own, seen, manifest.temperature, with_embedding=wide))
                    targets.append((own.argmax(axis=1) == labels[mask]).astype(np.float64))
            if len(rows) < 2:
                continue
            weights, mean, deviation = federated_logistic(rows, targets, penalty=penalty, seed=derive(seed, name, which))
            mine = features(logits, embedding, manifest.temperature, with_embedding=wide)
            rated[f"{name}, {which}"] = scaled(mine, mean, deviation) @ weights
            learned[f"{name}, {which}"] = {
                "devices": len(rows),
                "examples": sum(map(len, rows)),
                "agreed": float(np.concatenate(targets).mean()),
            }

    def figures(sure: Floats, own: Labels) -> dict[str, Any]:
        return selective_figures(sure, own, central, truth, in_scope, seed=seed, draws=draws)

    heads = {}
    pooled = np.concatenate([one.embedding for one in told_of]), np.concatenate(given)
    everything = [*workload.server.queries, *workload.devices.queries]
    true = np.concatenate([workload.server.labels, workload.devices.labels])
    for name, (x, y) in {
        "pooled: the fleet's labels in one place": pooled,
        "central: all true labels": (session.predict(everything).embedding, true),
    }.items():
        known = y != workload.oos_index if workload.oos_index is not None else np.ones(len(y), dtype=bool)
        with seeded(derive(seed, "head", name)):
            head = fit_head(x[known], y[known], classes=len(manifest.labels))
        other = embedding @ head[HEAD_WEIGHT].astype(np.float64) + head[HEAD_BIAS]
        heads[name] = {
            "examples": int(known.sum()),
            **figures(softmax(other).max(axis=1), other.argmax(axis=1).astype(np.int64)),
        }
    reference = "maximum probability"
    right, strong = (device == truth).astype(np.float64), (central == truth).astype(np.float64)
    return {
        "workload": record.workload,
        "seed": record.seed,
        "devices": record.devices,
        "rounds": len(record.rounds),
        "learned": learned,
        "scores": {name: figures(sure, device) for name, sure in rated.items()},
        "less_maximum_probability": {
            name: {
                part: differences(sure[rows], rated[reference][rows], right[rows], strong[rows], seed=seed, draws=draws)
                for part, rows in {"in_scope": np.flatnonzero(in_scope), "all": np.arange(len(truth))}.items()
            }
            for name, sure in rated.items()
            if name != reference
        },
        "heads": heads,
    }


def differences(ours: Floats, other: Floats, right: Floats, strong: Floats, *, seed: bytes, draws: int) -> dict[str, Any]:
    """Ours less the other's on the same draws: the share answered locally a point below central, and AURC."""

    def values(drawn: Labels) -> list[float]:
        shares = [curve(-s[drawn], right[drawn], strong[drawn]).local_share(0.01) for s in (ours, other)]
        areas = [aurc(s[drawn], 1.0 - right[drawn]) for s in (ours, other)]
        return [shares[0] - shares[1], areas[0] - areas[1]]

    intervals = bootstrap(values, len(right), generator(seed, "bootstrap"), draws=draws)
    found = values(np.arange(len(right)))
    return {
        name: {"value": value, "interval_95": list(interval)}
        for name, value, interval in zip(("local_at_minus_one_point", "aurc"), found, intervals, strict=True)
    }


def show(document: dict[str, Any]) -> None:
    """The comparison as text: in scope, then out of scope."""
    for name, entry in {**document["scores"], **document["heads"]}.items():
        print(name)
        for part in ("in_scope", "all"):
            cells = (f"{key} {_cell(entry[part][key])}" for key in SHOWN)
            print(f"  {part}: device {entry[part]['accuracy']['device']:.4f};", "; ".join(cells))
        if entry["out_of_scope"]:
            cells = (f"{key} {_cell(value)}" for key, value in entry["out_of_scope"].items() if key != "queries")
            print("  out_of_scope:", "; ".join(cells))
    for name, entry in document["less_maximum_probability"].items():
        for part, found in entry.items():
            print(f"{name} less maximum probability, {part}:", "; ".join(f"{k} {_cell(v)}" for k, v in found.items()))
    print(json.dumps(document["learned"]))


def _cell(entry: dict[str, Any] | None) -> str:
    return "-" if entry is None else "{:.4f} ({:.4f} to {:.4f})".format(entry["value"], *entry["interval_95"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished `fedge sim run`")
    parser.add_argument("--draws", type=int, default=200, help="bootstrap draws behind each interval")
    parser.add_argument("--json", type=Path, help="write the whole comparison into this file")
    arguments = parser.parse_args()
    document = compare(arguments.run, draws=arguments.draws)
    if arguments.json:
        arguments.json.write_text(json.dumps(document) + "\n", encoding="utf-8")
    show(document)


if __name__ == "__main__":
    main()
