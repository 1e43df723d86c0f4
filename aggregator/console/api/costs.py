"""Costs as JSON: the latest rounds together, and round by round."""

from typing import Any

from fastapi import APIRouter

from aggregator.console.figures.costs import cost_series, latest_costs
from aggregator.console.shell.context import TheConsole

router = APIRouter(prefix="/api/v1")


@router.get("/costs")
def costs(console: TheConsole) -> dict[str, Any]:
    """Who paid for what over the latest rounds, and for each 1,000 queries."""
    return latest_costs(console.database, console.book).to_json()


@router.get("/costs/series")
def series(console: TheConsole) -> dict[str, Any]:
    """Fallback rate and USD for 1,000 queries, round by round."""
    return cost_series(console.database, console.book)
