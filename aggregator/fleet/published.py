"""What the authority publishes in the server's folder for the other parts, which must not read the authority's own.

The keys to trust, the TLS authorities to accept, the servers' certificate with its key, and who is revoked. The door brings
all of it up to date every minute; a command that changes something does so at once.

Which Flower node belongs to which device: read from the enrolment by the door, published for the rounds process.

The rounds process must not read the enrolment authority's folder, so the door writes the public node keys into a file of
their own. It does so as soon as it meets a device that the file lacks. Holds nothing secret.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from aggregator.fleet.authority import Authority
from aggregator.settings import ServerHome
from fedge.errors import FedgeError, InputError, VerificationError
from fedge.identity import RevocationList, TrustRoot
from fedge.identity.files import PUBLIC, load_or_create_ec_key, make_private_folder, read_file, write_file
from fedge.identity.tls import certificate_span, is_issued_by, key_bytes, read_pem
from fedge.release.document import MAX_DOCUMENT_BYTES

LOOK_EVERY_S = 0.5
MAX_FILE_BYTES = 16 << 20


class EnrolledNodes:
    """The door's side: `key` of a device, and the published file kept up to date."""

    def __init__(self, authority: Authority, home: ServerHome) -> None:
        self._authority = authority
        self._home = home
        self._keys: dict[str, bytes] = {}
        self._looked = -LOOK_EVERY_S
        self._lock = Lock()
        self.publish()

    def key(self, device_id: str) -> bytes | None:
        """The node key (PEM) enrolled for a device, as it is now or was half a second ago; None where there is none."""
        if time.monotonic() - self._looked >= LOOK_EVERY_S:
            self.publish()
        return self._keys.get(device_id)

    def publish(self) -> None:
        """Read the enrolment again, and write the file where something has changed."""
        with self._lock:
            listed = {
                member.device_id: member.node_key
                for device, member in self._authority.devices()
                if member is not None and device.revoked_at is None
            }
            data = json.dumps(listed, sort_keys=True).encode()
            path = self._home.nodes
            if not path.is_file() or path.read_bytes() != data:
                write_file(path, data, mode=PUBLIC)
            self._keys = _pem(listed)
            self._looked = time.monotonic()


class PublishedNodes:
    """The rounds process's side: the keys of all devices that may take part, read again when the file or the revocation
    list has changed.
    """

    def __init__(self, home: ServerHome) -> None:
        self._home = home
        self._revocations = PublishedRevocations(home)
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, bytes] = {}

    def __call__(self) -> Mapping[str, bytes]:
        """Node keys (PEM) by device id. Raises InputError for a file that cannot be read."""
        revoked = self._revocations.current().device_ids
        try:
            found = self._home.nodes.stat()
        except FileNotFoundError:
            return {}  # no device has joined yet
        stamp = found.st_mtime_ns, found.st_ino
        if stamp != self._stamp:
            try:
                self._keys = _pem(json.loads(read_file(self._home.nodes, max_bytes=MAX_FILE_BYTES)))
            except (ValueError, AttributeError) as error:
                raise InputError(f"{self._home.nodes} cannot be read ({error}): restart the door") from error
            self._stamp = stamp
        return {device: key for device, key in self._keys.items() if device not in revoked}


def _pem(listed: Mapping[str, str]) -> dict[str, bytes]:
    return {device: _one_pem(device, text) for device, text in listed.items()}


def _one_pem(device: str, text: str) -> bytes:
    try:
        return load_ssh_public_key(text.encode("ascii")).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FedgeError(f"the node key of device {device!r} cannot be read: enroll it again") from error


SERVER_LIFETIME_S = 7 * 24 * 3600.0
RENEW_AT = 2 / 3
_RESIGNED_AFTER_S = 3600.0


def publish(authority: Authority, home: ServerHome, names: tuple[str, ...], *, now: float) -> None:
    """Brings everything up to date. Writes only what has changed, each file in one step."""
    root = authority.trust()
    make_private_folder(home.tls)
    _write_if_changed(home.trust, root.to_bytes())
    _write_if_changed(home.tls / "ca.crt", root.tls_authorities(now))
    _keep_server_certificate(authority, home, names, now=now)
    _keep_revocations(authority, home, root, now=now)


class PublishedRevocations:
    """Who is revoked, by the published list: asked on every call, so a change counts from the next call on."""

    def __init__(self, home: ServerHome) -> None:
        self._home = home
        self._stamp: tuple[int, int] | None = None
        self._list = RevocationList(0, 0.0, frozenset())
        self._read()

    def is_revoked(self, device_id: str) -> bool:
        """Whether the device is barred."""
        return device_id in self.current().device_ids

    def current(self) -> RevocationList:
        """The newest list. Where the file cannot be read any more, the last one goes on counting."""
        with suppress(FedgeError):
            self._read()
        return self._list

    def _read(self) -> None:
        try:
            found = self._home.revocations.stat()
        except OSError as error:
            raise InputError(f"cannot read {self._home.revocations}: {error.strerror}: start the door first") from None
        stamp = found.st_mtime_ns, found.st_ino
        if stamp != self._stamp:
            root = TrustRoot.from_bytes(read_file(self._home.trust))
            data = read_file(self._home.revocations, max_bytes=MAX_DOCUMENT_BYTES)
            fresh = root.read_revocations(data, found.st_mtime)
            if fresh.number >= self._list.number:
                self._list = fresh
            self._stamp = stamp


def _keep_server_certificate(authority: Authority, home: ServerHome, names: tuple[str, ...], *, now: float) -> None:
    key = load_or_create_ec_key(home.tls / "server.key", ec.SECP256R1())
    path = home.tls / "server.crt"
    if path.is_file() and _is_good(path.read_bytes(), authority, key.public_key(), names, now=now):
        return
    certificate = authority.server_certificate(names, key.public_key(), now=now, lifetime_s=SERVER_LIFETIME_S)
    write_file(path, certificate, mode=PUBLIC)


def _is_good(
    pem: bytes, authority: Authority, key: ec.EllipticCurvePublicKey, names: tuple[str, ...], *, now: float
) -> bool:
    """Whether a server's certificate needs no renewal: of this authority, for this key and these names, young enough."""
    try:
        certificate = read_pem(pem)
        start, end = certificate_span(pem)
    except VerificationError:
        return False
    found = certificate.public_key()
    wanted = read_pem(authority.server_certificate(names, key, now=now, lifetime_s=SERVER_LIFETIME_S))
    return (
        start <= now < start + RENEW_AT * (end - start)
        and isinstance(found, ec.EllipticCurvePublicKey)
        and key_bytes(found) == key_bytes(key)
        and is_issued_by(certificate, read_pem(authority.tls.certificate))
        and certificate.extensions[-1].value == wanted.extensions[-1].value  # the alternative names come last
    )


def _keep_revocations(authority: Authority, home: ServerHome, root: TrustRoot, *, now: float) -> None:
    try:
        present = root.read_revocations(read_file(home.revocations, max_bytes=MAX_DOCUMENT_BYTES), now)
    except FedgeError:
        present = None
    if authority.is_presigned:
        signed = authority.signed_revocations(now=now)
        if present is None or read_file(home.revocations, max_bytes=MAX_DOCUMENT_BYTES) != signed:
            write_file(home.revocations, signed, mode=PUBLIC)
        return
    wanted = authority.enrolment.revocation_list(now=now)
    if present is None or present.device_ids != wanted.device_ids or now - present.issued_at > _RESIGNED_AFTER_S:
        write_file(home.revocations, authority.signed_revocations(now=now), mode=PUBLIC)


def _write_if_changed(path: Path, data: bytes) -> None:
    if not path.is_file() or path.read_bytes() != data:
        write_file(path, data, mode=PUBLIC)
