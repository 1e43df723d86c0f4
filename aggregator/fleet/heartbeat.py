"""What devices say of themselves: taken at the door, one row a device in the authority's records, the newest in its place.

A report is believed as far as its sender may speak: for itself alone, in bounds, and not too often. It decides nothing.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc

from aggregator.fleet.authentication import Context, caller
from fedge.errors import FedgeError, InputError
from fedge.presence import REPORT_APART_S, Presence
from protos.fedge.fleet.v1 import presence_pb2 as pb
from protos.fedge.fleet.v1 import presence_pb2_grpc

SCHEMA = """
CREATE TABLE IF NOT EXISTS presence (
    device_id TEXT PRIMARY KEY,
    reported_at REAL NOT NULL,
    release_id TEXT NOT NULL,
    on_trial INTEGER NOT NULL,
    given_up TEXT NOT NULL,
    supply TEXT NOT NULL,
    sensor TEXT NOT NULL,
    profile TEXT NOT NULL,
    queue INTEGER NOT NULL,
    fedge TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""

# Only of devices that there are: what a backup has brought back may not know all that hold a certificate.
_KEEP = """
INSERT INTO presence SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
WHERE EXISTS (SELECT 1 FROM device WHERE device_id = ?1 AND revoked_at IS NULL)
ON CONFLICT (device_id) DO UPDATE SET reported_at = excluded.reported_at, release_id = excluded.release_id,
on_trial = excluded.on_trial, given_up = excluded.given_up, supply = excluded.supply, sensor = excluded.sensor,
profile = excluded.profile, queue = excluded.queue, fedge = excluded.fedge
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What a device said, and when (UNIX seconds by the server's clock)."""

    at: float
    presence: Presence


Keep = Callable[[Mapping[str, Report]], None]
"""Writes the reports of some devices. Raises FedgeError."""


def keep_reports(connection: sqlite3.Connection, reports: Mapping[str, Report]) -> None:
    """Writes them, each in the place of what its device said before. Belongs into a write transaction."""
    connection.executemany(_KEEP, (_row(device, report) for device, report in reports.items()))


class Reports:
    """Writes reports that come at once in one transaction: a large fleet costs the disk little."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._waiting: dict[str, Report] = {}
        self._writing = asyncio.Lock()

    async def add(self, device_id: str, report: Report) -> None:
        """Returns once it is written, by this call or by another one's. Raises FedgeError; then a later call tries again."""
        self._waiting[device_id] = report
        async with self._writing:
            if not self._waiting:
                return
            batch, self._waiting = self._waiting, {}
            try:
                await asyncio.to_thread(self._keep, batch)
            except BaseException:
                self._waiting = {**batch, **self._waiting}
                raise


class PresenceServicer(presence_pb2_grpc.PresenceServicer):
    """The service. Behind `aggregator.fleet.authentication.Admission`, which turns revoked devices away on each call.

    ``clock``: UNIX seconds; ``ticks``: seconds that only rise, by which reports are told to be too close together.
    """

    def __init__(self, keep: Keep, *, clock: Callable[[], float], ticks: Callable[[], float] = time.monotonic) -> None:
        self._reports = Reports(keep)
        self._clock = clock
        self._ticks = ticks
        self._taken: dict[str, float] = {}

    async def Report(self, request: pb.ReportRequest, context: Context) -> pb.ReportResponse:  # noqa: N802 - the wire's name
        """Keep what the caller says of itself."""
        device_id, now, tick = caller(context), self._clock(), self._ticks()
        if tick < self._taken.get(device_id, -REPORT_APART_S) + REPORT_APART_S:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"one report in {REPORT_APART_S:g} s is enough")
        self._taken[device_id] = tick  # one that cannot be read counts as well
        try:
            await self._reports.add(device_id, Report(now, Presence.from_proto(request)))
        except InputError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:500])
        except FedgeError as error:
            _log.error("reports of devices are not kept: %s", error)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "reports cannot be kept now: try again")
        return pb.ReportResponse(server_time_s=now)


def _row(device_id: str, report: Report) -> tuple[str, float, str, int, str, str, str, str, int, str]:
    said = report.presence
    return (
        device_id,
        report.at,
        said.release,
        int(said.on_trial),
        said.given_up,
        said.supply,
        said.sensor,
        said.profile,
        said.queue,
        said.fedge,
    )
