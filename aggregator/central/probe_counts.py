"""Central's own counts of probes: three numbers a device, no text, given out as totals over a cohort only.

Central sees every probe's text when it answers it, so its counts are no secret from central. The aggregator gets from them
what it needs to hold secure sums against: the total for the roster of a session descriptor that its round key signed, if
at least ``n_min`` devices of it have something, and each device at most once a period. So no two totals share a probe, and
none differs from another by one device. At most the descriptor's ``probe_cap`` probes, and as many agreements, of one
device are given at a time: that is what one device can invent by asking central easy questions. The rest waits for later
periods.
"""

import hashlib
import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aggregator.central.release_scores import Score
from aggregator.fleet.tables import Tables
from fedge.calendar import Calendar
from fedge.errors import FedgeError
from fedge.features import Query, content_hash
from fedge.routing import ProbeTotals
from fedge.secagg import SecAggError, verify_descriptor

_log = logging.getLogger(__name__)

KEPT_PERIODS = 64
"""After so many periods without a probe or a total a device's numbers are forgotten."""
LEAST_ROSTER = 8
"""The smallest roster whose total is given, whatever settings say, but for demonstrations."""
_REMEMBERED = 100_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS probe_counts (
    device_id TEXT PRIMARY KEY,
    answered INTEGER NOT NULL,
    agreed INTEGER NOT NULL,
    disagreed INTEGER NOT NULL,
    period INTEGER NOT NULL,
    given INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS totals (
    session_id BLOB PRIMARY KEY,
    period INTEGER NOT NULL,
    answered INTEGER NOT NULL,
    agreed INTEGER NOT NULL,
    disagreed INTEGER NOT NULL
) STRICT;
"""
# `period`: the last one in which something happened; `given`: the last one in which the device stood in a total.
_COUNT = """INSERT INTO probe_counts VALUES (?, ?, ?, ?, ?, -1) ON CONFLICT (device_id) DO UPDATE SET
answered = answered + excluded.answered, agreed = agreed + excluded.agreed, disagreed = disagreed + excluded.disagreed,
period = excluded.period"""
_GIVE = """INSERT INTO probe_counts VALUES (?, 0, 0, 0, ?, ?) ON CONFLICT (device_id) DO UPDATE SET
answered = answered - ?, agreed = agreed - ?, disagreed = 0, period = excluded.period, given = excluded.given"""


class TotalsRefusedError(FedgeError):
    """Central gives no total for a roster."""


@dataclass(frozen=True, slots=True)
class AnsweredProbe:
    """A probe with central's answer."""

    device_id: str
    release_id: str
    query: Query
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalsPolicy:
    """Whose descriptors count, and which rosters: at least ``n_min`` devices, ``LEAST_ROSTER`` unless ``is_demo``."""

    round_key: Callable[[], Ed25519PublicKey]
    """The aggregator's present one: it may be replaced while central runs."""
    federation: str
    n_min: int
    calendar: Calendar
    is_demo: bool = False

    @property
    def least(self) -> int:
        """The smallest number of devices with something to tell that a total is given for."""
        return self.n_min if self.is_demo else max(self.n_min, LEAST_ROSTER)


class ScoresQueries(Protocol):
    """What a release's model says of queries: `aggregator.central.release_scores.ReleaseScores`."""

    def score(self, release_id: str, queries: Sequence[Query], *, now: float) -> list[Score]:
        """Return one score a query. Raises FedgeError."""
        ...


class ProbeCounts:
    """Counts in one SQLite file. Safe between threads. ``stored`` is a `snapshot` to begin with."""

    def __init__(self, path: Path, scores: ScoresQueries, policy: TotalsPolicy, *, stored: bytes | None = None) -> None:
        self._scores = scores
        self._policy = policy
        # Content that a device asked lately: a repetition is a probe again, but counts once, on the device as here. In
        # memory alone, since hashes of texts are no counts; after a restart a repetition may count twice, which no bound
        # minds.
        self._recent: OrderedDict[bytes, None] = OrderedDict()
        if stored is not None:
            size = int.from_bytes(stored[:8], "big")
            path.write_bytes(stored[8 : 8 + size])
            keys = stored[8 + size :]
            self._recent = OrderedDict.fromkeys(keys[start : start + 32] for start in range(0, len(keys), 32))
        self._tables = Tables(path, _SCHEMA)
        self._tables.create()
        self._lock = Lock()

    def count(self, probes: Sequence[AnsweredProbe], *, now: float) -> None:
        """Score and count probes that are about to be answered. Raises FedgeError where that cannot be stored.

        Probes under a release that is not published here count as answered only.
        """
        fresh = [probe for probe in probes if self._is_first(probe)]
        counts: dict[str, list[int]] = {}
        for release_id in dict.fromkeys(probe.release_id for probe in fresh):
            some = [probe for probe in fresh if probe.release_id == release_id]
            for probe, pair in zip(some, self._pairs(release_id, some, now), strict=True):
                count = counts.setdefault(probe.device_id, [0, 0, 0])
                count[0] += 1
                count[1] += pair == (True, True)
                count[2] += pair == (True, False)
        if not counts:
            return
        period = self._policy.calendar.period_at(now)
        with self._tables.write() as connection:
            connection.executemany(_COUNT, [(device, *count, period) for device, count in counts.items()])

    def roster_totals(self, descriptor: bytes, signature: bytes, *, now: float) -> ProbeTotals:
        """Return the total for a signed descriptor's roster; the same descriptor gets the same answer again.

        Raises TotalsRefusedError.
        """
        policy = self._policy
        try:
            session = verify_descriptor(policy.round_key(), descriptor, signature)
        except SecAggError as error:
            raise TotalsRefusedError(f"the session descriptor does not hold: {error}") from None
        task, roster = session.task, [device for device, _ in session.roster]
        period = policy.calendar.period_at(now)
        if session.run != policy.federation or task.purpose != "counts" or task.period != period:
            raise TotalsRefusedError(
                f"the descriptor is about {task.purpose} of {session.run!r} in period {task.period}; totals are given for "
                f"counts of {policy.federation!r} in period {period}"
            )
        if len(roster) < policy.least:
            raise TotalsRefusedError(f"a roster of {len(roster)} devices is too small: {policy.least} are needed")
        session_id = hashlib.sha256(descriptor).digest()
        marks = ",".join("?" * len(roster))
        with self._tables.write() as connection:
            known = connection.execute("SELECT * FROM totals WHERE session_id = ?", (session_id,)).fetchone()
            if known is not None:
                return ProbeTotals(known["answered"], known["agreed"], known["disagreed"])
            rows = connection.execute(f"SELECT * FROM probe_counts WHERE device_id IN ({marks})", roster).fetchall()  # noqa: S608
            if any(row["given"] >= period for row in rows):
                raise TotalsRefusedError(f"a device of the roster stood in a total of period {period} already")
            contributors = sum(row["answered"] > 0 for row in rows)
            if contributors < policy.least:
                raise TotalsRefusedError(
                    f"{contributors} devices of the roster have new probes: a total over fewer than {policy.least} tells "
                    "too much"
                )
            shares = dict.fromkeys(roster, (0, 0, 0))
            for row in rows:
                capped = min(row["answered"], task.probe_cap), min(row["agreed"], task.probe_cap)
                shares[row["device_id"]] = (*capped, row["disagreed"])
            connection.executemany(
                _GIVE, [(device, period, period, answered, agreed) for device, (answered, agreed, _) in shares.items()]
            )
            totals = ProbeTotals(*(sum(column) for column in zip(*shares.values(), strict=True)))
            connection.execute(
                "INSERT INTO totals VALUES (?, ?, ?, ?, ?)",
                (session_id, period, totals.answered, totals.agreed, totals.disagreed),
            )
            connection.execute("DELETE FROM totals WHERE period < ?", (period - KEPT_PERIODS,))
            connection.execute("DELETE FROM probe_counts WHERE period < ?", (period - KEPT_PERIODS,))
        return totals

    def snapshot(self) -> bytes:
        """Return everything, for a simulation's checkpoint."""
        with closing(sqlite3.connect(self._tables.path)) as connection:
            database = connection.serialize()
        with self._lock:
            return len(database).to_bytes(8, "big") + database + b"".join(self._recent)

    def _is_first(self, probe: AnsweredProbe) -> bool:
        key = hashlib.sha256(probe.device_id.encode() + b"\0" + content_hash(probe.query)).digest()
        with self._lock:
            is_first = key not in self._recent
            self._recent[key] = None
            self._recent.move_to_end(key)
            while len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
        return is_first

    def _pairs(self, release_id: str, probes: Sequence[AnsweredProbe], now: float) -> list[tuple[bool, bool]]:
        """Return, for each probe, whether it would have stayed local and whether the device's answer agrees."""
        if not release_id:
            return [(False, False)] * len(probes)
        try:
            scores = self._scores.score(release_id, [probe.query for probe in probes], now=now)
        except FedgeError as error:
            _log.warning("probes under release %s are counted as answered only: %s", release_id[:12], error)
            return [(False, False)] * len(probes)
        return [(score.is_local, score.label == probe.label) for score, probe in zip(scores, probes, strict=True)]


__all__ = ["AnsweredProbe", "ProbeCounts", "TotalsPolicy", "TotalsRefusedError"]
