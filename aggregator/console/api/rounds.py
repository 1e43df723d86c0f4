"""Rounds as JSON, and what the federation is."""

from typing import Any

from fastapi import APIRouter

from aggregator.console.figures.timeline import full_round
from aggregator.console.shell.context import TheConsole
from aggregator.store.views import round_entry

router = APIRouter(prefix="/api/v1")


@router.get("/federation")
def federation(console: TheConsole) -> dict[str, object]:
    """What the federation is called and asks, and whether its sums are private."""
    return dict(console.about)


@router.get("/rounds")
def rounds(console: TheConsole) -> list[dict[str, Any]]:
    """All rounds in short, oldest first."""
    return [round_entry(row) for row in console.database.rounds()]


@router.get("/rounds/{number}")
def one_round(console: TheConsole, number: int) -> dict[str, Any]:
    """One round with its sessions, what they needed, who left them, and whether their sums are signed."""
    return full_round(console.database, number, n_min=console.n_min, round_key=console.round_key)
