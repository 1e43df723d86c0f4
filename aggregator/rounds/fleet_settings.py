"""From the server's settings and a device model's recipe to how a fleet's rounds are run."""

from collections.abc import Mapping
from typing import get_args

from aggregator.rounds.canary import CanaryPolicy
from aggregator.rounds.certify import CertificatePolicy
from aggregator.rounds.round import RoundSettings
from aggregator.rounds.server_optimizer import Kind, ServerOptimizer
from aggregator.settings import RoundsSettings
from fedge.errors import InputError

MAX_ATTEMPTS = 5
SESSION_TIMEOUT_S = 3600.0
RING_BITS = 32
CERTIFICATE_LIFETIME_S = 7 * 24 * 3600.0
"""A fleet whose rounds stop goes back to asking after this."""
COHORT_MAX = 128
"""The protocol's head-room is that of its largest cohort, so that cohorts of any size share one encoding."""


def fleet_round_settings(
    settings: RoundsSettings,
    training: Mapping[str, float | str],
    grid: tuple[float, ...],
    *,
    canary: CanaryPolicy | None = None,
) -> RoundSettings:
    """``training`` is the recipe in a release's manifest, ``grid`` its thresholds. Raises InputError for a recipe without
    what the server needs.
    """
    try:
        kind = {str(name): name for name in get_args(Kind)}[str(training["server_optimizer"])]
        optimizer = ServerOptimizer(
            kind=kind,
            learning_rate=float(training["server_learning_rate"]),
            momentum=float(training["server_momentum"]),
            tau=float(training["server_tau"]),
        )
        clip_norm, weight_cap = float(training["clip_norm"]), int(training["weight_cap"])
    except (KeyError, ValueError) as error:
        raise InputError(f"the device model's recipe cannot be used for rounds: {error}: prepare it anew") from error
    return RoundSettings(
        cohort=settings.cohort,
        cohort_max=COHORT_MAX,
        n_min=settings.n_min,
        bits=RING_BITS,
        clip_norm=clip_norm,
        weight_cap=weight_cap,
        max_attempts=MAX_ATTEMPTS,
        phase_timeout_s=settings.phase_timeout_s,
        session_timeout_s=SESSION_TIMEOUT_S,
        optimizer=optimizer,
        certificate=CertificatePolicy(
            max_risk=settings.max_risk,
            confidence=settings.confidence,
            lifetime_s=CERTIFICATE_LIFETIME_S,
            grid=grid,
        ),
        canary=canary,
    )
