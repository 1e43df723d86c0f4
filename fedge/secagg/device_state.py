"""A device's side of a session as a value: what it knows, how far it has gone, and its bytes for the durable store.

Write the bytes to the store (with fsync) before the reply leaves the device: what may happen once a session happens once
across crashes only then. The identity key is no part of the bytes; it stays where it lives and is handed in again.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from google.protobuf.message import DecodeError

from fedge.errors import InputError
from fedge.secagg import keys
from fedge.secagg.bundle import Member, OwnSecrets
from fedge.secagg.errors import MessageError, StageError
from fedge.secagg.session import Session
from fedge.secagg.shamir import SHARE_BYTES
from fedge.secagg.sharing import SALT_BYTES, HeldShare
from fedge.secagg.wire import check_positions, check_size, sha256
from protos.fedge.secagg.v1 import state_pb2 as pb


class Phase(IntEnum):
    """How far a device has gone. It never goes back."""

    BUNDLED = pb.PHASE_BUNDLED
    SHARED = pb.PHASE_SHARED
    MASKED = pb.PHASE_MASKED
    AGREED = pb.PHASE_AGREED
    REVEALED = pb.PHASE_REVEALED
    COMPLAINED = pb.PHASE_COMPLAINED
    ERASED = pb.PHASE_ERASED


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """Everything a device keeps about one session."""

    phase: Phase
    device_id: str
    bundle: bytes
    identity_key: Ed25519PrivateKey = field(repr=False, compare=False)
    secrets: OwnSecrets | None = None
    """Until the vector is masked."""
    session: Session | None = None
    """From the descriptor that was accepted."""
    sharers: tuple[int, ...] = ()
    """U1."""
    survivors: tuple[int, ...] = ()
    """U2."""
    held: tuple[HeldShare, ...] = ()
    """The own share from the dealing on, everyone's from the masking on, none from the reveal on."""
    request_sha256: bytes = b""
    """Of the request that was answered last."""
    reply: bytes = field(default=b"", repr=False)
    """The answer to it, for retries."""
    vector: bytes = field(default=b"", repr=False)
    """The masked vector while its delivery may have to be repeated."""

    @property
    def accepted(self) -> tuple[int, int] | None:
        """(round, attempt) of the accepted descriptor: what the next policy's ``last_accepted`` must not fall below."""
        return None if self.session is None else (self.session.descriptor.round, self.session.descriptor.attempt)

    @property
    def spent(self) -> bool:
        """Whether the update went into a masked vector: then it must never be masked again, in any session."""
        return bool(self.sharers)

    @property
    def deadline(self) -> float | None:
        """Unix time at which the secrets go, once there is a session."""
        return None if self.session is None else self.session.config.deadline

    def repeats(self, phase: Phase, request: bytes) -> bool:
        """Whether ``request`` is the one that led into ``phase``, where the device still stands.

        Raises StageError where another request led there.
        """
        if self.phase is not phase:
            return False
        if self.request_sha256 != sha256(request):
            raise StageError(f"{phase.name.lower()} already, and the request differs from the one that was answered")
        return True

    def require(self, phase: Phase) -> None:
        """Raises StageError unless the device stands in ``phase``."""
        if self.phase is not phase:
            raise StageError(f"the device is {self.phase.name.lower()}, not {phase.name.lower()} as this message needs it")

    def to_bytes(self) -> bytes:
        """The state for the durable store. It holds secrets: keep it to the device's own user."""
        message = pb.DeviceState(
            phase=int(self.phase),  # type: ignore[arg-type]
            device_id=self.device_id,
            identity_key=self.identity_key.public_key().public_bytes_raw(),
            bundle=self.bundle,
            sharers=self.sharers,
            survivors=self.survivors,
            request_sha256=self.request_sha256,
            reply=self.reply,
            vector=self.vector,
        )
        if self.secrets is not None:
            message.secrets.mask_key = self.secrets.mask_key
            message.secrets.channel_key = self.secrets.channel_key
            message.secrets.seed = self.secrets.seed
            message.secrets.dealing_seed = self.secrets.dealing_seed
        if self.session is not None:
            message.descriptor = self.session.descriptor_bytes
            for member in self.session.members:
                message.peers.add(
                    identity_key=member.identity_key.public_bytes_raw(),
                    mask_key=member.mask_key,
                    channel_key=member.channel_key,
                    seed_sha256=member.seed_sha256,
                )
        for held in self.held:
            message.held.add(
                dealer=held.dealer,
                seed_share=held.seed_share,
                seed_salt=held.seed_salt,
                key_share=held.key_share,
                key_salt=held.key_salt,
            )
        return message.SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes, *, identity_key: Ed25519PrivateKey) -> "DeviceState":
        """The state back from the store. Raises InputError where it is damaged or belongs to another identity."""
        try:
            message = pb.DeviceState.FromString(data)
            state = _state(message, identity_key)
            _check(state)
        except (DecodeError, MessageError, ValueError):
            raise InputError("the stored session is damaged: discard it and check in again") from None
        if message.identity_key != identity_key.public_key().public_bytes_raw():
            raise InputError(f"the stored session of {message.device_id!r} belongs to another identity key")
        return state


def _state(message: pb.DeviceState, identity_key: Ed25519PrivateKey) -> DeviceState:
    return DeviceState(
        phase=Phase(message.phase),
        device_id=message.device_id,
        bundle=message.bundle,
        identity_key=identity_key,
        secrets=_secrets(message),
        session=_session(message),
        sharers=tuple(message.sharers),
        survivors=tuple(message.survivors),
        held=tuple(
            HeldShare(share.dealer, share.seed_share, share.seed_salt, share.key_share, share.key_salt)
            for share in message.held
        ),
        request_sha256=message.request_sha256,
        reply=message.reply,
        vector=message.vector,
    )


def _check(state: DeviceState) -> None:
    """Raises MessageError where parts lack or do not fit, so that no step ever meets a state that no step has made."""
    session, secrets = state.session, state.secrets
    if secrets is not None:
        for secret in (secrets.mask_key, secrets.channel_key, secrets.seed, secrets.dealing_seed):
            check_size("a secret", secret, keys.KEY_BYTES)
    if session is None:
        if state.phase not in (Phase.BUNDLED, Phase.ERASED):
            raise MessageError(f"{state.phase.name.lower()} without a session")
        return
    session.position(state.device_id)
    check_positions("U1", state.sharers, session.n)
    check_positions("U2", state.survivors, session.n)
    if state.phase is Phase.SHARED and session.members and secrets is None:
        raise MessageError("shared without secrets")
    if state.phase is Phase.MASKED:
        check_size("the vector", state.vector, session.config.vector_bytes)
    for held in state.held:
        session.member(held.dealer)
        for share, salt in ((held.seed_share, held.seed_salt), (held.key_share, held.key_salt)):
            check_size("a share", share, SHARE_BYTES)
            check_size("a salt", salt, SALT_BYTES)


def _secrets(message: pb.DeviceState) -> OwnSecrets | None:
    if not message.HasField("secrets"):
        return None
    secrets = message.secrets
    return OwnSecrets(secrets.mask_key, secrets.channel_key, secrets.seed, secrets.dealing_seed)


def _session(message: pb.DeviceState) -> Session | None:
    if not message.descriptor:
        return None
    session = Session.of(message.descriptor, ())
    if not message.peers:
        return session
    members = tuple(
        Member(
            device_id,
            Ed25519PublicKey.from_public_bytes(peer.identity_key),
            peer.mask_key,
            peer.channel_key,
            peer.seed_sha256,
        )
        for (device_id, _), peer in zip(session.descriptor.roster, message.peers, strict=True)
    )
    return Session(session.descriptor, session.descriptor_bytes, session.session_id, members)
