"""How rounds are run, and what their sessions' vectors look like."""

from dataclasses import dataclass, replace

from aggregator.rounds.canary import CanaryPolicy
from aggregator.rounds.certification import CertificatePolicy
from aggregator.rounds.client_selection import cohort_sizes
from aggregator.rounds.robust_sum import SumHistory
from aggregator.rounds.server_optimizer import ServerOptimizer
from fedge.calendar import DAILY, Calendar
from fedge.layouts import CountsLayout, UpdateLayout
from fedge.routing.probe_cap import FIRST_CAP
from fedge.routing.probe_noise import ProbeNoise
from fedge.secagg import RangeClaim, SessionConfig, Task, threshold
from fedge.secagg.rotation import padded_length, rotated_scale

PROBE_EPSILON = 2.0
PROBE_CAP = FIRST_CAP
LIARS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSettings:
    """How rounds are run. ``cohort`` devices train in a round, in several cohorts side by side where they are more than
    ``cohort_max``, which is the encoding's head-room; ``n_min`` is the smallest cohort that is summed. ``usage_every``:
    after how many rounds devices are asked what they answered and used; 0: never.
    """

    cohort: int
    cohort_max: int
    n_min: int
    bits: int
    clip_norm: float
    weight_cap: int
    max_attempts: int
    phase_timeout_s: float
    session_timeout_s: float
    optimizer: ServerOptimizer
    certificate: CertificatePolicy
    noise_multiplier: float = 0.0
    canary: CanaryPolicy | None = None
    usage_every: int = 0
    calendar: Calendar = DAILY
    """The periods of which devices spend each once."""
    probe_epsilon: float = PROBE_EPSILON
    """The noise on histograms of stored probes (`fedge.routing.probe_noise`)."""
    probe_cap: int = PROBE_CAP
    """B: most probes that a device counts for the first time in the first period; later ones go by what central counted."""
    liars: int = LIARS
    """f: lying devices that every bound tolerates in each cohort and period."""

    range_proofs: bool = False
    """Whether devices prove that their probe counts lie in their ranges (`fedge.secagg.range_proof`)."""

    @property
    def counts_layout(self) -> CountsLayout:
        """Return the layout of counts sessions."""
        return CountsLayout(len(self.certificate.grid), lift=self._noise.bound)

    def counts_claim(self, task: Task) -> RangeClaim:
        """Return what devices prove of their vectors in a counts session with range proofs."""
        return self.counts_layout.claim(probe_cap=task.probe_cap, probe_store=task.probe_store, room=self._noise.room)

    def proved_agreements(self, probe_store: int) -> int:
        """Return the most agreements that a device can prove in the histogram of stored probes."""
        return probe_store + self._noise.room

    @property
    def _noise(self) -> ProbeNoise:
        return ProbeNoise(self.probe_epsilon, 1)

    def update_session(self, weights: int, history: SumHistory, *, now: float) -> SessionConfig:
        """The configuration of update sessions for so many ``weights``, which travel rotated, under the clip norm and weight
        cap that past rounds suggest; with noise unrotated, under the settings' own.

        At 16 bits, and with noise, room in the ring is dear: it is that of the cohort at hand. With noise no
        integers travel, and the quorum is the t that a session takes to finish anyway: the more devices are sure to be
        there, the less noise each of them adds.
        """
        largest = max(cohort_sizes(self.cohort, limit=self.cohort_max))
        if not self.noise_multiplier:
            reals, clip_norm = padded_length(weights), min(history.clip_norm, self.clip_norm)
            config = replace(
                self.session(reals=0, integers=UpdateLayout().integers, now=now),
                reals=reals,
                scale=rotated_scale(clip_norm, reals),
                clip_norm=clip_norm,
                weight_cap=min(history.weight_cap, self.weight_cap),
            )
            return config if self.bits == 32 else replace(config, cohort_max=max(largest, 2))
        return replace(
            self.session(reals=0, integers=1, now=now),
            reals=weights,
            integers=0,
            cohort_max=largest,
            n_min=max(self.n_min, threshold(largest)),
            noise_multiplier=self.noise_multiplier,
        )

    def session(self, *, reals: int, integers: int, now: float) -> SessionConfig:
        """The configuration of a session that begins now (Unix time, seconds)."""
        return SessionConfig(
            reals=reals,
            integers=integers,
            bits=self.bits,
            cohort_max=self.cohort_max,
            scale=self.clip_norm,
            clip_norm=self.clip_norm,
            weight_cap=self.weight_cap,
            n_min=self.n_min,
            deadline=now + self.session_timeout_s,
        )
