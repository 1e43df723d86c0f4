"""The running statement: how often what the fleet answered locally disagreed with central, whatever release was live.

Anytime-valid: the bound holds at all times at once, though releases, thresholds and probe rates change in answer to it.

Let p_t be the risk of the t-th local probe given everything before it, x_t whether it disagreed, S the sum. For every c in
(0, 1)

    M_n(c) = prod_t (1 - c)^x_t / (1 - c p_t)

is a nonnegative martingale that starts at 1. -ln(1 - c p) is convex in p, so by Jensen M_n(c) >= (1 - c)^S (1 - c pbar)^-n
with pbar the mean of the p_t so far. A mixture of such martingales is one again, and by Ville's inequality it ever reaches
1 / delta with probability at most delta. Hence, for all n together with probability 1 - delta,

    pbar_n <= U_n = sup {p : sum_k w_k (1 - c_k)^S (1 - c_k p)^-n <= 1 / delta}.

(Sub-Bernoulli process of Howard, Ramdas, McAuliffe and Sekhon 2021, Time-uniform Chernoff bounds via nonnegative
supermartingales, and Time-uniform, nonparametric, nonasymptotic confidence sequences; the betting view in Waudby-Smith and
Ramdas 2023.) The state is two integers that add up, so a secure sum of each round's pairs is all that is needed.

**Where fewer are probed.** Probes become rarer with the evidence. For the mean over what was *answered*, one at half the
rate weighs twice: w_t = 1, 2, 5 or 10, known before x_t (`probes.probe_weight`). With S and n now the sums of w_t x_t and
w_t, and m the largest weight so far, prod_t (1 - c)^(w_t x_t) / (1 - p_t (1 - (1 - c)^w_t)) is such a martingale. The
negative logarithm of its denominator is concave in w_t and 0 at 0, hence at least w_t / m times its value at m, which is
convex in p_t as before. So

    U_n = sup {p : sum_k v_k (1 - c_k)^S (1 - (1 - (1 - c_k)^m) p)^(-n / m) <= 1 / delta}, v_k the mixture's weights,

bounds the weighted mean of the p_t; at m = 1 it is the bound above. Of 200 streams each that turned bad after the rate had
fallen, 29 (clinc150) and 31 (digits) at some time disagreed more often over what was answered than a bound without these
weights said (`benchmarks/certificate_coverage.py` has them).

The tilts c and their weights were chosen for risks of 0.01 to 0.05 and 300 to 5,000 probes; 4 to 13 tilts in other places
differ by at most 0.002 there; the two smallest are for heavy probes. Upper bounds at 0.95 beside the stitched boundaries of
Howard et al. (with the constants they print; the empirical-Bernstein one is two-sided) and Clopper-Pearson, which holds for
one look at one time only:

    disagreed / seen      0 / 59   6 / 300   20 / 1000   45 / 1500   90 / 3000
    this bound            0.088    0.052     0.035       0.044       0.040
    stitched, Hoeffding   0.236    0.129     0.081       0.080       0.066
    stitched, Bernstein   0.277    0.103     0.054       0.059       0.049
    one look only         0.050    0.039     0.029       0.038       0.036
"""

import math
from dataclasses import dataclass

import numpy as np

from fedge.errors import InputError
from fedge.routing.probes import probe_weight

TILTS: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.95)
WEIGHTS: tuple[float, ...] = tuple(share / 72 for share in (1, 1, 2, 8, 12, 12, 12, 8, 8, 4, 4))

_C = np.array(TILTS)
_LOG_KEEP = np.log1p(-_C)
_LOG_WEIGHTS = np.log(np.array(WEIGHTS))


@dataclass(frozen=True, slots=True)
class RunningBound:
    """Local probes ``seen`` so far and how many ``disagreed``, with their weights: 1 each for the first 4,000. Two of them
    add up to one; the empty one says nothing (bound 1).
    """

    seen: int = 0
    disagreed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.disagreed <= self.seen:
            raise InputError(f"{self.disagreed} disagreements among {self.seen} probes cannot be")

    def __add__(self, other: "RunningBound") -> "RunningBound":
        return RunningBound(self.seen + other.seen, self.disagreed + other.disagreed)

    @property
    def weight(self) -> int:
        """What a probe weighs that comes next; none so far weighed more."""
        return probe_weight(self.seen)

    def log_capital(self, risk: float) -> float:
        """Log of the mixture's value were the mean risk ``risk``: evidence, in nats, that the true mean is lower."""
        heaviest = self.weight
        tilts = -np.expm1(heaviest * _LOG_KEEP)
        terms = _LOG_WEIGHTS + self.disagreed * _LOG_KEEP - self.seen / heaviest * np.log1p(-tilts * risk)
        largest = float(terms.max())
        return largest + math.log(float(np.exp(terms - largest).sum()))

    def upper(self, delta: float) -> float:
        """The bound U, rounded up to the next double; 1.0 while the evidence excludes nothing."""
        if not 0 < delta < 1:
            raise InputError(f"delta {delta!r} must lie strictly between 0 and 1")
        budget = -math.log(delta)
        if self.log_capital(1.0) <= budget:
            return 1.0
        low, high = 0.0, 1.0
        while low < (middle := (low + high) / 2) < high:
            if self.log_capital(middle) <= budget:
                low = middle
            else:
                high = middle
        return high
