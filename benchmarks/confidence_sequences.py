"""Which confidence sequence for the running statement? Upper bounds on a mean risk beside each other: width, and validity.

Each is one-sided at 1 - delta. Width: mean upper bound over simulated probes of constant risk. Validity: share of streams in
which the bound was below the mean of the risks so far at any of the looks, for constant risk and for risks that change, also
in answer to what was seen. Clopper-Pearson, which holds for one look, is there to show what the others pay for.

Sources: stitched boundaries, Howard, Ramdas, McAuliffe and Sekhon 2021, theorems 1 and 4 (eta 2, s 1.4, m 1); betting,
Waudby-Smith and Ramdas 2023, the lower half of the hedged capital with predictable plug-in bets truncated at 1/2;
beta-binomial mixture, Robbins 1970, cut off at the risk in question so that it is one-sided, prior Beta(1, 25).

    python benchmarks/confidence_sequences.py
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from benchmarks.certificate_coverage import Share
from fedge.randomness import generator, root_seed
from fedge.routing import RunningBound

Bits = NDArray[np.bool_]
Floats = NDArray[np.float64]
Excludes = Callable[[Bits, Floats, float], NDArray[np.bool_]]

SIZES = (100, 300, 1_000, 3_000)
RISKS = (0.01, 0.03)
PROBES, EVERY = 3_000, 25
PRIOR = (1.0, 25.0)


@dataclass(frozen=True, slots=True)
class Sequence:
    """``excludes(x [runs, n], p [runs], delta)``: whether the upper bound after those n probes lies below p. ``summable``:
    whether two numbers that add up over devices are all it needs.
    """

    name: str
    excludes: Excludes
    summable: bool


def fixed_tilts(x: Bits, p: Floats, delta: float) -> NDArray[np.bool_]:
    """Ours: `fedge.routing.RunningBound`."""
    wrong = x.sum(axis=1).tolist()
    capital = [RunningBound(x.shape[1], s).log_capital(risk) for s, risk in zip(wrong, p.tolist(), strict=True)]
    return np.array(capital) > -math.log(delta)


def stitched(v: Floats, delta: float, *, scale: float) -> Floats:
    """The polynomial stitched boundary at intrinsic time ``v`` for sub-gamma scale ``scale`` (0: sub-Gaussian)."""
    eta, s = 2.0, 1.4
    v = np.maximum(v, 1.0)
    log_term = s * np.log(np.log(eta * v)) + math.log(float(special.zeta(s)) / (delta * math.log(eta) ** s))
    k1, k2 = (eta**0.25 + eta**-0.25) / math.sqrt(2), (math.sqrt(eta) + 1) / 2
    return np.asarray(np.sqrt(k1**2 * v * log_term + (k2 * scale * log_term) ** 2) + k2 * scale * log_term)


def hoeffding(x: Bits, p: Floats, delta: float) -> NDArray[np.bool_]:
    """Sub-Gaussian with variance 1/4 a probe."""
    n = x.shape[1]
    return np.asarray(p > x.mean(axis=1) + stitched(np.full(len(x), n / 4), delta, scale=0.0) / n)


def empirical_bernstein(x: Bits, p: Floats, delta: float) -> NDArray[np.bool_]:
    """Its time is the sum of squared distances from the mean so far, so it needs the probes' order."""
    n = x.shape[1]
    guesses = (np.cumsum(x, axis=1) - x + 0.5) / np.arange(1, n + 1)
    return np.asarray(p > x.mean(axis=1) + stitched(((x - guesses) ** 2).sum(axis=1), delta, scale=1.0) / n)


def betting(x: Bits, p: Floats, delta: float) -> NDArray[np.bool_]:
    """Bets on agreement, as large as the past makes them; the order again."""
    t = np.arange(1, x.shape[1] + 1)
    means = (np.cumsum(x, axis=1) + 0.5) / (t + 1)
    variances = (np.cumsum((x - means) ** 2, axis=1) + 0.25) / (t + 1)
    before = np.hstack([np.full((len(x), 1), 0.25), variances[:, :-1]])
    bets = np.minimum(np.sqrt(2 * math.log(1 / delta) / (before * t * np.log1p(t))), 0.5 / (1 - p)[:, None])
    return np.asarray(np.log1p(bets * (p[:, None] - x)).sum(axis=1) > -math.log(delta))


def beta_binomial(x: Bits, p: Floats, delta: float) -> NDArray[np.bool_]:
    """Mixes over alternatives below p; its tilts hang on p, so it is a martingale for a constant risk only."""
    a, b = PRIOR
    s, n = x.sum(axis=1), x.shape[1]
    likelihood = special.betaln(s + a, n - s + b) + np.log(np.maximum(special.betainc(s + a, n - s + b, p), 1e-300))
    prior = special.betaln(a, b) + np.log(special.betainc(a, b, p))
    return np.asarray(likelihood - prior - special.xlogy(s, p) - special.xlog1py(n - s, -p) > -math.log(delta))


def one_look(x: Bits, p: Floats, delta: float) -> NDArray[np.bool_]:
    """Clopper-Pearson."""
    return np.asarray(stats.binom.cdf(x.sum(axis=1), x.shape[1], p) < delta)


SEQUENCES = (
    Sequence("fixed tilts (ours)", fixed_tilts, summable=True),
    Sequence("stitched Hoeffding", hoeffding, summable=True),
    Sequence("stitched empirical Bernstein", empirical_bernstein, summable=False),
    Sequence("betting", betting, summable=False),
    Sequence("beta-binomial mixture", beta_binomial, summable=True),
    Sequence("Clopper-Pearson, peeked at", one_look, summable=True),
)


def upper(sequence: Sequence, x: Bits, delta: float) -> Floats:
    """The upper bound of each run, to 1e-5, by bisection."""
    low, high = np.zeros(len(x)), np.full(len(x), 1.0 - 1e-9)
    for _ in range(17):
        middle = (low + high) / 2
        above = sequence.excludes(x, middle, delta)
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return high


Risk = Callable[[int, NDArray[np.int64]], Floats]
STREAMS: dict[str, Risk] = {
    "constant 5 %": lambda t, s: np.full(s.shape, 0.05),
    "rising, 1 to 9 %": lambda t, s: np.full(s.shape, 0.01 + 0.08 * t / PROBES),
    "falling, 30 to 1 %": lambda t, s: np.full(s.shape, max(0.01, 0.30 * (1 - t / 500))),
    "worse where it looks good": lambda t, s: np.where(s < 0.04 * t, 0.09, 0.01),
}


def draws(risk: Risk, runs: int, rng: np.random.Generator) -> tuple[Bits, Floats]:
    """Disagreements and the mean risk so far, [runs, PROBES] each."""
    x, p = np.zeros((runs, PROBES), dtype=bool), np.zeros((runs, PROBES))
    wrong = np.zeros(runs, dtype=np.int64)
    for t in range(PROBES):
        p[:, t] = risk(t, wrong)
        x[:, t] = rng.random(runs) < p[:, t]
        wrong += x[:, t]
    return x, np.cumsum(p, axis=1) / np.arange(1, PROBES + 1)


def compare(*, runs: int, widths: int, delta: float, seed: int) -> Iterator[dict[str, Any]]:
    """One entry a sequence: mean bounds by risk and size, and the streams in which it was ever wrong."""
    root = root_seed(seed)
    paths = {risk: generator(root, "width", str(risk)).random((widths, max(SIZES))) < risk for risk in RISKS}
    streams = {name: draws(risk, runs, generator(root, "stream", name)) for name, risk in STREAMS.items()}
    for sequence in SEQUENCES:
        missed: dict[str, Share] = {}
        for name, (x, means) in streams.items():
            ever = np.zeros(runs, dtype=bool)
            for n in range(EVERY, PROBES + 1, EVERY):
                ever |= sequence.excludes(x[:, :n], means[:, n - 1], delta)
            missed[name] = Share(int(ever.sum()), runs)
        bounds = {
            str(risk): {str(n): float(upper(sequence, x[:, :n], delta).mean()) for n in SIZES} for risk, x in paths.items()
        }
        yield {"sequence": sequence.name, "summable": sequence.summable, "upper": bounds, "missed": missed}


def main() -> None:
    """Compare and print."""
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000, help="streams for validity")
    parser.add_argument("--widths", type=int, default=100, help="runs for the mean width")
    parser.add_argument("--delta", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = compare(runs=options.runs, widths=options.widths, delta=options.delta, seed=options.seed)
    entries = list(track(found, "sequences", total=len(SEQUENCES), console=Console(stderr=True)))
    if options.json:
        shares = [{**one, "missed": {name: share.to_json() for name, share in one["missed"].items()}} for one in entries]
        print(json.dumps({"delta": options.delta, "seed": options.seed, "results": shares}))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("sequence", "sums suffice", *(f"{risk} n={n}" for risk in RISKS for n in SIZES), *STREAMS):
        table.add_column(heading)
    for one in entries:
        bounds = [f"{one['upper'][str(risk)][str(n)]:.4f}" for risk in RISKS for n in SIZES]
        table.add_row(one["sequence"], "yes" if one["summable"] else "no", *bounds, *map(str, one["missed"].values()))
    Console(width=260).print(table)


if __name__ == "__main__":
    main()
