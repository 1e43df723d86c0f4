"""What machines that watch the console ask: whether it answers, and the figures for Prometheus."""

from pathlib import Path

from fastapi import APIRouter, Response

from aggregator.console import metrics
from aggregator.console.expiries import expiries, threshold_expiry
from aggregator.console.figures.fleet import standing
from aggregator.console.shell.context import TheConsole
from aggregator.upstream_figures import UpstreamFigures, read_figures
from fedge.errors import InputError

router = APIRouter()


@router.get("/healthz")
def health(console: TheConsole) -> dict[str, str]:
    """Answers once the database does."""
    console.database.config()
    return {"status": "ok"}


@router.get("/metrics", include_in_schema=False)
def figures(console: TheConsole) -> Response:
    """For Prometheus."""
    database, operator = console.database, console.operator
    controls, period_s = database.controls.get(), console.about.get("period_s")
    rounds = database.rounds()
    release = rounds[-1].release if rounds else None
    recorded = metrics.Recorded(
        rounds=rounds,
        spent=database.spent_usd(),
        version=None if release is None else database.published.version(release),
        expiries=threshold_expiry(database) if operator is None else expiries(operator.home, database),
        period_s=controls.period_s or (period_s if isinstance(period_s, float) else None),
        paused=controls.state != "running",
        upstream=None if operator is None else _upstream(operator.home.upstream_figures),
        fleet=standing(console),
    )
    return Response(metrics.exposition(recorded), media_type=metrics.CONTENT_TYPE)


def _upstream(path: Path) -> UpstreamFigures | None:
    """What central wrote last; nothing where that cannot be read: the other figures are worth showing."""
    try:
        return read_figures(path)
    except InputError:
        return None
