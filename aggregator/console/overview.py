"""The first page: who answers, what it costs, who is there, how the newest round went, and what wants an operator's eye.

The first page and the security page as JSON.

The first page: who answers, what it costs, and what wants attention.
"""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from aggregator.console.context import Console, TheConsole
from aggregator.console.costs import latest_costs
from aggregator.console.devices import active_release, standing
from aggregator.console.templating import counted, duration, page
from aggregator.store import RoundRow
from aggregator.store.serializers import round_entry

api = APIRouter(prefix="/api/v1")


@api.get("/overview")
def the_overview(console: TheConsole) -> dict[str, Any]:
    """Fallback rate, costs, devices, the newest round, and what wants attention."""
    return overview(console)


pages = APIRouter(include_in_schema=False)


@pages.get("/")
def overview_page(request: Request, console: TheConsole) -> Response:
    """As it stands now."""
    return page(request, "overview.html", found=overview(console))


OVERDUE_PERIODS = 3.0
"""A fleet whose newest round is older than so many periods is not as it should be."""


def overview(console: Console) -> dict[str, Any]:
    """What ``/`` and ``/api/v1/overview`` show."""
    rounds = console.database.latest_rounds(1)
    newest = rounds[-1] if rounds else None
    devices = devices_by_state(console)
    active = active_release(console)
    return {
        "round": None if newest is None else round_entry(newest),
        "certificate": None if newest is None else newest.metrics.get("certificate"),
        "certified_risk": None if newest is None else newest.metrics.get("certified_risk"),
        "threshold": None if newest is None else newest.metrics.get("threshold"),
        "epsilon": None if newest is None else newest.metrics.get("epsilon"),
        "costs": latest_costs(console.database, console.book).to_json(),
        "devices": devices,
        "fleet": standing(console),
        "release": active if active is not None else (newest.release if newest else None),
        "warnings": warnings(console, rounds, devices),
    }


def devices_by_state(console: Console) -> dict[str, int] | None:
    """Devices by state; None where the console shows a recorded run."""
    if console.operator is None:
        return None
    return console.operator.devices_by_state()


def warnings(console: Console, rounds: Sequence[RoundRow], devices: dict[str, int] | None) -> list[str]:
    """One line for each thing that is not as it should be."""
    said: list[str] = []
    newest = rounds[-1] if rounds else None
    period_s = console.about.get("period_s")
    if newest is not None and isinstance(period_s, int | float) and newest.finished is not None:
        late_s = console.clock() - newest.finished
        if period_s > 0 and late_s > OVERDUE_PERIODS * period_s:
            said.append(f"No round has finished for {duration(late_s)}; one is due every {duration(period_s)}.")
    if newest is not None and newest.state not in ("finished", "canary", "running"):
        said.append(f"Round {newest.round} ended as: {newest.state}.")
    if devices is not None and console.n_min and devices["member"] < console.n_min:
        belong = "belongs" if devices["member"] == 1 else "belong"
        said.append(f"{counted(devices['member'], 'device')} {belong} to the fleet; a sum takes {console.n_min}.")
    return said
