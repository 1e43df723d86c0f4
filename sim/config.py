"""The parameters of a simulated run, checked once at the edge, and their canonical JSON.

The JSON is stored with a run's checkpoints: `--resume` continues only a run that was started with the same parameters.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from aggregator.rounds.client_selection import COHORT_FLOOR, COHORT_MAX
from fedge.errors import InputError
from sim.hostile import check_hostile

WORKLOADS = ("digits", "home", "clinc150", "csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationConfig:
    """What `fedge sim run` was asked to do. Rates and shares are fractions in [0, 1]."""

    workload: str = "digits"
    devices: int = 30
    rounds: int = 8
    seed: int = 1
    out: Path = Path("run")
    data: Path | None = None
    secagg: bool = True
    dropout: float = 0.0
    alpha: float = 0.3
    queries_per_round: int | None = None
    max_risk: float = 0.05
    confidence: float = 0.95
    cohort: int = 32
    central: Literal["inprocess", "grpc"] = "inprocess"
    warm_start: bool = False
    prices: Path | None = None
    policy: Path | None = None
    constraint: bool = True
    insecure_small_cohort: bool = False
    bits: int = 32
    dp_noise_multiplier: float = 0.0
    dp_delta: float = 1e-5
    hostile: Mapping[str, int] = field(default_factory=dict)
    """How many devices lie, by kind (`sim.hostile.LIES`)."""
    range_proofs: bool | None = None
    """Whether devices prove the ranges of their probe counts; None: where some of them lie."""

    @property
    def has_range_proofs(self) -> bool:
        """Whether counts sessions have range proofs, which take about 0.1 s of CPU a device and round."""
        return bool(self.hostile) if self.range_proofs is None else self.range_proofs

    @property
    def round_devices(self) -> int:
        """Devices that train in a round."""
        return min(self.cohort, self.devices)

    @property
    def smallest_cohort(self) -> int:
        """The smallest of a round's cohorts: more than `COHORT_MAX` devices train in several."""
        return self.round_devices // -(-self.round_devices // COHORT_MAX)

    def checked(self) -> "SimulationConfig":
        """This configuration, or an `InputError` that names the value and the remedy."""
        _require(self.workload in WORKLOADS, f"--workload {self.workload} is unknown: choose one of {', '.join(WORKLOADS)}")
        _require(self.devices >= 1, f"--devices {self.devices}: at least 1 device is needed")
        _require(self.rounds >= 1, f"--rounds {self.rounds}: at least 1 round is needed")
        _require(0.0 <= self.dropout < 1.0, f"--dropout {self.dropout}: give a probability of at least 0 and below 1")
        _require(
            self.alpha > 0.0, f"--alpha {self.alpha}: the Dirichlet parameter must be above 0 (0.1 very skewed, 100 even)"
        )
        _require(0.0 < self.max_risk < 1.0, f"--max-risk {self.max_risk}: give a share above 0 and below 1")
        _require(0.5 <= self.confidence < 1.0, f"--confidence {self.confidence}: give a level of at least 0.5 and below 1")
        _require(self.cohort >= 2, f"--cohort {self.cohort}: at least 2 devices have to train in a round")
        _require(self.bits in (16, 32), f"--bits {self.bits}: coordinates have 16 or 32 bits")
        noise = self.dp_noise_multiplier
        _require(
            noise == 0.0 or 0.01 <= noise <= 1000.0,
            f"--dp-noise-multiplier {noise}: give 0 (no noise), or 0.01 to 1000 times what one device can change",
        )
        _require(0.0 < self.dp_delta < 1.0, f"--dp-delta {self.dp_delta}: give a probability above 0 and below 1")
        queries = self.queries_per_round
        _require(
            queries is None or queries >= 1, f"--queries-per-round {queries}: each device needs at least 1 query a round"
        )
        _require(
            self.workload != "csv" or self.data is not None, "--workload csv needs --data FILE (columns text,label[,user])"
        )
        _require(
            self.workload == "csv" or self.data is None, f"--data is for --workload csv; {self.workload} brings its own data"
        )
        _require(
            self.constraint or self.policy is not None,
            "--no-constraint is about a policy's rules: give --policy FILE too",
        )
        small = self.smallest_cohort
        _require(
            not self.secagg or small >= COHORT_FLOOR or self.insecure_small_cohort,
            f"a cohort of {small} devices hides nothing: use at least {COHORT_FLOOR} devices, "
            "or --insecure-small-cohort for a demonstration whose sums are not private",
        )
        check_hostile(self.hostile, devices=self.devices)
        _require(min(self.cohort, self.devices) >= 2, "--devices 1: federated learning needs at least 2 devices")
        return self

    @property
    def secagg_label(self) -> bool | str:
        """What the summary says: secure aggregation, a demonstration of it, or none."""
        if not self.secagg:
            return False
        return "demo" if self.smallest_cohort < COHORT_FLOOR else True

    def parameters(self) -> dict[str, object]:
        """All parameters that shape the result, JSON-ready: files by name and SHA-256, and not where the result is
        written.
        """
        values = asdict(replace(self, out=Path()))
        del values["out"]
        return {name: named_contents(value) if isinstance(value, Path) else value for name, value in values.items()}

    def to_json(self) -> str:
        """Canonical JSON of `parameters`."""
        return json.dumps(self.parameters(), sort_keys=True)

    def differences(self, stored: str) -> list[str]:
        """Names of the parameters in which a stored configuration differs from this one. More rounds are no difference."""
        try:
            mine, theirs = self.parameters(), json.loads(stored)
        except (ValueError, RecursionError) as error:
            raise InputError(f"the stored configuration cannot be read ({error}): start the run anew") from None
        if not isinstance(theirs, dict):
            raise InputError("the stored configuration is no JSON object: start the run anew without --resume")
        theirs = {**SimulationConfig().parameters(), **theirs}  # an older run lacks newer parameters
        names = {each.name for each in fields(self)} - {"out", "rounds"}
        return sorted(name for name in names if mine.get(name) != theirs.get(name))


def named_contents(path: Path) -> str:
    """A file's name and hash; its name alone where it cannot be read, which is said when it is used."""
    try:
        return f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    except OSError:
        return path.name


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InputError(message)
