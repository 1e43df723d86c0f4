"""From a run's parameters to the settings of the real parts: rounds, releases, central. Constants of the simulation
stand here.
"""

from typing import get_args

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.central import CentralService, Limits, Pricing
from aggregator.rounds.certify import CertificatePolicy
from aggregator.rounds.publish import Export, ReleaseMaker
from aggregator.rounds.round import RoundSettings
from aggregator.rounds.server_optimizer import Kind, ServerOptimizer
from aggregator.workbench.device_model import DeviceModel, quantized
from aggregator.workbench.workloads import Workload
from fedge.costs import PriceBook
from fedge.errors import InputError
from fedge.features import Query
from fedge.release import SelfTest, Weights
from fedge.routing import DEFAULT_GRID
from sim.clock import DAY, SimulatedClock
from sim.config import COHORT_FLOOR, SimulationConfig
from sim.preparation import Preparation

PROFILE = "raspberry-pi-4"
# The share of wrong answers that a simulated user corrects.
CORRECTIONS = 0.02
# Attempts at each session of a round before the round goes without it.
MAX_ATTEMPTS = 5
PHASE_TIMEOUT_S = 60.0
SESSION_TIMEOUT_S = 3600.0
# A certificate lives a week: a fleet whose rounds stop goes back to asking.
CERTIFICATE_LIFETIME_S = 7 * DAY
# The protocol's head-room is that of its largest cohort, so that cohorts of any size share one encoding.
COHORT_MAX = 128
N_MIN = 11
MAX_TEXT_BYTES = 8192


def round_settings(config: SimulationConfig, model: DeviceModel) -> RoundSettings:
    """How the aggregator runs its rounds."""
    cohort = config.round_devices
    training = model.training
    return RoundSettings(
        cohort=cohort,
        cohort_max=COHORT_MAX,
        n_min=_n_min(config.smallest_cohort),
        bits=config.bits,
        clip_norm=float(training["clip_norm"]),
        weight_cap=int(training["weight_cap"]),
        max_attempts=MAX_ATTEMPTS,
        phase_timeout_s=PHASE_TIMEOUT_S,
        session_timeout_s=SESSION_TIMEOUT_S,
        optimizer=ServerOptimizer(
            kind=_server_optimizer(str(training["server_optimizer"])),
            learning_rate=float(training["server_learning_rate"]),
            momentum=float(training["server_momentum"]),
            tau=float(training["server_tau"]),
        ),
        certificate=CertificatePolicy(
            max_risk=config.max_risk,
            confidence=config.confidence,
            lifetime_s=CERTIFICATE_LIFETIME_S,
            grid=DEFAULT_GRID,
        ),
        noise_multiplier=config.dp_noise_multiplier,
    )


def _server_optimizer(name: str) -> Kind:
    kinds: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    if name not in kinds:
        raise InputError(f"the device model's recipe asks for the server optimizer {name!r}; there are {', '.join(kinds)}")
    return kinds[name]


def _n_min(cohort: int) -> int:
    """The protocol's default of 11, down to its floor of 8 in cohorts below 16, and whatever there is in a demonstration."""
    if cohort >= 16:
        return N_MIN
    return COHORT_FLOOR if cohort >= COHORT_FLOOR else 2


def release_maker(
    workload: Workload,
    model: DeviceModel,
    book: PriceBook,
    release_key: Ed25519PrivateKey,
    *,
    noise_multiplier: float = 0.0,
) -> ReleaseMaker:
    """How a head becomes a signed release of this workload, which also says how much noise updates on it need."""
    noise = {"noise_multiplier": noise_multiplier} if noise_multiplier else {}

    def export(head: Weights) -> Export:
        files = quantized(model, head)
        queries = [query if isinstance(query, str) else [float(x) for x in query] for query in model.self_test_queries]
        self_test = SelfTest(queries=queries, logits=files.self_test_logits)  # type: ignore[typeddict-item]
        return Export(files.infer, files.agreement, self_test)

    return ReleaseMaker(
        workload=workload.name,
        labels=workload.labels,
        oos_label=workload.oos_label,
        features=workload.features.to_mapping(),
        step=model.step,
        first_head=model.head,
        training={**model.training, **noise},
        threshold_grid=DEFAULT_GRID,
        confidence="max_probability",
        price_book=book.version,
        export=export,
        release_key=release_key,
    )


def central_service(prepared: Preparation, book: PriceBook, clock: SimulatedClock) -> CentralService:
    """Central with the workload's strong model, its answers priced by the book."""
    workload = prepared.workload

    def price_usd(query: Query) -> float:
        return book.central_price_usd

    pixels = 0 if isinstance(workload.test.queries, list) else int(workload.test.queries.shape[1])
    return CentralService(
        model=prepared.strong,
        model_name=prepared.strong.name,
        labels=workload.labels,
        pricing=Pricing(book.version, price_usd),
        limits=Limits(max_text_bytes=0 if pixels else MAX_TEXT_BYTES, pixels=pixels),
        clock=clock,
    )
