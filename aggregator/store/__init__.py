"""The aggregator's database: what must survive a crash, and what the console shows."""

from aggregator.store.database import DEFAULT_RUN, Database, StoreError
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
    "CertificateRow",
    "Database",
    "DropoutRow",
    "LoginSessionRow",
    "RecordRow",
    "ReleaseRow",
    "RoundRow",
    "StoreError",
]
