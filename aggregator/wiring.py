"""From prepared models and parameters to the settings of the real parts: rounds, releases, central.

The simulator and the server of a real fleet put their parts together here, so that both run the same rounds.
"""

from collections.abc import Callable, Mapping
from typing import get_args

from aggregator.central import AsksUpstream, BooksAnswers, CentralService, CountsProbes, Limits, Pricing
from aggregator.releases.signer import ReleaseKey
from aggregator.rounds.canary import CanaryPolicy
from aggregator.rounds.certification import CertificatePolicy
from aggregator.rounds.client_selection import COHORT_MAX
from aggregator.rounds.config import RoundSettings
from aggregator.rounds.release_builder import Export, HeldOut, ReleaseMaker
from aggregator.rounds.server_optimizer import Kind, ServerOptimizer
from aggregator.workbench.device_model import DeviceModel, quantized
from aggregator.workbench.strong import StrongModel
from aggregator.workbench.workloads import WorkloadFacts
from fedge.calendar import DAILY, Calendar
from fedge.costs import PriceBook
from fedge.errors import InputError
from fedge.release import SelfTest, Weights
from fedge.routing import DEFAULT_GRID
from fedge.traces import Traces

# Attempts at each session of a round before the round goes without it.
MAX_ATTEMPTS = 5
SESSION_TIMEOUT_S = 3600.0
RING_BITS = 32
# A certificate lives a week: a fleet whose rounds stop goes back to asking.
CERTIFICATE_LIFETIME_S = 7 * 24 * 3600.0
MAX_TEXT_BYTES = 8192


def round_settings(
    training: Mapping[str, float | str],
    *,
    cohort: int,
    n_min: int,
    phase_timeout_s: float,
    max_risk: float,
    confidence: float,
    canary: CanaryPolicy | None = None,
    bits: int = RING_BITS,
    noise_multiplier: float = 0.0,
    usage_every: int = 0,
    calendar: Calendar = DAILY,
    range_proofs: bool = False,
) -> RoundSettings:
    """Return how the aggregator runs its rounds; ``training`` is the device model's recipe. Raises InputError."""
    return RoundSettings(
        cohort=cohort,
        cohort_max=COHORT_MAX,
        n_min=n_min,
        bits=bits,
        clip_norm=float(training["clip_norm"]),
        weight_cap=int(training["weight_cap"]),
        max_attempts=MAX_ATTEMPTS,
        phase_timeout_s=phase_timeout_s,
        session_timeout_s=SESSION_TIMEOUT_S,
        optimizer=ServerOptimizer(
            kind=_server_optimizer(str(training["server_optimizer"])),
            learning_rate=float(training["server_learning_rate"]),
            momentum=float(training["server_momentum"]),
            tau=float(training["server_tau"]),
        ),
        certificate=CertificatePolicy(
            max_risk=max_risk, confidence=confidence, lifetime_s=CERTIFICATE_LIFETIME_S, grid=DEFAULT_GRID
        ),
        canary=canary,
        noise_multiplier=noise_multiplier,
        usage_every=usage_every,
        calendar=calendar,
        range_proofs=range_proofs,
    )


def release_maker(
    facts: WorkloadFacts,
    model: DeviceModel,
    book: PriceBook,
    release_key: ReleaseKey,
    *,
    noise_multiplier: float = 0.0,
) -> ReleaseMaker:
    """Return the maker of signed releases of this workload, which also say how much noise updates on them need."""
    noise = {"noise_multiplier": noise_multiplier} if noise_multiplier else {}

    def export(head: Weights) -> Export:
        files = quantized(model, head)
        queries = [query if isinstance(query, str) else [float(x) for x in query] for query in model.self_test_queries]
        self_test = SelfTest(queries=queries, logits=files.self_test_logits)  # type: ignore[typeddict-item]
        return Export(files.infer, files.agreement, self_test, HeldOut(files.right, files.held_out))

    return ReleaseMaker(
        workload=facts.name,
        labels=facts.labels,
        oos_label=facts.oos_label,
        features=model.features.to_mapping(),
        architecture=model.architecture,
        first_head=model.head,
        training={**model.training, **noise},
        threshold_grid=DEFAULT_GRID,
        confidence="max_probability",
        price_book=book.version,
        export=export,
        release_key=release_key,
    )


def central_service(
    strong: StrongModel,
    facts: WorkloadFacts,
    book: PriceBook,
    clock: Callable[[], float],
    *,
    traces: Traces | None = None,
    upstream: AsksUpstream | None = None,
    probes: CountsProbes | None = None,
    ledger: BooksAnswers | None = None,
) -> CentralService:
    """Central with the workload's strong model, its answers priced by the book, and an upstream where there is one.

    ``probes`` counts the probes that it answers; ``ledger`` has what answers cost before they are given.
    """
    return CentralService(
        model=strong,
        model_name=strong.name,
        labels=facts.labels,
        pricing=Pricing.from_book(book),
        limits=Limits(max_text_bytes=0 if facts.pixels else MAX_TEXT_BYTES, pixels=facts.pixels),
        clock=clock,
        traces=traces,
        upstream=upstream,
        probes=probes,
        ledger=ledger,
    )


def _server_optimizer(name: str) -> Kind:
    kinds: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    if name not in kinds:
        raise InputError(f"the device model's recipe asks for the server optimizer {name!r}; there are {', '.join(kinds)}")
    return kinds[name]
