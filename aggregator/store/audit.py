"""The audit: what operators did, one row each, chained by hashes, so that no row can be changed or taken out unseen.

A row's hash is the SHA-256 of the hash before it and of its own fields, each with its length in front. Rows are only
added: the database itself refuses to change or delete one (a trigger), and `broken` finds where someone did so all the same.
Who can write to the whole database can also write a new chain: keep the newest hash elsewhere to notice that.

The console's look at the audit's chain: all of it once, when the console starts; then only the rows that came since.

So a page costs the same however many acts there are. Old rows that change while the console runs are found by the whole
check alone: at its next start, or by `fedge server audit --verify`.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select, text
from sqlalchemy.orm import Session

from aggregator.store.models import Audit
from fedge.errors import FedgeError

Transaction = Callable[[str], AbstractContextManager[Session]]
FIRST = "0" * 64
MAX_ERROR = 500
_COLUMNS = (
    Audit.number,
    Audit.at,
    Audit.actor,
    Audit.role,
    Audit.action,
    Audit.target,
    Audit.reason,
    Audit.detail,
    Audit.hash,
)
_LOCK = "SELECT pg_advisory_xact_lock(28254, :run)"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One act. ``at``: UNIX seconds; ``detail``: any JSON object; ``hash``: over this row and the one before."""

    number: int
    at: float
    actor: str
    role: str
    action: str
    target: str
    reason: str
    detail: Mapping[str, Any]
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How far the chain holds: to row ``number`` with its ``hash``. ``broken_at``: the first row that does not follow."""

    number: int
    hash: str
    broken_at: int | None = None


class AuditStore:
    """Of one run. ``read`` and ``write`` begin a transaction for what is said in words."""

    def __init__(self, read: Transaction, write: Transaction, run_id: int) -> None:
        self._read = read
        self._write = write
        self._run_id = run_id

    def append(
        self,
        *,
        at: float,
        actor: str,
        role: str,
        action: str,
        target: str = "",
        reason: str = "",
        detail: Mapping[str, Any] | None = None,
    ) -> AuditRow:
        """Add an act at the end of the chain, whoever else adds one at the same time."""
        with self._write("add to the audit") as session:
            if session.get_bind().dialect.name == "postgresql":  # SQLite's writers lock first
                session.execute(text(_LOCK), {"run": self._run_id})
            last = session.scalar(self._rows().order_by(Audit.number.desc()).limit(1))
            number, before = (1, FIRST) if last is None else (last.number + 1, last.hash)
            plain = json.dumps(dict(detail or {}), sort_keys=True, separators=(",", ":"))
            row = Audit(
                run_id=self._run_id,
                number=number,
                at=at,
                actor=actor,
                role=role,
                action=action,
                target=target,
                reason=reason,
                detail=plain,
                hash="",
            )
            row.hash = _hash(before, row)
            session.add(row)
            return _value(row)

    def latest(self, count: int, *, before: int | None = None) -> list[AuditRow]:
        """The newest ``count`` acts, of those numbered below ``before`` where that is given, newest first."""
        wanted = self._rows() if before is None else self._rows().where(Audit.number < before)
        with self._read("read the audit") as session:
            return [_value(row) for row in session.scalars(wanted.order_by(Audit.number.desc()).limit(count))]

    @contextmanager
    def recorded(
        self,
        clock: Callable[[], float],
        *,
        actor: str,
        role: str,
        action: str,
        target: str,
        reason: str,
        detail: Mapping[str, Any] | None = None,
    ) -> Iterator[None]:
        """Writes down who does what to whom and why, before the block does it; what cannot be written down does not happen.

        An act that fails has a second row, ``ACTION.failed``, with the first one's number and what went wrong.
        """
        who = {"actor": actor, "role": role, "target": target, "reason": reason}
        row = self.append(at=clock(), action=action, detail=detail, **who)
        try:
            yield
        except BaseException as error:
            said = str(error) if isinstance(error, FedgeError) else getattr(error, "detail", None) or type(error).__name__
            failure = {"of": row.number, "error": " ".join(str(said).split())[:MAX_ERROR]}
            self.append(at=clock(), action=f"{action}.failed", detail=failure, **who)
            raise

    def broken(self) -> int | None:
        """The number of the first row that does not follow from the one before it; None where the whole chain holds."""
        return self.verified().broken_at

    def verified(self, since: "Verified | None" = None) -> "Verified":
        """What of the chain holds: all of it, or, where an earlier look is given, the rows that came ``since``.

        A look that goes on from an earlier one notices a change of the last row that it saw, not of those before.
        """
        number, before = (0, FIRST) if since is None else (since.number, since.hash)
        if since is not None and since.broken_at is not None:
            return since
        with self._read("verify the audit") as session:
            wanted = select(*_COLUMNS).where(Audit.run_id == self._run_id, Audit.number >= number).order_by(Audit.number)
            rows = iter(session.execute(wanted.execution_options(yield_per=1000)))
            if number:
                seen = next(rows, None)
                if seen is None or (seen.number, seen.hash) != (number, before):
                    return Verified(number=number, hash=before, broken_at=number)
            for row in rows:
                if row.number != number + 1 or row.hash != _hash(before, row):
                    return Verified(number=number, hash=before, broken_at=row.number)
                number, before = row.number, row.hash
        return Verified(number=number, hash=before)

    def _rows(self) -> Select[Audit]:
        return select(Audit).where(Audit.run_id == self._run_id)


def _hash(before: str, row: Any) -> str:
    fields = (before, str(row.number), repr(row.at), row.actor, row.role, row.action, row.target, row.reason, row.detail)
    digest = hashlib.sha256(b"fedge/audit/1")
    for field in fields:
        data = field.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def _value(row: Audit) -> AuditRow:
    return AuditRow(
        number=row.number,
        at=row.at,
        actor=row.actor,
        role=row.role,
        action=row.action,
        target=row.target,
        reason=row.reason,
        detail=json.loads(row.detail),
        hash=row.hash,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditCheck:
    """What was checked: the whole chain of ``whole`` rows at ``whole_at`` (UNIX seconds), and ``since`` rows after them."""

    broken_at: int | None
    whole: int
    whole_at: float
    since: int


class AuditWatch:
    """Over one chain, for as long as the process lives. Safe to use from several threads."""

    def __init__(self, audit: AuditStore, *, clock: Callable[[], float]) -> None:
        self._audit = audit
        self._lock = threading.Lock()
        self._whole_at = clock()
        self._whole = self._seen = audit.verified()

    def look(self) -> AuditCheck:
        """Check what came since the last look."""
        with self._lock:
            self._seen = seen = self._audit.verified(self._seen)
        return _check(seen, self._whole, self._whole_at)


def _check(seen: Verified, whole: Verified, whole_at: float) -> AuditCheck:
    return AuditCheck(broken_at=seen.broken_at, whole=whole.number, whole_at=whole_at, since=seen.number - whole.number)
