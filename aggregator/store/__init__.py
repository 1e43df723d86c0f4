"""The aggregator's database: what must survive a crash, and what the console shows."""

from aggregator.store.audit import AuditRow
from aggregator.store.controls import Controls
from aggregator.store.database import DEFAULT_RUN, Database, StoreError
from aggregator.store.events import EventRow, PhaseRow
from aggregator.store.releases import RolloutRow
from aggregator.store.retention import Keep
from aggregator.store.rows import (
    AccountRow,
    AttemptRow,
    CertificateRow,
    DropoutRow,
    LoginSessionRow,
    RecordRow,
    ReleaseRow,
    RoundRow,
)

__all__ = [
    "DEFAULT_RUN",
    "AccountRow",
    "AttemptRow",
    "AuditRow",
    "CertificateRow",
    "Controls",
    "Database",
    "DropoutRow",
    "EventRow",
    "Keep",
    "LoginSessionRow",
    "PhaseRow",
    "RecordRow",
    "ReleaseRow",
    "RolloutRow",
    "RoundRow",
    "StoreError",
]
