"""From a run's parameters to the settings of the real parts. Constants of the simulation stand here."""

from aggregator.rounds.client_selection import least_sum
from aggregator.rounds.config import RoundSettings
from aggregator.wiring import round_settings as assembled
from aggregator.workbench.device_model import DeviceModel
from sim.config import SimulationConfig

PROFILE = "raspberry-pi-4"
# The share of wrong answers that a simulated user corrects.
CORRECTIONS = 0.02
PHASE_TIMEOUT_S = 60.0


def round_settings(config: SimulationConfig, model: DeviceModel) -> RoundSettings:
    """How the aggregator runs its rounds."""
    return assembled(
        model.training,
        cohort=config.round_devices,
        n_min=least_sum(config.smallest_cohort),
        phase_timeout_s=PHASE_TIMEOUT_S,
        max_risk=config.max_risk,
        confidence=config.confidence,
        bits=config.bits,
        noise_multiplier=config.dp_noise_multiplier,
        range_proofs=config.has_range_proofs,
    )
