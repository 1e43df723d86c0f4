"""The audit: what operators did, one row each, chained by hashes, so that no row can be changed or taken out unseen.

A row's hash is the SHA-256 of the hash before it and of its own fields, each with its length in front. Rows are only
added: the database itself refuses to change or delete one (a trigger), and `broken` finds where someone did so all the same.
Who can write to the whole database can also write a new chain: keep the newest hash elsewhere to notice that.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select, text
from sqlalchemy.orm import Session

from aggregator.store.models import Audit

Transaction = Callable[[str], AbstractContextManager[Session]]
FIRST = "0" * 64
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

    def broken(self) -> int | None:
        """The number of the first row that does not follow from the one before it; None where the whole chain holds."""
        before, expected = FIRST, 1
        with self._read("verify the audit") as session:
            for row in session.scalars(self._rows().order_by(Audit.number).execution_options(yield_per=1000)):
                if row.number != expected or row.hash != _hash(before, row):
                    return row.number
                before, expected = row.hash, expected + 1
        return None

    def _rows(self) -> Select[Audit]:
        return select(Audit).where(Audit.run_id == self._run_id)


def _hash(before: str, row: Audit) -> str:
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
