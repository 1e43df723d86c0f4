"""Step 0: the one-time keys with which a device checks in, signed by its identity. Good for one session only."""

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedge.errors import FedgeError
from fedge.secagg import keys
from fedge.secagg.errors import MessageError
from fedge.secagg.wire import check_id, check_size, parse, sha256
from protos.fedge.secagg.v1 import secagg_pb2 as pb

SUITE = "cohort-secagg-v2"
NONCE_BYTES = 32

CertificateVerifier = Callable[[bytes], tuple[str, Ed25519PublicKey]]
"""From a certificate's DER to the device's name and identity key. Raises a FedgeError for one that is not valid now."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a cohort: its name and the public keys of its bundle."""

    device_id: str
    identity_key: Ed25519PublicKey
    mask_key: bytes
    channel_key: bytes
    seed_sha256: bytes


@dataclass(frozen=True, slots=True, repr=False)
class OwnSecrets:
    """What a device keeps to itself until its vector is masked: 32 bytes each."""

    mask_key: bytes
    channel_key: bytes
    seed: bytes
    dealing_seed: bytes


def sign_bundle(
    identity_key: Ed25519PrivateKey, device_id: str, certificate: bytes, secrets: OwnSecrets, *, nonce: bytes, expires: float
) -> bytes:
    """The serialized SignedBundle of fresh ``secrets``."""
    body = pb.Bundle(
        suite=SUITE,
        device_id=check_id("the device's name", device_id),
        certificate_sha256=sha256(certificate),
        nonce=nonce,
        mask_key=keys.public_key_of(secrets.mask_key),
        channel_key=keys.public_key_of(secrets.channel_key),
        seed_sha256=sha256(secrets.seed),
        expires=expires,
    ).SerializeToString()
    signature = keys.sign(identity_key, "bundle", body)
    return pb.SignedBundle(bundle=body, signature=signature, certificate=certificate).SerializeToString()


def read_bundle(data: bytes, *, verify_certificate: CertificateVerifier, now: float) -> Member:
    """The member that a SignedBundle speaks for. Raises MessageError unless everything about it holds at ``now``."""
    signed = parse(pb.SignedBundle, data)
    bundle = parse(pb.Bundle, signed.bundle)
    if bundle.suite != SUITE:
        raise MessageError(f"the bundle is for {bundle.suite!r}, not {SUITE!r}")
    check_id("the device's name", bundle.device_id)
    check_size("the nonce", bundle.nonce, NONCE_BYTES)
    check_size("the seed's hash", bundle.seed_sha256, 32)
    if bundle.certificate_sha256 != sha256(signed.certificate):
        raise MessageError("the bundle was signed beside another certificate")
    try:
        device_id, identity_key = verify_certificate(signed.certificate)
    except FedgeError as error:
        raise MessageError(f"the certificate is not valid: {error}") from None
    if device_id != bundle.device_id:
        raise MessageError(f"the certificate is for {device_id!r}, the bundle for {bundle.device_id!r}")
    keys.verify(identity_key, "bundle", signed.bundle, signed.signature)
    if not bundle.expires > now:
        raise MessageError(f"the bundle expired at {bundle.expires}, now is {now}")
    keys.check_public_key("the mask key", bundle.mask_key)
    keys.check_public_key("the channel key", bundle.channel_key)
    return Member(device_id, identity_key, bundle.mask_key, bundle.channel_key, bundle.seed_sha256)


def check_distinct(members: tuple[Member, ...]) -> None:
    """Raises MessageError where two members share a name or a key, or one uses a key twice."""
    seen: set[str | bytes] = set()
    for member in members:
        own: set[str | bytes] = {
            member.device_id,
            member.identity_key.public_bytes_raw(),
            member.mask_key,
            member.channel_key,
        }
        if len(own) != 4 or own & seen:
            raise MessageError("a name or key stands twice in the cohort", device_id=member.device_id)
        seen |= own
