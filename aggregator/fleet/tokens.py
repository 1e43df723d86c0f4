"""Join tokens: random, single use, good for minutes. Only their hashes are stored.

A token is bound to the keys that it was first used with, in the same transaction that makes their certificates. The device
that lost the reply asks again with the same keys and gets the same certificates; any other keys get nothing.
"""

import secrets
import sqlite3
from dataclasses import dataclass
from hashlib import sha256

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
