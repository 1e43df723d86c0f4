"""Step 1: the descriptor that fixes a session, and the session as both ends know it afterwards.

The SHA-256 of the descriptor is the session's id; every key and signature of the session is bound to it.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from fedge.errors import InputError
from fedge.secagg.bundle import Member
from fedge.secagg.config import SessionConfig, threshold
from fedge.secagg.errors import MessageError
from fedge.secagg.rotation import rotation_seed
from fedge.secagg.wire import check_id, check_size, parse, sha256
from protos.fedge.secagg.v1 import secagg_pb2 as pb

DESCRIPTOR_NONCE_BYTES = 16
PERIOD_LIMIT = 1 << 48
"""No calendar counts so many periods; what a store keeps of them stays far inside 64 signed bits."""
ROUND_LIMIT, ATTEMPT_LIMIT = 2**31, 2**16
"""No federation counts so many: every store holds the numbers below, and a device that accepted one can go on from it."""
PROBE_STORE_LIMIT = 1 << 20
"""No device stores so many probes; what range proofs can prove lies far above."""
ARCHITECTURE_LIMIT = 1024
"""Characters of an architecture's name and sizes."""
_HEX = re.compile(r"[0-9a-f]{64}")

Purpose = Literal["update", "counts", "health", "usage"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
_PURPOSE_VALUES: dict[Purpose, "pb.Purpose"] = {
    "update": pb.PURPOSE_UPDATE,
    "counts": pb.PURPOSE_COUNTS,
    "health": pb.PURPOSE_HEALTH,
    "usage": pb.PURPOSE_USAGE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Everything that decides what a device contributes to a session: the same for the whole cohort, and signed."""

    purpose: Purpose
    period: int
    """Index in the federation's calendar (`fedge.calendar`)."""
    release_id: str
    """The signed release that the work refers to: 64 hex digits, as the next two."""
    weights_sha256: str
    structure_sha256: str
    architecture: str = ""
    """What is trained, as the release's manifest names it in canonical JSON."""
    encoder_sha256: str = ""
    """The frozen base under it: 64 hex digits."""
    canary_release_id: str = ""
    """The release whose health is summed, for the purpose ``health``; empty otherwise."""
    probe_epsilon: float = 0.0
    """For the purpose ``counts``: the noise on histograms of stored probes (`fedge.routing.probe_noise`); 0 otherwise."""
    probe_cap: int = 0
    """For the purpose ``counts``: most probes that a device counts for the first time in a period; 0 otherwise."""
    range_proofs: bool = False
    """For the purpose ``counts``: each device proves that its counts lie in their ranges (`fedge.secagg.range_claim`)."""
    probe_store: int = 0
    """With ``range_proofs``: most probes, fresh ones among them, that a device's stored histograms hold; 0 otherwise."""

    def to_message(self) -> "pb.Task":
        """Return the wire form."""
        return pb.Task(
            purpose=_PURPOSE_VALUES[self.purpose],
            period=self.period,
            release_id=self.release_id,
            weights_sha256=self.weights_sha256,
            structure_sha256=self.structure_sha256,
            architecture=self.architecture,
            encoder_sha256=self.encoder_sha256,
            canary_release_id=self.canary_release_id,
            probe_epsilon=self.probe_epsilon,
            probe_cap=self.probe_cap,
            range_proofs=self.range_proofs,
            probe_store=self.probe_store,
        )

    @classmethod
    def from_message(cls, message: "pb.Task") -> "Task":
        """Read the wire form. Raises MessageError for a task that no session can have."""
        purposes = [purpose for purpose, value in _PURPOSE_VALUES.items() if value == message.purpose]
        if not purposes:
            raise MessageError(f"a session of purpose {message.purpose} is unknown: expected one of {', '.join(PURPOSES)}")
        if message.period >= PERIOD_LIMIT:
            raise MessageError(f"period {message.period} lies beyond every calendar")
        for value in (message.release_id, message.weights_sha256, message.structure_sha256):
            if not _HEX.fullmatch(value):
                raise MessageError(f"{value!r} is not a hash of 64 lower-case hex digits")
        if message.encoder_sha256 and not _HEX.fullmatch(message.encoder_sha256):
            raise MessageError(f"{message.encoder_sha256!r} is not a hash of 64 lower-case hex digits")
        if len(message.architecture) > ARCHITECTURE_LIMIT:
            raise MessageError(f"an architecture of {len(message.architecture)} characters, at most {ARCHITECTURE_LIMIT}")
        canary = message.canary_release_id
        if (purposes[0] == "health") != bool(canary) or (canary and not _HEX.fullmatch(canary)):
            raise MessageError(f"a session of purpose {purposes[0]} cannot name the canary release {canary!r}")
        counts = purposes[0] == "counts"
        noisy = 0 < message.probe_epsilon < math.inf
        if counts != (message.probe_cap > 0) or counts != noisy or (not counts and message.probe_epsilon):
            raise MessageError(
                f"a session of purpose {purposes[0]} cannot have the probe cap {message.probe_cap} and "
                f"the epsilon {message.probe_epsilon}"
            )
        if message.range_proofs and not (counts and message.probe_cap <= message.probe_store <= PROBE_STORE_LIMIT):
            raise MessageError(
                f"a session of purpose {purposes[0]} cannot prove counts of at most {message.probe_cap} fresh and "
                f"{message.probe_store} stored probes"
            )
        if message.probe_store and not message.range_proofs:
            raise MessageError(f"a limit of {message.probe_store} stored probes is for sessions with range proofs")
        return cls(
            purpose=purposes[0],
            period=message.period,
            release_id=message.release_id,
            weights_sha256=message.weights_sha256,
            structure_sha256=message.structure_sha256,
            architecture=message.architecture,
            encoder_sha256=message.encoder_sha256,
            canary_release_id=canary,
            probe_epsilon=message.probe_epsilon,
            probe_cap=message.probe_cap,
            range_proofs=message.range_proofs,
            probe_store=message.probe_store,
        )


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What the aggregator signed: task, vectors and cohort. ``roster`` holds (device_id, SHA-256 of its bundle)."""

    suite: str
    run: str
    round: int
    attempt: int
    task: Task
    config: SessionConfig
    roster: tuple[tuple[str, bytes], ...]
    nonce: bytes

    def to_bytes(self) -> bytes:
        """The serialized message. What is signed and hashed is the result of one call."""
        config, n = self.config, len(self.roster)
        return pb.Descriptor(
            suite=self.suite,
            run=self.run,
            round=self.round,
            attempt=self.attempt,
            task=self.task.to_message(),
            configuration=pb.Configuration(
                reals=config.reals,
                integers=config.integers,
                length=config.length,
                bits=config.bits,
                cohort_max=config.cohort_max,
                quantum=config.quantum,
                scale=config.scale,
                clip_norm=config.clip_norm,
                weight_cap=config.weight_cap,
                n_min=config.n_min,
                threshold=threshold(n),
                consistency_threshold=threshold(n),
                deadline=config.deadline,
                noise_multiplier=config.noise_multiplier,
            ),
            roster=[pb.RosterEntry(device_id=device_id, bundle_sha256=digest) for device_id, digest in self.roster],
            nonce=self.nonce,
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Descriptor":
        """Raises MessageError for a descriptor that contradicts itself or the protocol."""
        message = parse(pb.Descriptor, data)
        if message.round >= ROUND_LIMIT or message.attempt >= ATTEMPT_LIMIT:
            raise MessageError(f"(round, attempt) {(message.round, message.attempt)} is beyond every federation's count")
        stated = message.configuration
        try:
            config = SessionConfig(
                reals=stated.reals,
                integers=stated.integers,
                bits=stated.bits,
                cohort_max=stated.cohort_max,
                scale=stated.scale,
                clip_norm=stated.clip_norm,
                weight_cap=stated.weight_cap,
                n_min=stated.n_min,
                deadline=stated.deadline,
                noise_multiplier=stated.noise_multiplier,
            )
        except InputError as error:
            raise MessageError(f"the configuration cannot be: {error}") from None
        if (stated.length, stated.quantum) != (config.length, config.quantum):
            expected = f"{config.length} and {config.quantum}"
            raise MessageError(f"length {stated.length} and quantum {stated.quantum} do not follow, expected {expected}")
        n = len(message.roster)
        if (stated.threshold, stated.consistency_threshold) != (threshold(n), threshold(n)):
            raise MessageError(f"thresholds for {n} devices must be {threshold(n)}")
        if not config.n_min <= n <= config.cohort_max:
            raise MessageError(f"{n} devices stand in the roster, expected {config.n_min} to {config.cohort_max}")
        roster = tuple(
            (check_id("a device's name", entry.device_id), check_size("a bundle's hash", entry.bundle_sha256, 32))
            for entry in message.roster
        )
        names = [device_id.encode() for device_id, _ in roster]
        if any(low >= high for low, high in pairwise(names)):
            raise MessageError("the roster is not ascending by name without repetition")
        check_id("the run's name", message.run)
        check_size("the descriptor's nonce", message.nonce, DESCRIPTOR_NONCE_BYTES)
        return cls(
            suite=message.suite,
            run=message.run,
            round=message.round,
            attempt=message.attempt,
            task=Task.from_message(message.task),
            config=config,
            roster=roster,
            nonce=message.nonce,
        )


@dataclass(frozen=True, slots=True)
class Session:
    """A session that is fixed. Positions count from 1 in ``members``."""

    descriptor: Descriptor
    descriptor_bytes: bytes
    session_id: bytes
    members: tuple[Member, ...]

    @classmethod
    def of(cls, descriptor_bytes: bytes, members: Sequence[Member]) -> "Session":
        """The session of a serialized descriptor. Raises MessageError where the descriptor is malformed."""
        return cls(Descriptor.from_bytes(descriptor_bytes), descriptor_bytes, sha256(descriptor_bytes), tuple(members))

    @property
    def config(self) -> SessionConfig:
        """What the vectors look like."""
        return self.descriptor.config

    @property
    def rotation_seed(self) -> bytes:
        """The public seed of the rotation of this session's updates."""
        return rotation_seed(self.descriptor.task.release_id, self.descriptor.round, self.descriptor.attempt)

    @property
    def n(self) -> int:
        """Size of the roster."""
        return len(self.descriptor.roster)

    @property
    def t(self) -> int:
        """t = t_c: the shares that reconstruct a secret, and the signatures that open the reveal."""
        return threshold(self.n)

    def member(self, position: int) -> Member:
        """The member at a position from 1. Raises MessageError for a position outside the roster."""
        if not 1 <= position <= len(self.members):
            raise MessageError(f"position {position} is outside the roster of {len(self.members)}")
        return self.members[position - 1]

    def position(self, device_id: str) -> int:
        """The position of a device. Raises MessageError for a stranger."""
        for position, (name, _) in enumerate(self.descriptor.roster, start=1):
            if name == device_id:
                return position
        raise MessageError(f"{device_id} is not in the roster")

    def set_hash(self, positions: Sequence[int]) -> bytes:
        """SHA-256 of the session and a set of positions: H(U1)."""
        return sha256(self.session_id, *(position.to_bytes(4, "big") for position in positions))
