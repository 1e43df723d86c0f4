"""Lists and counts of the devices in an authority's records: asked in SQL, so that a large fleet costs a page little."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedge.presence import SUPPLIES

STATES = ("member", "away", "revoked")
SILENT_S = 600.0
"""A member that was not heard of for longer is silent. Devices that send no reports ask for revocations twice as often."""

_STATE = "CASE WHEN d.revoked_at IS NOT NULL THEN 2 WHEN :now < d.expires_at THEN 0 ELSE 1 END"
_SEEN = "max(coalesce(m.seen_at, p.reported_at), coalesce(p.reported_at, m.seen_at))"
_SILENT = f"({_STATE} = 0 AND coalesce({_SEEN}, 0) < :now - {SILENT_S})"
_REPORTING = f"({_STATE} = 0 AND p.reported_at >= :now - {SILENT_S})"
_FROM = """
FROM device AS d LEFT JOIN member AS m ON m.device_id = d.device_id LEFT JOIN presence AS p ON p.device_id = d.device_id
"""
_WHERE = f"""
WHERE (:device IS NULL OR d.device_id = :device) AND (:revoked = 0 OR d.revoked_at IS NOT NULL)
AND (:release IS NULL OR p.release_id = :release) AND (:waiting = 0 OR p.queue > 0) AND (:silent = 0 OR {_SILENT})
"""
_LIST = f"""
SELECT d.device_id AS device, {_STATE} AS state, d.enrolled_at AS joined, {_SEEN} AS seen, d.expires_at AS expires,
d.issued AS certificates, m.trust_number AS trust, d.revoked_at AS revoked, d.reason AS reason, {_SILENT} AS silent,
p.reported_at AS reported, p.release_id AS release, p.on_trial AS on_trial, p.given_up AS given_up,
p.supply AS energy_source, p.sensor AS energy_sensor, p.profile AS profile, p.queue AS queue, p.fedge AS fedge
{_FROM}{_WHERE}
ORDER BY CASE WHEN :waiting THEN -p.queue ELSE 0 END, CASE WHEN :members_first THEN {_STATE} ELSE 0 END, d.device_id
LIMIT :count OFFSET :start
"""
_ONE = _LIST.replace(":device IS NULL OR ", "")  # so that the key is used
_MATCHING = f"SELECT count(*) {_FROM}{_WHERE}"
_COUNT = f"SELECT {_STATE} AS state, count(*) FROM device AS d GROUP BY 1"  # noqa: S608
_HEARD = f"SELECT count(*), total({_REPORTING}), total({_SILENT}) {_FROM} WHERE {_STATE} = 0"
_BY = f"""
SELECT p.release_id, p.supply, count(*), total(p.sensor != ''), total(p.queue), total(p.queue > 0)
{_FROM} WHERE {_REPORTING} GROUP BY 1, 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which devices: one of them; the revoked; those whose newest report names this release; those with questions that wait;
    members that were not heard of lately.
    """

    device: str | None = None
    revoked: bool = False
    release: str | None = None
    waiting: bool = False
    silent: bool = False


EVERYONE = Wanted()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the members stand that reported lately, by their own word. ``members``: all of them; ``silent``: not heard of.

    ``releases``: devices by the release that they answer with ("" for none). ``supplies``: devices by what they run on,
    every kind named. ``measured``: devices with a sensor behind their figures of energy. ``queue``: questions that wait on
    all of them, on ``waiting`` devices.
    """

    members: int
    reporting: int
    silent: int
    releases: Mapping[str, int]
    supplies: Mapping[str, int]
    measured: int
    queue: int
    waiting: int


def listed(
    connection: sqlite3.Connection,
    wanted: Wanted = EVERYONE,
    *,
    now: float,
    members_first: bool = False,
    start: int = 0,
    count: int | None = None,
) -> list[dict[str, Any]]:
    """Devices by id, or members first and then by id: all that are ``wanted``, or ``count`` from ``start`` on. Where those
    with a queue are wanted, the longest one comes first.

    Times in UNIX seconds, None for what is not known; of a device that never reported that is all from "reported" on.
    """
    most = -1 if count is None else count
    given = {**_given(wanted, now), "members_first": members_first, "start": start, "count": most}
    rows = connection.execute(_LIST if wanted.device is None else _ONE, given)
    names = [column[0] for column in rows.description]
    return [_entry(dict(zip(names, row, strict=True))) for row in rows]


def matching(connection: sqlite3.Connection, wanted: Wanted, *, now: float) -> int:
    """How many devices `listed` would give."""
    found: int = connection.execute(_MATCHING, _given(wanted, now)).fetchone()[0]
    return found


def counted(connection: sqlite3.Connection, *, now: float) -> Mapping[str, int]:
    """Devices by state; every state is there."""
    found = {STATES[state]: count for state, count in connection.execute(_COUNT, {"now": now})}
    return {state: found.get(state, 0) for state in STATES}


def standing(connection: sqlite3.Connection, *, now: float) -> Standing:
    """What the newest reports say together. A report older than SILENT_S is no word on how a device stands now."""
    members, reporting, silent = map(int, connection.execute(_HEARD, {"now": now}).fetchone())
    releases: dict[str, int] = {}
    supplies = dict.fromkeys(map(str, SUPPLIES), 0)
    measured = queue = waiting = 0
    for release, supply, count, with_sensor, questions, with_questions in connection.execute(_BY, {"now": now}):
        releases[release] = releases.get(release, 0) + count
        supplies[supply] = supplies.get(supply, 0) + count
        measured += int(with_sensor)
        queue, waiting = queue + int(questions), waiting + int(with_questions)
    return Standing(
        members=members,
        reporting=reporting,
        silent=silent,
        releases=releases,
        supplies=supplies,
        measured=measured,
        queue=queue,
        waiting=waiting,
    )


def _given(wanted: Wanted, now: float) -> dict[str, Any]:
    return {
        "now": now,
        "device": wanted.device,
        "revoked": wanted.revoked,
        "release": wanted.release,
        "waiting": wanted.waiting,
        "silent": wanted.silent,
    }


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    told = row["reported"] is not None
    return {
        **row,
        "state": STATES[row["state"]],
        "silent": bool(row["silent"]),
        "on_trial": bool(row["on_trial"]) if told else None,
        "release": row["release"] or None,
        "given_up": row["given_up"] or None,
    }
