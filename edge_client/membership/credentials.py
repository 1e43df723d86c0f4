"""What a member keeps of what the authority sends: certificates, the keys to trust, and who is revoked.

Everything is verified before it replaces what stands on disk, each file in one step, and nothing ever goes back: an older
trust root or revocation list than the one on disk is refused. Never opens a connection.

The device's own secret: 32 random bytes in a file of mode 0600, made at the first start. It never leaves the device.

Who is revoked, as the newest signed list on the device says it, and how old that is; read again when the file changes.
"""

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_ssh_private_key

from edge_client.settings import DeviceHome
from fedge.errors import InputError, VerificationError
from fedge.identity import DeviceIdentity, RevocationList, TrustRoot
from fedge.identity.files import load_or_create_ec_key, make_private_folder, read_file, write_file
from fedge.identity.tls import read_pem
from fedge.identity.wish import Wish, make_wish
from fedge.release.document import MAX_DOCUMENT_BYTES
from fedge.release.signing import load_private_key, save_private_key

SIZE_BYTES = 32


def own_secret(path: Path) -> bytes:
    """The secret in ``path``, made where there is none. Raises InputError for a file that is no such secret."""
    if not path.exists():
        write_file(path, os.urandom(SIZE_BYTES))
    secret = path.read_bytes()
    if len(secret) != SIZE_BYTES:
        raise InputError(f"{path} has {len(secret)} bytes, not {SIZE_BYTES}: remove it to have a new one made")
    return secret


class RevokedDevices(Collection[str]):
    """The device ids of the list in a file; none while there is no file. Raises VerificationError for a forged list."""

    def __init__(self, path: Path, trust: Callable[[], TrustRoot]) -> None:
        self._path = path
        self._trust = trust
        self._seen: tuple[int, int] | None = None
        self._list = RevocationList(0, 0.0, frozenset())

    def issued_at(self) -> float:
        """When the authority signed the list, UNIX seconds; 0 while there is none: then it is too old for any session."""
        return self._current().issued_at

    def _current(self) -> RevocationList:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return self._list
        seen = (status.st_mtime_ns, status.st_ino)
        if seen != self._seen:
            self._list = self._trust().read_revocations(self._path.read_bytes(), status.st_mtime)
            self._seen = seen
        return self._list

    def __contains__(self, device_id: object) -> bool:
        return device_id in self._current().device_ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._current().device_ids)

    def __len__(self) -> int:
        return len(self._current().device_ids)


@dataclass(frozen=True, slots=True)
class DeviceKeys:
    """The private keys of a device, made on it and never sent anywhere."""

    identity: Ed25519PrivateKey
    tls: ec.EllipticCurvePrivateKey
    node: ec.EllipticCurvePrivateKey

    def wish(self, ca_name: str, device_id: str) -> Wish:
        """A request for certificates for these keys."""
        return make_wish(ca_name, device_id, identity_key=self.identity, tls_key=self.tls, node_key=self.node)


def load_or_create_keys(home: DeviceHome) -> DeviceKeys:
    """The keys in the home, each made (mode 0600, the home 0700) where it is missing. Raises InputError."""
    make_private_folder(home.folder)
    if not home.identity_key.exists():
        save_private_key(home.identity_key, Ed25519PrivateKey.generate())
    identity = load_private_key(home.identity_key)
    return DeviceKeys(identity, load_or_create_ec_key(home.tls_key, ec.SECP256R1()), _node_key(home))


def load_keys(home: DeviceHome) -> DeviceKeys:
    """The keys of an enrolled device. Raises InputError."""
    for path in (home.identity_key, home.tls_key, home.node_key):
        if not path.is_file():
            raise InputError(f"{path} is missing: enroll this device first")
    return load_or_create_keys(home)


def load_trust(home: DeviceHome) -> TrustRoot:
    """The keys that the device trusts. Raises InputError."""
    try:
        return TrustRoot.from_bytes(read_file(home.trust))
    except VerificationError as error:
        raise InputError(f"{home.trust} cannot be used: {error}: enroll this device again") from None


def load_member(home: DeviceHome, *, now: float) -> DeviceIdentity:
    """The identity that the device shows in rounds, verified as of ``now``. Raises InputError or VerificationError."""
    certificate = read_file(home.identity_certificate)
    device_id, _ = load_trust(home).verify_certificate(certificate, now)
    return DeviceIdentity(device_id, load_private_key(home.identity_key), certificate)


def keep_certificates(
    home: DeviceHome, keys: DeviceKeys, trust: TrustRoot, *, identity: bytes, tls: bytes, now: float
) -> None:
    """Puts new certificates in the home, once both are shown to be for these keys. ``now`` is the server's time, so that a
    device with a wrong clock gets as far as being told so. Raises VerificationError.
    """
    device_id, key = trust.verify_certificate(identity, now)
    if key != keys.identity.public_key():
        raise VerificationError("the identity certificate is for another key")
    certificate = read_pem(tls)
    found = certificate.public_key()
    if not isinstance(found, ec.EllipticCurvePublicKey) or found != keys.tls.public_key():
        raise VerificationError("the TLS certificate is for another key")
    if certificate.subject.rfc4514_string() != f"CN={device_id}":
        raise VerificationError("the two certificates name different devices")
    write_file(home.identity_certificate, identity)
    write_file(home.tls_certificate, tls)


def keep_trust(home: DeviceHome, root: TrustRoot, *, now: float) -> None:
    """Puts a trust root, and the TLS authorities that it accepts at ``now``, in the home."""
    write_file(home.tls_authority, root.tls_authorities(now))
    write_file(home.trust, root.to_bytes())


def keep_revocations(home: DeviceHome, trust: TrustRoot, data: bytes, *, now: float) -> RevocationList:
    """Puts a revocation list in the home. Raises VerificationError for a forged one and for one older than that there."""
    fresh = trust.read_revocations(data, now)
    if home.revocations.is_file():
        try:
            kept = trust.read_revocations(read_file(home.revocations, max_bytes=MAX_DOCUMENT_BYTES), 0.0)
        except VerificationError:  # by an authority that is trusted no more: nothing to compare with
            kept = RevocationList(0, 0.0, frozenset())
        if (fresh.number, fresh.issued_at) < (kept.number, kept.issued_at) or not kept.device_ids <= fresh.device_ids:
            raise VerificationError(
                f"revocation list {fresh.number} of {fresh.issued_at:.0f} is older than list {kept.number} on this device"
            )
    write_file(home.revocations, data)
    return fresh


def _node_key(home: DeviceHome) -> ec.EllipticCurvePrivateKey:
    if not home.node_key.exists():
        key = ec.generate_private_key(ec.SECP384R1())
        write_file(home.node_key, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    try:
        found = load_ssh_private_key(read_file(home.node_key), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(f"the key file {home.node_key} is not an OpenSSH private key") from None
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise InputError(f"the key file {home.node_key} holds another kind of key than ECDSA")
    return found
