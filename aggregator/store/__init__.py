"""The aggregator's database: what must survive a crash, and what the console shows."""

from aggregator.store.database import DEFAULT_RUN, Database, StoreError
from aggregator.store.rows import AttemptRow, CertificateRow, DropoutRow, RecordRow, ReleaseRow, RoundRow

__all__ = [
    "DEFAULT_RUN",
    "AttemptRow",
    "CertificateRow",
    "Database",
    "DropoutRow",
    "RecordRow",
    "ReleaseRow",
    "RoundRow",
    "StoreError",
]
