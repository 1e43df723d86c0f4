"""Does the certificate keep its word? Many runs of the whole loop, each with its own seed, judged by what really happened.

For each seed: whether the run ends certified, its running bound, the disagreement really made over the run (every query
that the fleet answered locally, judged by what central would have said), and the disagreement on the third of the data that
no one trained on. Data and models are prepared anew for every few seeds, since they take longer than a run; the fleet, its
traffic, probes, training order and cohorts differ for every seed.

    python benchmarks/certificate_seeds.py --seeds 20 --rounds 12 --out /tmp/seeds
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")


class Silent:
    """An observer that watches nothing."""

    def stage(self, text: str) -> None:
        pass

    def round_finished(self, entry: dict[str, Any]) -> None:
        pass


def verdict(summary: dict[str, Any]) -> dict[str, Any]:
    """What one run promised, and what it did."""
    rounds = summary["rounds"]
    last = rounds[-1]
    local = sum(entry["stream"]["local"] for entry in rounds)
    disagreed = sum(entry["stream"]["disagreed"] for entry in rounds)
    made = disagreed / local if local else None
    bound = last["certified_risk"]
    return {
        "seed": summary["seed"],
        "certificate": last["certificate"],
        "bound": bound,
        "local_answers": local,
        "disagreement_made": made,
        "kept": made is None or bound is None or made <= bound,
        "local_disagreement_test": last["local_disagreement"],
        "fallback_rate": last["fallback_rate"],
        "accuracy_system": last["accuracy"]["system"],
        "accuracy_central": last["accuracy"]["central"],
        "probes": last["probes"],
    }


def batch(arguments: tuple[dict[str, Any], list[int], str, bool]) -> list[dict[str, Any]]:
    """Several seeds on one preparation."""
    from sim.config import SimulationConfig
    from sim.preparation import prepare
    from sim.run import simulate

    values, seeds, out, resume = arguments
    first = SimulationConfig(**values, seed=seeds[0], out=Path(out) / f"seed-{seeds[0]}").checked()
    preparation = prepare(first, stage=lambda text: None)
    results = []
    for seed in seeds:
        config = SimulationConfig(**values, seed=seed, out=Path(out) / f"seed-{seed}").checked()
        results.append(verdict(simulate(config, observer=Silent(), preparation=preparation, resume=resume)))
        print(json.dumps(results[-1]), flush=True)
    return results


def main() -> None:
    """Run, print one JSON line a seed and a verdict over all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="clinc150")
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--preparations", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", default="runs/certificate-seeds")
    parser.add_argument("--resume", action="store_true", help="go on with the runs in --out, for more rounds")
    options = parser.parse_args()
    values = {"workload": options.workload, "devices": options.devices, "rounds": options.rounds}
    seeds = list(range(options.first_seed, options.first_seed + options.seeds))
    batches = [seeds[start :: options.preparations] for start in range(options.preparations)]
    work = [(values, part, options.out, options.resume) for part in batches if part]
    with ProcessPoolExecutor(options.jobs) as pool:
        results = [result for part in pool.map(batch, work) for result in part]
    certified = sum(result["certificate"] == "certified" for result in results)
    broken = sum(not result["kept"] for result in results)
    print(json.dumps({"seeds": len(results), "certified": certified, "bound_broken": broken, "rounds": options.rounds}))


if __name__ == "__main__":
    main()
