"""What machines that watch the console ask: whether it answers, and the figures for Prometheus."""

from fastapi import APIRouter, Response

from aggregator.console import metrics
from aggregator.console.shell.context import TheConsole

router = APIRouter()


@router.get("/healthz")
def health(console: TheConsole) -> dict[str, str]:
    """Answers once the database does."""
    console.database.config()
    return {"status": "ok"}


@router.get("/metrics", include_in_schema=False)
def figures(console: TheConsole) -> Response:
    """For Prometheus."""
    body = metrics.exposition(console.database.rounds(), console.database.spent_usd())
    return Response(body, media_type=metrics.CONTENT_TYPE)
