"""Lists and counts of the devices in an authority's records: asked in SQL, so that a large fleet costs a page little."""

import sqlite3
from collections.abc import Mapping
from typing import Any

STATES = ("member", "away", "revoked")
_STATE = "CASE WHEN d.revoked_at IS NOT NULL THEN 2 WHEN :now < d.expires_at THEN 0 ELSE 1 END"
_LIST = f"""
SELECT d.device_id, {_STATE}, d.enrolled_at, m.seen_at, d.expires_at, d.issued, m.trust_number, d.revoked_at, d.reason
FROM device AS d LEFT JOIN member AS m ON m.device_id = d.device_id
WHERE (:device IS NULL OR d.device_id = :device) AND (:revoked = 0 OR d.revoked_at IS NOT NULL)
ORDER BY CASE WHEN :members_first THEN {_STATE} ELSE 0 END, d.device_id LIMIT :count OFFSET :start
"""  # noqa: S608 - put together of constants
_ONE = _LIST.replace(":device IS NULL OR ", "")  # so that the key is used
_COUNT = f"SELECT {_STATE} AS state, count(*) FROM device AS d GROUP BY 1"  # noqa: S608


def listed(
    connection: sqlite3.Connection,
    *,
    now: float,
    device: str | None = None,
    revoked: bool = False,
    members_first: bool = False,
    start: int = 0,
    count: int | None = None,
) -> list[dict[str, Any]]:
    """Devices by id, or members first and then by id: all of them, or ``count`` from ``start`` on; one of them, or the
    revoked alone. Times in UNIX seconds, None for what is not known.
    """
    given = {"now": now, "device": device, "revoked": revoked, "members_first": members_first, "start": start}
    rows = connection.execute(_LIST if device is None else _ONE, {**given, "count": -1 if count is None else count})
    return [
        {
            "device": device_id,
            "state": STATES[state],
            "joined": joined,
            "seen": seen,
            "expires": expires,
            "certificates": issued,
            "trust": trust,
            "revoked": revoked_at,
            "reason": reason,
        }
        for device_id, state, joined, seen, expires, issued, trust, revoked_at, reason in rows
    ]


def counted(connection: sqlite3.Connection, *, now: float) -> Mapping[str, int]:
    """Devices by state; every state is there."""
    found = {STATES[state]: count for state, count in connection.execute(_COUNT, {"now": now})}
    return {state: found.get(state, 0) for state in STATES}
