"""Who belongs to the fleet: the certificate authority in a folder, the key of each device, and who was revoked.

An id belongs to the first key that enrolled under it: another key never gets a certificate for that id, and a revoked id
never gets one again. Whether a new device may join at all is decided by whoever calls ``issue``.

Join tokens: random, single use, good for minutes. Only their hashes are stored.

A token is bound to the keys that it was first used with, in the same transaction that makes their certificates. The device
that lost the reply asks again with the same keys and gets the same certificates; any other keys get nothing.
"""

import secrets
import sqlite3
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from aggregator.fleet.keys import DEFAULT_CA_NAME
from aggregator.fleet.tables import Tables
from fedge.errors import InputError, VerificationError
from fedge.identity import DEFAULT_LIFETIME_S, EnrolmentRequest, RevocationList, issue_certificate
from fedge.identity.join import TOKEN_BYTES

TOKEN_LIFETIME_S = 15 * 60.0
_KEPT_S = 7 * 24 * 3600.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS token (
    hash BLOB PRIMARY KEY,
    expires_at REAL NOT NULL,
    used_at REAL,
    digest BLOB,
    device_id TEXT,
    identity BLOB,
    tls BLOB
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token. The last four fields are None until it is used."""

    expires_at: float
    used_at: float | None
    digest: bytes | None
    device_id: str | None
    identity: bytes | None
    tls: bytes | None

    @property
    def is_answered(self) -> bool:
        """Whether certificates were made for it."""
        return self.identity is not None


def new_token(connection: sqlite3.Connection, *, now: float, lifetime_s: float = TOKEN_LIFETIME_S) -> bytes:
    """A fresh token; forgets those that were over a week ago."""
    token = secrets.token_bytes(TOKEN_BYTES)
    connection.execute("DELETE FROM token WHERE expires_at < ?", (now - _KEPT_S,))
    connection.execute("INSERT INTO token (hash, expires_at) VALUES (?, ?)", (_hash(token), now + lifetime_s))
    return token


def find_token(connection: sqlite3.Connection, token: bytes) -> Token | None:
    """What is known of this token. Its hash is looked up, so the time that takes tells nothing about other tokens."""
    row = connection.execute(
        "SELECT expires_at, used_at, digest, device_id, identity, tls FROM token WHERE hash = ?", (_hash(token),)
    ).fetchone()
    return None if row is None else Token(**dict(row))


def use_token(
    connection: sqlite3.Connection, token: bytes, *, now: float, digest: bytes, device_id: str, identity: bytes, tls: bytes
) -> None:
    """Binds an unused token to the wish with this digest and keeps what was issued for it."""
    connection.execute(
        "UPDATE token SET used_at = ?, digest = ?, device_id = ?, identity = ?, tls = ? "
        "WHERE hash = ? AND identity IS NULL",
        (now, digest, device_id, identity, tls, _hash(token)),
    )


def reserve_token(connection: sqlite3.Connection, token: bytes, *, now: float, digest: bytes, device_id: str) -> None:
    """Bind an unused token to the wish with this digest while its certificates wait to be signed on another machine."""
    connection.execute(
        "UPDATE token SET used_at = ?, digest = ?, device_id = ? WHERE hash = ? AND digest IS NULL",
        (now, digest, device_id, _hash(token)),
    )


def _hash(token: bytes) -> bytes:
    return sha256(b"fedge/join-token/1" + token).digest()


CLOCK_SKEW_S = 300.0
"""How far a device's clock may lag behind: certificates are valid from that much before they were made."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS device (
    device_id TEXT PRIMARY KEY,
    public_key BLOB NOT NULL,
    enrolled_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    issued INTEGER NOT NULL,
    revoked_at REAL,
    reason TEXT
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class EnrolledDevice:
    """One device as the authority knows it. Times in UNIX seconds."""

    device_id: str
    public_key: bytes
    enrolled_at: float
    expires_at: float
    issued: int
    """Certificates made so far."""
    revoked_at: float | None
    reason: str | None


class Enrolment:
    """The enrolment authority. Safe to use from several threads and processes at once."""

    def __init__(self, folder: Path, authority_key: Ed25519PrivateKey | None, *, ca_name: str = DEFAULT_CA_NAME) -> None:
        self._key = authority_key
        self.ca_name = ca_name
        self._tables = Tables(folder / "enrolment.sqlite", _SCHEMA)
        self._tables.create()

    def issue(self, request: bytes, *, now: float, lifetime_s: float = DEFAULT_LIFETIME_S) -> bytes:
        """A certificate (DER) for the device that made ``request``. Raises VerificationError when it may not have one."""
        with self._tables.write() as connection:
            return self.issue_within(connection, request, now=now, lifetime_s=lifetime_s)

    def issue_within(self, connection: sqlite3.Connection, request: bytes, *, now: float, lifetime_s: float) -> bytes:
        """As ``issue``, inside a write transaction of the caller's on the same file."""
        wish = EnrolmentRequest.from_bytes(request)
        key = wish.verify()
        if wish.ca_name != self.ca_name:
            raise VerificationError(f"enrolment of {wish.device_id}: made for {wish.ca_name[:80]!r}, not {self.ca_name!r}")
        known = find_device(connection, wish.device_id)
        if known is not None and known.revoked_at is not None:
            raise VerificationError(f"enrolment of {wish.device_id}: revoked ({known.reason})")
        if known is not None and known.public_key != wish.public_key:
            raise VerificationError(f"enrolment of {wish.device_id}: the id belongs to another key: choose another id")
        certificate, not_after = self._certify(connection, wish, key, now=now, lifetime_s=lifetime_s)
        connection.execute(
            "INSERT INTO device VALUES (?, ?, ?, ?, 1, NULL, NULL) "
            "ON CONFLICT (device_id) DO UPDATE SET issued = issued + 1, expires_at = excluded.expires_at",
            (wish.device_id, wish.public_key, now, not_after),
        )
        return certificate

    def revoke(self, device_id: str, *, now: float, reason: str) -> None:
        """Bars ``device_id`` for good. Raises InputError for an unknown one; revoking twice changes nothing."""
        with self._tables.write() as connection:
            if find_device(connection, device_id) is None:
                raise InputError(f"no device {device_id[:80]!r} is enrolled here")
            connection.execute(
                "UPDATE device SET revoked_at = ?, reason = ? WHERE device_id = ? AND revoked_at IS NULL",
                (now, reason, device_id),
            )

    def revocation_list(self, *, now: float) -> RevocationList:
        """Everyone revoked so far. Sign it with ``signed_revocation_list`` before it leaves this machine."""
        with self._tables.read() as connection:
            rows = connection.execute("SELECT device_id FROM device WHERE revoked_at IS NOT NULL").fetchall()
        revoked = frozenset(row["device_id"] for row in rows)
        # Nobody is ever taken off the list, so its length is a number that grows with every change.
        return RevocationList(len(revoked), now, revoked)

    def signed_revocation_list(self, *, now: float) -> bytes:
        """The list as devices take it."""
        return self.revocation_list(now=now).sign(self._authority_key())

    def device(self, device_id: str) -> EnrolledDevice | None:
        """The device enrolled as ``device_id``, or None."""
        with self._tables.read() as connection:
            return find_device(connection, device_id)

    def issue_ahead(self, *, now: float, until: float, lifetime_s: float) -> list[bytes]:
        """Return certificates (DER) for every device that is not revoked, so that one is young at any time up to ``until``.

        Each begins a quarter of its life after the one before: a device renews at two thirds of it at the latest.
        """
        key = self._authority_key()
        made: list[bytes] = []
        for device in self.devices():
            if device.revoked_at is not None:
                continue
            public_key = Ed25519PublicKey.from_public_bytes(device.public_key)
            not_before = max(0.0, now - 2 * CLOCK_SKEW_S)  # the clocks of server and device may both lag
            while not_before < until:
                span = {"not_before": not_before, "not_after": not_before + lifetime_s}
                made.append(issue_certificate(key, self.ca_name, device.device_id, public_key, **span))
                not_before += lifetime_s / 4
        return made

    def _certify(
        self,
        connection: sqlite3.Connection,
        request: EnrolmentRequest,
        key: Ed25519PublicKey,
        *,
        now: float,
        lifetime_s: float,
    ) -> tuple[bytes, float]:
        """Return a certificate (DER) that is valid now, and its end."""
        not_before = max(0.0, now - CLOCK_SKEW_S)
        span = {"not_before": not_before, "not_after": not_before + lifetime_s}
        return issue_certificate(self._authority_key(), self.ca_name, request.device_id, key, **span), span["not_after"]

    def _authority_key(self) -> Ed25519PrivateKey:
        if self._key is None:
            raise InputError("the enrollment key is on another machine: see docs/security.md")
        return self._key

    def devices(self) -> list[EnrolledDevice]:
        """All devices, by id."""
        with self._tables.read() as connection:
            rows = connection.execute("SELECT * FROM device ORDER BY device_id").fetchall()
        return [EnrolledDevice(**dict(row)) for row in rows]


def find_device(connection: sqlite3.Connection, device_id: str) -> EnrolledDevice | None:
    """The device enrolled as ``device_id``, or None."""
    row = connection.execute("SELECT * FROM device WHERE device_id = ?", (device_id,)).fetchone()
    return None if row is None else EnrolledDevice(**dict(row))
