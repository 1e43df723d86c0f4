"""Enrollment where the enrollment key is on another machine: certificates and revocations come signed ahead of time.

The other machine signs, at each visit, certificates for some days for every device that it has enrolled, so that renewing
one every few hours needs nobody. Nothing here can make one.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aggregator.fleet.enrollment import CLOCK_SKEW_S, Enrolment
from fedge.errors import InputError
from fedge.identity import AWAITING_ENROLLMENT, EnrolmentRequest
from fedge.identity.files import make_private_folder, read_file, write_file
from fedge.release.document import MAX_DOCUMENT_BYTES

FOLDER = "signed"
_REVOCATIONS = "revocations"

SCHEMA = """
CREATE TABLE IF NOT EXISTS awaiting (
    device_id TEXT PRIMARY KEY,
    request BLOB NOT NULL,
    at REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS presigned (
    device_id TEXT NOT NULL,
    not_before REAL NOT NULL,
    not_after REAL NOT NULL,
    public_key BLOB NOT NULL,
    certificate BLOB NOT NULL,
    PRIMARY KEY (device_id, not_before)
) STRICT;
"""


class AwaitingEnrollmentError(InputError):
    """The other machine has signed no certificate for this device yet, or none for now."""


@dataclass(frozen=True, slots=True)
class PresignedCertificate:
    """A certificate (DER) from the other machine, verified. Times in UNIX seconds."""

    device_id: str
    public_key: bytes
    not_before: float
    not_after: float
    certificate: bytes


class PresignedEnrolment(Enrolment):
    """The records of devices, without the key that enrolls them."""

    def __init__(self, folder: Path, *, ca_name: str) -> None:
        super().__init__(folder, None, ca_name=ca_name)
        self._folder = folder / FOLDER

    def signed_revocation_list(self, *, now: float) -> bytes:
        """Return the newest list that the other machine signed."""
        return read_file(self._folder / _REVOCATIONS, max_bytes=MAX_DOCUMENT_BYTES)

    def _certify(
        self,
        connection: sqlite3.Connection,
        request: EnrolmentRequest,
        key: Ed25519PublicKey,
        *,
        now: float,
        lifetime_s: float,
    ) -> tuple[bytes, float]:
        row = connection.execute(
            "SELECT certificate, not_after FROM presigned WHERE device_id = ? AND public_key = ? "
            "AND not_before <= ? AND not_after > ? ORDER BY not_after DESC LIMIT 1",
            (request.device_id, request.public_key, now - CLOCK_SKEW_S, now),
        ).fetchone()
        if row is None:
            raise AwaitingEnrollmentError(
                f"device {request.device_id} {AWAITING_ENROLLMENT} on the machine that holds the enrollment key"
            )
        return bytes(row["certificate"]), float(row["not_after"])


def is_presigned(folder: Path) -> bool:
    """Return whether the authority in ``folder`` has its enrollment key on another machine."""
    return (folder / FOLDER).is_dir()


def make_presigned(folder: Path) -> None:
    """Let the authority in ``folder`` take what another machine signs from now on."""
    make_private_folder(folder / FOLDER)


def keep_signed_revocations(folder: Path, data: bytes) -> None:
    """Store a list that was verified."""
    write_file(folder / FOLDER / _REVOCATIONS, data)


def add_awaiting(connection: sqlite3.Connection, request: bytes, device_id: str, *, now: float) -> None:
    """Remember a device's request until the next visit; a newer one under the same id takes its place."""
    connection.execute(
        "INSERT INTO awaiting VALUES (?, ?, ?) ON CONFLICT (device_id) DO UPDATE SET request = excluded.request, "
        "at = excluded.at",
        (device_id, request, now),
    )


def list_awaiting(connection: sqlite3.Connection) -> list[bytes]:
    """Return the requests that wait, the oldest first."""
    return [bytes(row["request"]) for row in connection.execute("SELECT request FROM awaiting ORDER BY at, device_id")]


def add_presigned(connection: sqlite3.Connection, certificates: Iterable[PresignedCertificate], *, now: float) -> None:
    """Store certificates; drop the requests that they answer, and certificates that are over."""
    connection.execute("DELETE FROM presigned WHERE not_after <= ?", (now,))
    for one in certificates:
        connection.execute(
            "INSERT OR REPLACE INTO presigned VALUES (?, ?, ?, ?, ?)",
            (one.device_id, one.not_before, one.not_after, one.public_key, one.certificate),
        )
        connection.execute("DELETE FROM awaiting WHERE device_id = ?", (one.device_id,))
