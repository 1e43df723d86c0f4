"""`fedge server upstream`: what upstream was asked and what it cost; with --check, one real question to it."""

import json
import time
from typing import Annotated, Any

import typer

from cli.homes import ServerHomeOption, server_home
from fedge.errors import InputError


def upstream(
    home: ServerHomeOption = None,
    check: Annotated[bool, typer.Option("--check", help="Ask one question now, as central would. It is charged.")] = False,
    query: Annotated[str, typer.Option(help="The question for --check.")] = "turn on the lights in the kitchen",
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """What upstream was asked, what came of it and what it cost; --check asks it one question.

    The check shows what came back, its tokens, price and time. Its price is not in the ledger nor in the day's budget.
    """
    stands = server_home(home)
    found = _checked(stands, query) if check else _figures(stands)
    if json_output:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name:<16} {_shown(value)}" for name, value in found.items()))
    if check and found["outcome"] != "answered":
        raise typer.Exit(1)


def _figures(stands: Any) -> dict[str, Any]:
    from aggregator.upstream_figures import UpstreamFigures, read_figures

    settings, figures = stands.settings().upstream, read_figures(stands.upstream_figures) or UpstreamFigures()
    return {
        "url": settings.url,
        "model": settings.model,
        "usd": figures.usd,
        "usd_today": figures.spent_usd(time.time()),
        "max_usd_per_day": settings.max_usd_per_day,
        "outcomes": dict(figures.outcomes),
        "tokens": dict(figures.tokens),
    }


def _checked(stands: Any, query: str) -> dict[str, Any]:
    from aggregator.central.upstream.config import open_upstream
    from aggregator.workbench.model_store import load_facts
    from fedge.costs import PriceBook

    if not query.strip():
        raise InputError("--query is empty: write what to ask")
    settings = stands.settings().upstream
    upstream = open_upstream(settings, load_facts(stands.models), PriceBook.load_default(), figures=stands.upstream_figures)
    if upstream is None:
        raise InputError("upstream is off: set upstream.url and upstream.model in server.toml (docs/upstream.md)")
    try:
        started = time.perf_counter()
        asked = upstream.ask(query, deadline=None).result()
        seconds = time.perf_counter() - started
    finally:
        upstream.close()
    return {
        "outcome": asked.outcome,
        "label": asked.label,
        "probability": asked.probability,
        "model": upstream.model,
        "tokens_in": asked.tokens.tokens_in,
        "tokens_out": asked.tokens.tokens_out,
        "tokens_estimated": asked.tokens.estimated,
        "usd": upstream.usd(asked.tokens),
        "price_book": upstream.book.version,
        "seconds": seconds,
    }


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items() if count) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None or value == "" else str(value)
