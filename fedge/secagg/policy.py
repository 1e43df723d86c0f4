"""What a device insists on before it takes part. The aggregator signs a descriptor; this is the device's own word on it."""

from collections.abc import Collection
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedge.secagg import keys
from fedge.secagg.bundle import SUITE, CertificateVerifier, Member, check_distinct, read_bundle
from fedge.secagg.config import SessionConfig
from fedge.secagg.errors import MessageError, RefusedError, UnknownRoundKey, blaming
from fedge.secagg.session import Descriptor, Session, Task
from fedge.secagg.wire import parse, sha256
from protos.fedge.secagg.v1 import secagg_pb2 as pb

N_MIN_FLOOR = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePolicy:
    """One device's conditions for one session."""

    round_key: Ed25519PublicKey
    """The aggregator's key for descriptors, as the release root pins it."""
    verify_certificate: CertificateVerifier
    """Checks a peer's certificate as of now."""
    revoked: Collection[str]
    """Names of devices with which it shares no cohort."""
    federation: str
    """The run whose descriptors it accepts."""
    last_accepted: tuple[int, int] | None
    """(round, attempt) of the last descriptor it accepted in this federation, from its durable store."""
    task: Task
    """What it checked in for, and computed its contribution from."""
    reals: int
    """Length of what it has to send."""
    integers: int
    clip_norm: float
    """The largest C and W that it accepts, as its release gives them: clipping harder tells less."""
    weight_cap: int
    now: float
    """Unix time in seconds."""
    n_min: int = N_MIN_FLOOR
    """The smallest n_min that it accepts. Below 8 a sum is not private."""
    bits: Collection[int] = (16, 32)
    noise_multiplier: float = 0.0
    """The least noise that it puts up with: a descriptor cannot talk it out of differential privacy."""
    max_session_s: float = 24 * 3600.0
    """How far ahead a deadline may lie: so long secrets may have to be kept."""
    max_round_jump: int = 1_000_000
    """How far a round may lie above the last accepted one: a number near the limit would shut the device out for good."""
    revocations_issued: float | None = None
    """Unix time of the revocation list behind ``revoked``; None where the caller answers for its age."""
    max_revocation_age_s: float = 7 * 24 * 3600.0


def check_descriptor(descriptor: Descriptor, policy: DevicePolicy, *, suite: str, device_id: str, bundle: bytes) -> None:
    """Raises RefusedError unless the descriptor meets every condition of the device."""
    config = descriptor.config
    if policy.revocations_issued is not None and policy.now - policy.revocations_issued > policy.max_revocation_age_s:
        raise RefusedError(f"the revocation list of {policy.revocations_issued} is over {policy.max_revocation_age_s} s old")
    for name, found, wanted in (
        ("suite", descriptor.suite, suite),
        ("run", descriptor.run, policy.federation),
        *(
            (f"task.{name}", getattr(descriptor.task, name), getattr(policy.task, name))
            for name in Task.__dataclass_fields__
        ),
        ("number of reals", config.reals, policy.reals),
        ("number of integers", config.integers, policy.integers),
    ):
        if found != wanted:
            raise RefusedError(f"the descriptor's {name} is {found!r}, this device's is {wanted!r}")
    _check_vectors(config, policy)
    this = (descriptor.round, descriptor.attempt)
    if policy.last_accepted is not None and this <= policy.last_accepted:
        raise RefusedError(f"(round, attempt) {this} is not above the last accepted {policy.last_accepted}")
    if policy.last_accepted is not None and descriptor.round > policy.last_accepted[0] + policy.max_round_jump:
        raise RefusedError(
            f"round {descriptor.round} is more than {policy.max_round_jump} above the last one, {policy.last_accepted[0]}"
        )
    if config.bits not in policy.bits:
        raise RefusedError(f"{config.bits} bits: this device accepts {sorted(policy.bits)}")
    if config.noise_multiplier < policy.noise_multiplier:
        raise RefusedError(
            f"the noise multiplier is {config.noise_multiplier}: this device takes part from {policy.noise_multiplier} on"
        )
    if config.n_min < policy.n_min:
        raise RefusedError(f"n_min is {config.n_min}: this device takes part from {policy.n_min} on")
    if not policy.now < config.deadline <= policy.now + policy.max_session_s:
        raise RefusedError(f"the deadline {config.deadline} is not within {policy.max_session_s} s from {policy.now}")
    if [digest for name, digest in descriptor.roster if name == device_id] != [sha256(bundle)]:
        raise RefusedError("the bundle of this device does not stand in the roster once and unaltered")
    if revoked := [name for name, _ in descriptor.roster if name in policy.revoked]:
        raise RefusedError(f"the roster holds revoked devices: {', '.join(revoked)}")


def sign_descriptor(round_key: Ed25519PrivateKey, descriptor: bytes) -> bytes:
    """Return the signature that a session's roster message bears; Ed25519 gives the same one each time."""
    return keys.sign(round_key, "descriptor", descriptor)


def verify_descriptor(round_key: Ed25519PublicKey, descriptor: bytes, signature: bytes) -> Descriptor:
    """Return a session descriptor that the aggregator's round key signed. Raises MessageError for any other."""
    keys.verify(round_key, "descriptor", descriptor, signature)
    return Descriptor.from_bytes(descriptor)


def _check_vectors(config: SessionConfig, policy: DevicePolicy) -> None:
    """Raise RefusedError for vectors that would tell or weigh more than the device accepts."""
    for name, stated, largest in (
        ("clip norm", config.clip_norm, policy.clip_norm),
        ("weight cap", config.weight_cap, policy.weight_cap),
    ):
        if stated > largest:
            raise RefusedError(f"the descriptor's {name} is {stated!r}, above this device's {largest!r}")
    if config.scale != config.rotated_scale:
        raise RefusedError(f"the descriptor's scale is {config.scale!r}, its clip norm needs {config.rotated_scale!r}")


def accept_descriptor(
    message: bytes, policy: DevicePolicy, *, suite: str, device_id: str, bundle: bytes
) -> tuple[Descriptor, pb.Roster]:
    """The descriptor in a Roster message, signed and accepted, with the message. Raises RefusedError, MessageError or its
    UnknownRoundKey.
    """
    roster = parse(pb.Roster, message)
    try:
        keys.verify(policy.round_key, "descriptor", roster.descriptor, roster.signature)
    except MessageError as error:
        raise UnknownRoundKey(str(error)) from None
    descriptor = Descriptor.from_bytes(roster.descriptor)
    check_descriptor(descriptor, policy, suite=suite, device_id=device_id, bundle=bundle)
    return descriptor, roster


def accept_roster(message: bytes, policy: DevicePolicy, *, device_id: str, bundle: bytes) -> Session:
    """The session that a Roster message opens. Raises RefusedError or MessageError: then the bundle is not consumed."""
    descriptor, roster = accept_descriptor(message, policy, suite=SUITE, device_id=device_id, bundle=bundle)
    if len(roster.bundles) != len(descriptor.roster):
        raise RefusedError(f"{len(roster.bundles)} bundles came for a roster of {len(descriptor.roster)}")
    members = []
    for (name, digest), data in zip(descriptor.roster, roster.bundles, strict=True):
        members.append(_read_peer(name, digest, data, policy))
    check_distinct(tuple(members))
    return Session.of(roster.descriptor, members)


def _read_peer(name: str, digest: bytes, data: bytes, policy: DevicePolicy) -> Member:
    if sha256(data) != digest:
        raise RefusedError("the bundle is not the one that the descriptor names", device_id=name)
    with blaming(name):
        member = read_bundle(data, verify_certificate=policy.verify_certificate, now=policy.now)
    if member.device_id != name:
        raise RefusedError(f"the bundle is that of {member.device_id}", device_id=name)
    return member
