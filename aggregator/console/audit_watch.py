"""The console's look at the audit's chain: all of it once, when the console starts; then only the rows that came since.

So a page costs the same however many acts there are. Old rows that change while the console runs are found by the whole
check alone: at its next start, or by `fedge server audit --verify`.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from aggregator.store.audit import AuditStore, Verified


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
