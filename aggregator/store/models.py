"""The tables. One database may hold several runs; every row belongs to one. Times are UNIX seconds, documents are bytes.

Nothing of a single device's data is stored: who took part and where someone dropped out, for as long as the retention of
rounds says, and sums. Only ``migrations`` changes the schema; these classes say what it must look like, and a test compares
the two.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, ForeignKeyConstraint, Index, Integer, LargeBinary, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_WIDE = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """Common metadata of all tables."""

    type_annotation_map = {  # noqa: RUF012 -- read by SQLAlchemy when a class is made
        float: Double(),
        bytes: LargeBinary(),
        str: String(),
        dict[str, Any]: JSON(),
    }


class Run(Base):
    """One federation, or one simulated run."""

    __tablename__ = "runs"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    config: Mapped[dict[str, Any]]


class Round(Base):
    """A round, running or finished."""

    __tablename__ = "rounds"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(40))
    attempts: Mapped[int]
    cohort: Mapped[int]
    survivors: Mapped[int]
    started: Mapped[float]
    finished: Mapped[float | None]
    seconds: Mapped[dict[str, Any]]
    release: Mapped[str | None] = mapped_column(String(64))
    metrics: Mapped[dict[str, Any]]


class Attempt(Base):
    """One try at one secure aggregation session of a round."""

    __tablename__ = "attempts"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    purpose: Mapped[str] = mapped_column(String(40), primary_key=True)
    outcome: Mapped[str] = mapped_column(String(40))
    reason: Mapped[str]
    cohort: Mapped[int]
    survivors: Mapped[int]
    started: Mapped[float]
    finished: Mapped[float]


class Cohort(Base):
    """A device on the roster of an attempt, whether it stayed to the end or not."""

    __tablename__ = "cohorts"
    id: Mapped[int] = mapped_column(_WIDE, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    round: Mapped[int]
    attempt: Mapped[int]
    purpose: Mapped[str] = mapped_column(String(40))
    device_id: Mapped[str] = mapped_column(String(64))
    __table_args__ = (Index("cohorts_of_a_round", "run_id", "round"),)


class Dropout(Base):
    """A device that left an attempt, the stage at which it did, and why as far as the aggregator can tell."""

    __tablename__ = "dropouts"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    round: Mapped[int]
    attempt: Mapped[int]
    purpose: Mapped[str] = mapped_column(String(40))
    device_id: Mapped[str] = mapped_column(String(64))
    stage: Mapped[str] = mapped_column(String(40))
    reason: Mapped[str]
    __table_args__ = (Index("dropouts_of_a_round", "run_id", "round"),)


class Release(Base):
    """A published release; its files are in the registry. ``metrics``: the manifest's, so that a list reads no manifest."""

    __tablename__ = "releases"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    release_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int]
    round: Mapped[int]
    parent: Mapped[str | None] = mapped_column(String(64))
    published: Mapped[float]
    manifest: Mapped[bytes]
    metrics: Mapped[dict[str, Any] | None]


class Rollout(Base):
    """A step of a release's way to the fleet, under the number that the registry of releases gave it."""

    __tablename__ = "rollouts"
    id: Mapped[int] = mapped_column(_WIDE, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    number: Mapped[int]
    release_id: Mapped[str] = mapped_column(String(64))
    at: Mapped[float]
    step: Mapped[str] = mapped_column(String(40))
    origin: Mapped[str | None] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(40))
    share: Mapped[float | None]
    reason: Mapped[str]
    actor: Mapped[str | None] = mapped_column(String(200))
    __table_args__ = (
        Index("rollouts_once", "run_id", "number", "release_id", "at", unique=True),
        Index("rollouts_of_a_release", "run_id", "release_id"),
    )


class Certificate(Base):
    """A signed certificate document of a release."""

    __tablename__ = "certificates"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int]
    release_id: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(40))
    issued: Mapped[float]
    document: Mapped[bytes]
    __table_args__ = (
        ForeignKeyConstraint(["run_id", "release_id"], ["releases.run_id", "releases.release_id"]),
        Index("certificates_of_a_release", "run_id", "release_id"),
    )


class Record(Base):
    """A signed record of the round log: which session gave which sum."""

    __tablename__ = "records"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    round: Mapped[int]
    attempt: Mapped[int]
    session: Mapped[str] = mapped_column(String(64))
    record: Mapped[bytes]
    __table_args__ = (
        Index("records_by_session", "run_id", "session", unique=True),
        Index("records_of_a_round", "run_id", "round"),
    )


class Ledger(Base):
    """A row of the cost ledger."""

    __tablename__ = "ledger"
    id: Mapped[int] = mapped_column(_WIDE, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    round: Mapped[int]
    at: Mapped[float]
    payer: Mapped[str] = mapped_column(String(40))
    kind: Mapped[str] = mapped_column(String(40))
    quantity: Mapped[float]
    unit: Mapped[str] = mapped_column(String(40))
    price_usd: Mapped[float]
    amount_usd: Mapped[float]
    __table_args__ = (Index("ledger_of_a_round", "run_id", "round"), Index("ledger_by_time", "run_id", "at"))


class LedgerSum(Base):
    """What the ledger's rows of a round add up to; kept beside them, so that a page never scans the ledger."""

    __tablename__ = "ledger_sums"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    payer: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(40), primary_key=True)
    amount_usd: Mapped[float]


class RoundPhase(Base):
    """A phase of an attempt, while it lasts and after."""

    __tablename__ = "round_phases"
    id: Mapped[int] = mapped_column(_WIDE, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    round: Mapped[int]
    attempt: Mapped[int]
    purpose: Mapped[str] = mapped_column(String(40))
    phase: Mapped[str] = mapped_column(String(40))
    started: Mapped[float]
    finished: Mapped[float | None]
    expected: Mapped[int]
    reported: Mapped[int]
    needed: Mapped[int]
    __table_args__ = (Index("phases_of_a_round", "run_id", "round"),)


class Event(Base):
    """Something that happened. Numbers are never given again, so that a reader can go on after the last one it saw."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(_WIDE, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    at: Mapped[float]
    kind: Mapped[str] = mapped_column(String(80))
    round: Mapped[int]
    text: Mapped[str]
    detail: Mapped[dict[str, Any]]
    __table_args__ = (
        Index("events_by_kind", "run_id", "kind", "id"),
        Index("events_by_time", "run_id", "at"),
        {"sqlite_autoincrement": True},
    )


class Control(Base):
    """What an operator wants of the rounds."""

    __tablename__ = "controls"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    state: Mapped[str] = mapped_column(String(40))
    cohort: Mapped[int | None]
    period_s: Mapped[float | None]
    asked_now: Mapped[int]
    readmissions: Mapped[dict[str, int] | None] = mapped_column(JSON)
    changed_by: Mapped[str] = mapped_column(String(200))
    at: Mapped[float]


class Audit(Base):
    """What an operator did. Only added to: a trigger of the database refuses all else. ``detail``: JSON as it was hashed."""

    __tablename__ = "audit"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[float]
    actor: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(40))
    action: Mapped[str] = mapped_column(String(80))
    target: Mapped[str]
    reason: Mapped[str]
    detail: Mapped[str]
    hash: Mapped[str] = mapped_column(String(64))


class Account(Base):
    """Who may log in to the console: by a password, or as an OpenID provider's subject. Secrets as hashes alone."""

    __tablename__ = "accounts"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    role: Mapped[str] = mapped_column(String(40))
    created: Mapped[float]
    disabled: Mapped[float | None]
    password_hash: Mapped[str | None]
    issuer: Mapped[str | None]
    subject: Mapped[str | None]
    token_hash: Mapped[str | None] = mapped_column(String(64))
    __table_args__ = (
        Index("accounts_by_subject", "run_id", "issuer", "subject", unique=True),
        Index("accounts_by_token", "run_id", "token_hash", unique=True),
    )


class LoginSession(Base):
    """A browser that is logged in, by its cookie's hash."""

    __tablename__ = "login_sessions"
    run_id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    account: Mapped[str] = mapped_column(String(200))
    started: Mapped[float]
    seen: Mapped[float]
    __table_args__ = (
        ForeignKeyConstraint(["run_id", "account"], ["accounts.run_id", "accounts.name"]),
        Index("login_sessions_of_an_account", "run_id", "account"),
    )


class RunState(Base):
    """The one serialized state from which a run goes on."""

    __tablename__ = "run_state"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    round: Mapped[int]
    state: Mapped[bytes]
