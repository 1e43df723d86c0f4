"""What distributed differential privacy has cost so far, and what may be said of it.

Accounting by `dp-accounting` (RDP of zero-concentrated events). The unit is a device with all that it holds: neighbouring
fleets differ in what one device adds to every round. Nothing is claimed for drawing cohorts at random, since the aggregator
draws them. Aborted attempts count as released. The exact probe counts behind certificates lie outside of epsilon.
"""

import math
from dataclasses import dataclass

from dp_accounting import ZCDpEvent
from dp_accounting.rdp import RdpAccountant

from fedge.secagg import SessionConfig
from fedge.secagg.noise import rounded_norm

DELTA = 1e-5
"""The delta for which epsilon is given where nobody says another: well below one in the devices of a fleet."""
EPSILON_LIMIT = 10.0
"""Above it the guarantee says little (Ponomareva et al. 2023, "How to DP-fy ML", tier 3)."""


@dataclass(frozen=True, slots=True)
class PrivacyReport:
    """What a run's sums have spent. ``noise_to_signal``: norm of a sum's noise over the sum's largest possible norm."""

    noise_multiplier: float
    delta: float
    epsilon: float
    noise_to_signal: float | None
    supported: bool
    """Whether the word "private" is warranted."""
    verdict: str


def session_rho(config: SessionConfig) -> float:
    """Zero-concentrated privacy loss of one released sum: 1 / (2 Z^2), and a term for the sum of several discrete Gaussians
    not being one (Kairouz, Liu and Steinke 2021, Theorem 1).
    """
    sigma, honest = config.noise_sigma, config.honest
    tau = 10.0 * sum(math.exp(-2.0 * math.pi**2 * sigma**2 * k / (k + 1)) for k in range(1, honest))
    ratio = rounded_norm(config.quantum, config.reals) / (math.sqrt(honest) * sigma)
    epsilon = min(math.sqrt(ratio**2 + tau * config.reals / 2), ratio + tau * math.sqrt(config.reals))
    return epsilon**2 / 2


def epsilon_of(rho: float, delta: float) -> float:
    """The epsilon at ``delta`` of a total loss of ``rho``, which adds up over rounds that depend on each other too."""
    if rho == 0.0:
        return 0.0
    accountant = RdpAccountant()
    accountant.compose(ZCDpEvent(rho))
    return float(accountant.get_epsilon(delta))


def noise_to_signal(config: SessionConfig, survivors: int) -> float:
    """sigma sqrt(n d) / (n Q): above 1 the noise is longer than the largest sum of ``survivors`` updates can be."""
    return config.noise_sigma * math.sqrt(config.reals / survivors) / config.quantum


def privacy_report(
    *, multiplier: float, rho: float, delta: float, ratio: float | None, devices: int, sums_are_secret: bool
) -> PrivacyReport:
    """What is spent and what may be said of it. ``sums_are_secret``: the aggregator saw nothing but sums of real cohorts."""
    epsilon = epsilon_of(rho, delta)
    against = []
    if not sums_are_secret:
        against.append("the aggregator could see single updates, which carry too little noise")
    if epsilon > EPSILON_LIMIT:
        against.append(f"epsilon {epsilon:.3g} is above {EPSILON_LIMIT:g}")
    if delta * devices > 1.0:
        against.append(f"delta {delta:g} is above one in {devices} devices")
    verdict = (
        f"not private in the sense of differential privacy: {' and '.join(against)}"
        if against
        else f"private: the released models are ({epsilon:.3g}, {delta:g})-differentially private for each device's "
        "updates; the probe counts behind certificates are exact and lie outside of this"
    )
    return PrivacyReport(multiplier, delta, epsilon, ratio, not against, verdict)
