"""What was refused lately and by which error, which devices are shut out, and whether the rounds' records hold.

The page of what was refused, and of signatures.
"""

from collections import Counter
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response

from aggregator.console.context import Console, TheConsole
from aggregator.console.templating import page
from aggregator.fleet.inventory import Wanted
from fedge.secagg import MessageError, read_record

pages = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/api/v1")


@pages.get("/security")
def security_page(request: Request, console: TheConsole) -> Response:
    """As it stands now."""
    return page(request, "security.html", found=security(console))


LATEST = 200
KINDS = ("device.left", "release.refused")


def security(console: Console) -> dict[str, Any]:
    """What ``/security`` and its twin show, over the latest rounds."""
    rounds = console.database.latest_rounds(LATEST)
    refusals: Counter[str] = Counter()
    by_round = []
    for row in reversed(rounds):
        refused = {name: count for name, count in dict(row.metrics.get("refusals") or {}).items() if isinstance(count, int)}
        refusals.update(refused)
        if refused:
            by_round.append({"round": row.round, "refusals": refused})
    operator, check = console.operator, console.audit.look()
    revoked = [] if operator is None else operator.devices(Wanted(revoked=True))
    return {
        "rounds": len(rounds),
        "refusals": dict(refusals),
        "by_round": by_round,
        "revoked": revoked,
        "events": [asdict(row) for row in console.database.happenings.latest_events(50, kinds=KINDS)],
        "audit": [asdict(row) for row in console.database.audit.latest(50)],
        "audit_broken_at": check.broken_at,
        "audit_checked": {"whole": check.whole, "whole_at": check.whole_at, "since": check.since},
        "records": records(console, [row.round for row in rounds]),
    }


def records(console: Console, rounds: list[int]) -> dict[str, Any]:
    """How many signed sums the latest rounds left, and the rounds of those whose signature does not hold."""
    key = console.round_key
    found = console.database.records_since(rounds[0]) if rounds else []
    broken = []
    for record in found:
        try:
            if key is not None:
                read_record(record.record, key)
        except MessageError:
            broken.append(record.round)
    return {"count": len(found), "checked": key is not None, "broken": sorted(set(broken))}


@api.get("/security")
def the_security(console: TheConsole) -> dict[str, Any]:
    """Refused messages by error, revoked devices, and whether the signed sums hold."""
    return security(console)
