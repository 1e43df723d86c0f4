"""A device's own identity: its id, its private key and the certificate that the enrolment authority gave it."""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedge.errors import InputError, VerificationError
from fedge.identity.certificates import MAX_CERTIFICATE_BYTES, verify_certificate
from fedge.identity.device_id import check_device_id
from fedge.release.signing import load_private_key, save_private_key

KEY_NAME, CERTIFICATE_NAME = "identity.pem", "identity.der"


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """Who a device is, to peers and aggregator. The private key never leaves the device."""

    device_id: str
    private_key: Ed25519PrivateKey
    certificate: bytes
    """DER."""

    def __post_init__(self) -> None:
        check_device_id(self.device_id)

    def verify(self, ca_public_key: Ed25519PublicKey, now: float) -> None:
        """Raises VerificationError unless the certificate is valid at ``now`` and names this id and this key."""
        device_id, key = verify_certificate(self.certificate, ca_public_key, now)
        if device_id != self.device_id:
            raise VerificationError(f"the certificate names {device_id}, not {self.device_id}")
        if key.public_bytes_raw() != self.private_key.public_key().public_bytes_raw():
            raise VerificationError(f"the certificate of {device_id} is for another key")


def load_or_create_key(folder: Path) -> Ed25519PrivateKey:
    """The device key in ``folder``, generated on first use (mode 0600). Raises InputError."""
    path = folder / KEY_NAME
    if path.exists():
        return load_private_key(path)
    folder.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    save_private_key(path, key)
    return key


def save_certificate(folder: Path, certificate: bytes) -> None:
    """Puts a new certificate beside the key, in one step: a reader sees the old or the new one."""
    staging = folder / f".{CERTIFICATE_NAME}.new"
    staging.write_bytes(certificate)
    staging.replace(folder / CERTIFICATE_NAME)


def load_identity(folder: Path, ca_public_key: Ed25519PublicKey, *, now: float) -> DeviceIdentity:
    """The identity in ``folder``, verified. Raises InputError where there is none, VerificationError where it fails."""
    key = load_private_key(folder / KEY_NAME)
    try:
        with (folder / CERTIFICATE_NAME).open("rb") as file:
            certificate = file.read(MAX_CERTIFICATE_BYTES + 1)
    except OSError as error:
        raise InputError(f"no certificate in {folder}: enrol this device first ({error.strerror})") from None
    device_id, _ = verify_certificate(certificate, ca_public_key, now)
    identity = DeviceIdentity(device_id, key, certificate)
    identity.verify(ca_public_key, now)
    return identity
