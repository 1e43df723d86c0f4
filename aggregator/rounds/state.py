"""The federation's state between rounds: one immutable value, written to the database as it is. Resuming is loading it.

Of what devices contributed it holds only sums that were released by secure aggregation, and what was made of them. It names
devices where sums were spoiled: who took part in them, and who is excluded.

The rounds' state on the disk of the rounds process: what a new run goes on from after any crash.

One file holds the state after the last finished round, another which attempt of the round at hand was begun. Both are
written beside the old one, forced to the disk, and renamed: a kill or a power cut leaves the old or the new, never half.
"""

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType

import numpy as np

from aggregator.disk_space import Retry, once
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


STATE = "state.bin"
ATTEMPT = "attempt.json"


class StateFolder:
    """One federation's state. Also the `AttemptLog` of its rounds. ``retry`` does each write."""

    def __init__(self, folder: Path, *, retry: Retry = once) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._retry = retry

    def save(self, state: FederationState) -> None:
        """A round is over; on the disk when this returns."""
        self._retry(lambda: self._write(STATE, state.to_bytes()))

    def load(self, other: bytes | None = None) -> FederationState | None:
        """The state to go on from: the later of the file's and ``other`` (the database's), or None. Raises InputError."""
        path = self._folder / STATE
        found = [path.read_bytes()] if path.exists() else []
        states = [FederationState.from_bytes(data) for data in (*found, *([other] if other is not None else []))]
        return max(states, key=lambda state: state.round_number, default=None)

    def last(self, round_number: int) -> int:
        """The last attempt of this round that was begun; 0 before the first. Raises InputError."""
        path = self._folder / ATTEMPT
        if not path.exists():
            return 0
        try:
            noted = json.loads(path.read_text(encoding="utf-8"))
            return int(noted["attempt"]) if noted["round"] == round_number else 0
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} cannot be read ({error}): restore it from the backup or delete it") from error

    def begin(self, round_number: int, attempt: int) -> None:
        """An attempt is about to begin; on the disk when this returns."""
        noted = json.dumps({"round": round_number, "attempt": attempt}).encode()
        self._retry(lambda: self._write(ATTEMPT, noted))

    def _write(self, name: str, data: bytes) -> None:
        temporary = self._folder / f".{name}.part"
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self._folder / name)
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
