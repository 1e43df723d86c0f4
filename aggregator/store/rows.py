"""What goes into the store and comes out of it: plain immutable values, so that nobody depends on an open session."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRow:
    """A round. ``seconds`` by phase; ``metrics`` is any JSON object. Times in UNIX seconds."""

    round: int
    state: str
    attempts: int = 0
    cohort: int = 0
    survivors: int = 0
    started: float
    finished: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    release: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One try at one session of a round; ``purpose`` tells the update's session from the certificate's."""

    round: int
    attempt: int
    purpose: str
    outcome: str
    reason: str = ""
    cohort: int
    survivors: int
    started: float
    finished: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DropoutRow:
    """A device that left an attempt."""

    round: int
    attempt: int
    purpose: str
    device_id: str
    stage: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRow:
    """A published release."""

    release_id: str
    version: int
    round: int
    parent: str | None
    published: float
    manifest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRow:
    """A certificate document: ``state`` is certified, empirical or none."""

    release_id: str
    state: str
    issued: float
    document: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRow:
    """A signed record of the round log; ``session`` in hexadecimal."""

    round: int
    attempt: int
    session: str
    record: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """Who may log in to the console: with a password, or as ``subject`` of an OpenID provider. Times in UNIX seconds."""

    name: str
    role: str
    created: float
    disabled: float | None = None
    password_hash: str | None = None
    issuer: str | None = None
    subject: str | None = None
    token_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginSessionRow:
    """A browser that is logged in, by its cookie's hash."""

    token_hash: str
    account: str
    started: float
    seen: float
