"""The enrolment authority: who joins, with which certificates, who is shut out, and which keys the fleet is to trust.

It owns two signing keys, neither of which is the aggregator's: Ed25519 for identities, ECDSA P-256 for TLS. Of all server
processes the door alone opens it; the commands that an operator gives (`fedge devices`, `fedge keys`) do, too.
"""

import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from aggregator.fleet.enrollment import (
    CLOCK_SKEW_S,
    TOKEN_LIFETIME_S,
    EnrolledDevice,
    Enrolment,
    Token,
    find_device,
    find_token,
    new_token,
    reserve_token,
    use_token,
)
from aggregator.fleet.enrollment import SCHEMA as TOKEN_SCHEMA
from aggregator.fleet.heartbeat import SCHEMA as PRESENCE_SCHEMA
from aggregator.fleet.heartbeat import Report, keep_reports
from aggregator.fleet.inventory import EVERYONE, Standing, Wanted, counted, listed, matching, standing
from aggregator.fleet.keys import load_or_create
from aggregator.fleet.presigned import SCHEMA as PRESIGNED_SCHEMA
from aggregator.fleet.presigned import (
    AwaitingEnrollmentError,
    PresignedCertificate,
    PresignedEnrolment,
    add_awaiting,
    add_presigned,
    is_presigned,
    keep_signed_revocations,
    list_awaiting,
)
from aggregator.fleet.tables import Tables
from aggregator.fleet.trust_log import TrustLog
from fedge.errors import InputError, VerificationError
from fedge.identity import DEFAULT_LIFETIME_S, TlsAnchor, TlsAuthority, TrustRoot, new_tls_authority
from fedge.identity.files import load_ec_key, make_private_folder, read_file, write_file
from fedge.identity.tls import certificate_span, der_span, read_pem
from fedge.identity.trust import FOREVER
from fedge.identity.wish import VerifiedWish, Wish
from fedge.release import load_private_key

TLS_AUTHORITY_LIFETIME_S = 10 * 365 * 24 * 3600.0
_USED = "this join token was used by another device: make a new one with `fedge devices token`"
ABSENCE_S = 30 * 24 * 3600.0
"""How long after its certificates ran out a device may come back without a new token."""

_MEMBER_SCHEMA = """
CREATE TABLE IF NOT EXISTS member (
    device_id TEXT PRIMARY KEY,
    tls_key BLOB NOT NULL,
    node_key TEXT NOT NULL,
    trust_number INTEGER NOT NULL,
    seen_at REAL NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Certificates:
    """What a device is given: DER and PEM."""

    identity: bytes
    tls: bytes


@dataclass(frozen=True, slots=True)
class Member:
    """What is known of a device beside its enrolment."""

    device_id: str
    tls_key: bytes
    node_key: str
    trust_number: int
    """The newest trust root that it has asked for the successor of."""
    seen_at: float


@dataclass(frozen=True, slots=True)
class _Keys:
    tls: TlsAuthority
    enrolment: Enrolment


class Authority:
    """The authority in a folder. Safe to use from several threads and processes; a rotation by one is seen by the others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = TrustLog(folder / "trust")
        if not self.log.exists():
            raise InputError(f"no enrolment authority in {folder}: run `fedge server init` first")
        schema = TOKEN_SCHEMA + _MEMBER_SCHEMA + PRESENCE_SCHEMA + PRESIGNED_SCHEMA
        self._tables = Tables(folder / "enrolment.sqlite", schema)
        self._tables.create()
        self._known: tuple[object, _Keys] | None = None

    @staticmethod
    def found(
        folder: Path, *, name: str, release_key: Ed25519PublicKey, round_key: Ed25519PublicKey, now: float
    ) -> "Authority":
        """The authority in ``folder``, made there where it is missing. ``name`` begins its own name."""
        make_private_folder(folder)
        log = TrustLog(folder / "trust")
        if not log.exists():
            identity = load_or_create(folder / "identity.pem")
            if not (folder / "tls.crt").exists():
                save_tls_authority(folder, "tls", new_tls_authority(not_before=now - CLOCK_SKEW_S, not_after=_end(now)))
            anchor = TlsAnchor(tls_der(read_file(folder / "tls.crt")), FOREVER)
            ca_name = f"{name[:40]}-{secrets.token_hex(4)}"
            log.begin(TrustRoot(ca_name, identity.public_key(), release_key, round_key, tls_anchors=(anchor,)))
        return Authority(folder)

    @property
    def enrolment(self) -> Enrolment:
        """The records of devices."""
        return self._keys().enrolment

    @property
    def tls(self) -> TlsAuthority:
        """The TLS authority that issues at present."""
        return self._keys().tls

    def trust(self) -> TrustRoot:
        """The present trust root."""
        return self.log.newest()

    def new_token(self, *, now: float, lifetime_s: float = TOKEN_LIFETIME_S) -> bytes:
        """A join token, to be used once."""
        with self._tables.write() as connection:
            return new_token(connection, now=now, lifetime_s=lifetime_s)

    def join(self, token: bytes, wish: Wish, *, now: float, lifetime_s: float = DEFAULT_LIFETIME_S) -> Certificates:
        """Certificates for the first wish that shows ``token``, the same ones each time it asks. VerificationError."""
        keys = self._keys()
        with self._tables.read() as connection:  # so that guessing tokens costs neither a lock nor a signature
            found = _check_token(find_token(connection, token), now=now)
            verified = wish.verify()
            if found.is_answered:
                return _again(connection, found, verified, now=now)
        try:
            return self._join(token, wish, verified, keys, now=now, lifetime_s=lifetime_s)
        except AwaitingEnrollmentError:
            with self._tables.write() as connection:
                reserve_token(connection, token, now=now, digest=verified.digest, device_id=verified.device_id)
                add_awaiting(connection, wish.identity_request, verified.device_id, now=now)
            raise

    def _join(
        self, token: bytes, wish: Wish, verified: VerifiedWish, keys: _Keys, *, now: float, lifetime_s: float
    ) -> Certificates:
        with self._tables.write() as connection:
            found = _check_token(find_token(connection, token), now=now)
            if found.is_answered:
                return _again(connection, found, verified, now=now)
            if found.digest is not None and found.digest != verified.digest:
                raise VerificationError(_USED)
            certificates = _issue(connection, keys, wish, verified, now=now, lifetime_s=lifetime_s)
            use_token(
                connection,
                token,
                now=now,
                digest=verified.digest,
                device_id=verified.device_id,
                identity=certificates.identity,
                tls=certificates.tls,
            )
            _remember(connection, verified, number=self.trust().number, now=now)
        return certificates

    def renew(self, wish: Wish, *, now: float, lifetime_s: float = DEFAULT_LIFETIME_S, caller: str | None) -> Certificates:
        """New certificates for a member, for the keys that it joined with. ``caller``: the id in its present certificate,
        or None for a device that comes back after its certificates ran out. Raises VerificationError.
        """
        keys = self._keys()
        verified = wish.verify()
        if caller is not None and verified.device_id != caller:
            raise VerificationError(f"the caller's certificate does not name device {verified.device_id}")
        with self._tables.read() as connection:  # so that a stranger's wish costs neither a lock nor a signature
            _check_member(connection, verified, now=now, is_back=caller is None)
        with self._tables.write() as connection:
            _check_member(connection, verified, now=now, is_back=caller is None)
            certificates = _issue(connection, keys, wish, verified, now=now, lifetime_s=lifetime_s)
            connection.execute("UPDATE member SET seen_at = ? WHERE device_id = ?", (now, verified.device_id))
        return certificates

    def revoke(self, device_id: str, *, now: float, reason: str) -> None:
        """Bars a device for good. Raises InputError for an unknown one. Publish afterwards: see `published`."""
        self.enrolment.revoke(device_id, now=now, reason=reason)

    def signed_revocations(self, *, now: float) -> bytes:
        """The present list, as devices take it."""
        return self.enrolment.signed_revocation_list(now=now)

    @property
    def is_presigned(self) -> bool:
        """Whether the enrollment key is on another machine, which signs ahead of time."""
        return is_presigned(self.folder)

    def awaiting(self) -> list[bytes]:
        """Return the certificate requests that wait for the other machine, the oldest first."""
        with self._tables.read() as connection:
            return list_awaiting(connection)

    def take_signed(self, revocations: bytes, certificates: list[bytes], *, now: float) -> None:
        """Take what the other machine signed. Raises VerificationError, before anything is stored."""
        root = self.trust()
        fresh = root.read_revocations(revocations, now)
        if fresh.issued_at < root.read_revocations(self.signed_revocations(now=now), now).issued_at:
            raise VerificationError("the reply is older than the last one that was imported: sign a new request")
        verified = [_read_presigned(root, certificate) for certificate in certificates]
        with self._tables.write() as connection:
            add_presigned(connection, verified, now=now)
        for device, _ in self.devices():
            if device.device_id in fresh.device_ids:
                self.enrolment.revoke(device.device_id, now=now, reason="revoked on the signing machine")
        keep_signed_revocations(self.folder, revocations)

    def note_trust(self, device_id: str, number: int, *, now: float) -> None:
        """Remember that a device holds trust root ``number``."""
        with self._tables.write() as connection:
            connection.execute(
                "UPDATE member SET trust_number = ?, seen_at = ? WHERE device_id = ?", (number, now, device_id)
            )

    def devices(self) -> list[tuple[EnrolledDevice, Member | None]]:
        """All devices by id."""
        with self._tables.read() as connection:
            rows = connection.execute("SELECT * FROM member").fetchall()
        members = {row["device_id"]: Member(**dict(row)) for row in rows}
        return [(device, members.get(device.device_id)) for device in self.enrolment.devices()]

    def note_reports(self, reports: Mapping[str, Report]) -> None:
        """Remember what devices say of themselves, each in the place of what it said before."""
        self._keys()  # which makes the table of devices
        with self._tables.write() as connection:
            keep_reports(connection, reports)

    def listed(self, wanted: Wanted = EVERYONE, *, now: float, **part: Any) -> list[dict[str, Any]]:
        """Devices as `census.listed` gives them, by the same arguments."""
        self._keys()
        with self._tables.read() as connection:
            return listed(connection, wanted, now=now, **part)

    def matching(self, wanted: Wanted, *, now: float) -> int:
        """How many are ``wanted``."""
        self._keys()
        with self._tables.read() as connection:
            return matching(connection, wanted, now=now)

    def counted(self, *, now: float) -> Mapping[str, int]:
        """Devices by state."""
        self._keys()
        with self._tables.read() as connection:
            return counted(connection, now=now)

    def standing(self, *, now: float) -> Standing:
        """How members stand, by their newest reports."""
        self._keys()
        with self._tables.read() as connection:
            return standing(connection, now=now)

    def server_certificate(
        self, names: tuple[str, ...], key: ec.EllipticCurvePublicKey, *, now: float, lifetime_s: float
    ) -> bytes:
        """PEM for one of the server's own parts."""
        return self.tls.server_certificate(names, key, not_before=now - CLOCK_SKEW_S, not_after=now + lifetime_s)

    def _keys(self) -> _Keys:
        stamp = tuple(_stamp(self.folder / name) for name in ("identity.pem", "tls.key", "tls.crt", "trust"))
        if self._known is None or self._known[0] != stamp:
            tls = TlsAuthority(load_ec_key(self.folder / "tls.key"), read_file(self.folder / "tls.crt"))
            root = self.trust()
            identity = None if self.is_presigned else load_private_key(self.folder / "identity.pem")
            is_issuing = identity is None or root.authority_key == identity.public_key()
            if not is_issuing or root.tls_anchors[0].certificate != tls_der(tls.certificate):
                raise InputError(f"{self.folder}: a rotation was cut short: run the same `fedge keys` command again")
            enrolment = (
                PresignedEnrolment(self.folder, ca_name=root.ca_name)
                if identity is None
                else Enrolment(self.folder, identity, ca_name=root.ca_name)
            )
            self._known = stamp, _Keys(tls, enrolment)
        return self._known[1]


def save_tls_authority(folder: Path, name: str, authority: TlsAuthority) -> None:
    """Writes ``name.key`` (mode 0600) and then ``name.crt``."""
    pem = authority.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_file(folder / f"{name}.key", pem)
    write_file(folder / f"{name}.crt", authority.certificate)


def tls_der(pem: bytes) -> bytes:
    """The DER form of a PEM certificate."""
    return read_pem(pem).public_bytes(Encoding.DER)


def _check_token(found: Token | None, *, now: float) -> Token:
    if found is None:
        raise VerificationError("this join token is not known here: make a new one with `fedge devices token`")
    if found.digest is None and now >= found.expires_at:
        raise VerificationError("this join token has expired: make a new one with `fedge devices token`")
    return found


def _again(connection: sqlite3.Connection, found: Token, wish: VerifiedWish, *, now: float) -> Certificates:
    """What was issued for the token before, if it is the same device that asks."""
    if found.digest != wish.digest or found.identity is None or found.tls is None:
        raise VerificationError(_USED)
    device = find_device(connection, wish.device_id)
    if device is None or device.revoked_at is not None:
        raise VerificationError(f"device {wish.device_id} is revoked")
    if now >= certificate_span(found.tls)[1]:
        raise VerificationError("this join token has expired: make a new one with `fedge devices token`")
    return Certificates(found.identity, found.tls)


def _check_member(connection: sqlite3.Connection, wish: VerifiedWish, *, now: float, is_back: bool) -> None:
    """``is_back``: after its certificates ran out. Raises VerificationError for who is no member, or for too long."""
    device, member = find_device(connection, wish.device_id), _find_member(connection, wish.device_id)
    if device is None or member is None:
        raise VerificationError(f"device {wish.device_id} never joined: enroll it with a join string")
    if (wish.tls_key, wish.node_key) != (member.tls_key, member.node_key):
        raise VerificationError(f"device {wish.device_id} joined with other keys: enroll it with a join string")
    if is_back and now > device.expires_at + ABSENCE_S:
        raise VerificationError(f"device {wish.device_id} was away too long: enroll it with a join string")


def _issue(
    connection: sqlite3.Connection, keys: _Keys, wish: Wish, verified: VerifiedWish, *, now: float, lifetime_s: float
) -> Certificates:
    identity = keys.enrolment.issue_within(connection, wish.identity_request, now=now, lifetime_s=lifetime_s)
    not_before = max(0.0, now - CLOCK_SKEW_S)
    tls = keys.tls.device_certificate(
        verified.device_id, verified.tls_public_key, not_before=not_before, not_after=not_before + lifetime_s
    )
    return Certificates(identity, tls)


def _remember(connection: sqlite3.Connection, wish: VerifiedWish, *, number: int, now: float) -> None:
    connection.execute(
        "INSERT INTO member VALUES (?, ?, ?, ?, ?) ON CONFLICT (device_id) DO UPDATE SET tls_key = excluded.tls_key, "
        "node_key = excluded.node_key, trust_number = excluded.trust_number, seen_at = excluded.seen_at",
        (wish.device_id, wish.tls_key, wish.node_key, number, now),
    )


def _find_member(connection: sqlite3.Connection, device_id: str) -> Member | None:
    row = connection.execute("SELECT * FROM member WHERE device_id = ?", (device_id,)).fetchone()
    return None if row is None else Member(**dict(row))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _read_presigned(root: TrustRoot, certificate: bytes) -> PresignedCertificate:
    start, end = der_span(certificate)
    device_id, key = root.verify_certificate(certificate, start)
    return PresignedCertificate(device_id, key.public_bytes_raw(), start, end, certificate)


def _end(now: float) -> float:
    return now + TLS_AUTHORITY_LIFETIME_S
