"""The federation's state between rounds: one immutable value, written to the database as it is. Resuming is loading it.

Of what devices contributed it holds only sums that were released by secure aggregation, and what was made of them. It names
devices where sums were spoiled: who took part in them, and who is excluded.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from types import NoneType

import numpy as np

from aggregator.rounds.probe_sums import ProbeState
from aggregator.rounds.robust_sum import SumHistory
from aggregator.rounds.server_optimizer import OptimizerState, init
from aggregator.rounds.suspicion import Suspicion
from fedge.errors import InputError
from fedge.layouts import HealthSums
from fedge.release import Release
from fedge.release.weights import Weights, flatten, read_safetensors, write_safetensors
from fedge.routing.probes import probe_rate
from fedge.routing.running import RunningBound
from fedge.secagg.beacon import GENESIS


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationState:
    """What round ``round_number + 1`` starts from."""

    round_number: int
    head: Weights
    optimizer: OptimizerState
    temperature: float
    release_id: str
    version: int
    running: RunningBound
    threshold: float | None
    probe_rate: float
    certificate_state: str
    certificate_bound: float | None
    privacy_rho: float = 0.0
    """Zero-concentrated privacy loss of all sums of updates so far, where updates carried noise."""
    canary: "CanaryWatch | None" = None
    probes: ProbeState = field(default_factory=ProbeState)
    """What is known of the probe counts of earlier rounds."""
    history: SumHistory
    """What accepted sums of updates were like: it bounds the next ones."""
    best_accuracy: float | None = None
    """The best accuracy on the server's held-out queries of a release that was accepted; None before the first."""
    suspicion: Suspicion = field(default_factory=Suspicion)
    """The evidence about who spoiled sums, and the devices that it excludes."""
    beacon: bytes = GENESIS
    """What the next round's cohorts are drawn from."""

    def to_bytes(self) -> bytes:
        """A length-prefixed JSON head followed by the tensors as safetensors and moments as float64."""
        head = {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name not in ("head", "optimizer", "running", "canary", "probes", "history", "suspicion", "beacon")
        }
        head["probes"] = self.probes.to_json()
        head |= {"suspicion": self.suspicion.to_json(), "beacon": self.beacon.hex()}
        watch = self.canary
        if watch is not None:
            head["canary"] = {"since": watch.since, "share": watch.share, "sums": asdict(watch.sums)}
        head["running"] = asdict(self.running)
        head["history"] = asdict(self.history)
        text = json.dumps(head, sort_keys=True).encode()
        moments = np.stack([self.optimizer.first, self.optimizer.second]).astype("<f8").tobytes()
        tensors = write_safetensors(self.head)
        parts = [text, moments, tensors, *([] if watch is None else [watch.before.to_bytes()])]
        return b"".join(len(part).to_bytes(8, "big") + part for part in parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> "FederationState":
        """The inverse of `to_bytes`; raises InputError for anything else."""
        parts = []
        position = 0
        while position + 8 <= len(data):
            length = int.from_bytes(data[position : position + 8], "big")
            parts.append(data[position + 8 : position + 8 + length])
            position += 8 + length
        try:
            text, moments, tensors, *rest = parts
            head = json.loads(text)
            if not isinstance(head, dict):
                raise ValueError("its head is no object")
            head.pop("publication", None)  # states of protocol version 1 have it
            if "canary" in head:
                watch, (before,) = head["canary"], rest
                sums = HealthSums(**watch.pop("sums"))
                head["canary"] = CanaryWatch(sums=sums, before=cls.from_bytes(before), **watch)
            weights = read_safetensors(tensors)
            first, second = np.frombuffer(moments, dtype="<f8").reshape(2, -1).astype(np.float64)
            head["running"] = RunningBound(**head["running"])
            head["probes"] = ProbeState.from_json(head["probes"]) if "probes" in head else ProbeState()
            # A state of before they were kept has neither.
            head["suspicion"] = Suspicion.from_json(head["suspicion"]) if "suspicion" in head else Suspicion()
            head["beacon"] = bytes.fromhex(head["beacon"]) if "beacon" in head else GENESIS
            history = head.pop("history")
            head["history"] = SumHistory(**history | {"mean_norms": tuple(history["mean_norms"])})
            state = cls(head=weights, optimizer=OptimizerState(first, second), **head)
            _check(state)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(f"the stored federation state cannot be read: {error}") from error
        return state


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryWatch:
    """The state's release is on the canary since ``since``, at ``share`` of the devices; ``sums`` is what they reported so
    far. ``before`` is the state to go back to if the release is taken back.
    """

    since: float
    share: float
    sums: HealthSums
    before: FederationState


def _check(state: FederationState) -> None:
    """Raises ValueError where a field is not of the kind that a round leaves behind: better now than in mid-round."""
    for kinds, names in (
        ((int,), ("round_number", "version")),
        ((float,), ("temperature", "probe_rate", "privacy_rho")),
        ((float, NoneType), ("threshold", "certificate_bound", "best_accuracy")),
        ((str,), ("release_id", "certificate_state")),
    ):
        for name in names:
            if type(getattr(state, name)) not in kinds:
                raise ValueError(f"{name} is {getattr(state, name)!r}")
    if type(state.running.seen) is not int or type(state.running.disagreed) is not int:
        raise ValueError(f"running is {state.running}")
    state.history.check()
    if len(state.optimizer.first) != len(flatten(state.head)):
        raise ValueError(f"{len(state.optimizer.first)} moments stand beside {len(flatten(state.head))} weights")


def initial_state(first: Release) -> FederationState:
    """The state before the first round, around a first release that is already published and active."""
    manifest = first.manifest
    head = first.weights()
    return FederationState(
        round_number=0,
        head=head,
        optimizer=init(len(flatten(head))),
        temperature=manifest.temperature,
        release_id=first.release_id,
        version=manifest.version,
        running=RunningBound(),
        threshold=None,
        probe_rate=probe_rate(0, False),
        certificate_state="none",
        certificate_bound=None,
        best_accuracy=manifest.metrics.get("held_out_accuracy"),
        history=SumHistory.begin(
            clip_norm=float(manifest.training["clip_norm"]), weight_cap=int(manifest.training["weight_cap"])
        ),
    )
