"""From `[upstream]` in server.toml to an upstream that central can ask, or none.

What cannot be is said before central serves.
"""

import time
from collections.abc import Callable
from pathlib import Path

from aggregator.central.upstream.budget import Budget
from aggregator.central.upstream.client import ChatClient, endpoint
from aggregator.central.upstream.prompt import Prompt
from aggregator.central.upstream.upstream import Upstream, When
from aggregator.settings import UpstreamSettings
from aggregator.upstream_figures import read_figures
from aggregator.workbench.workloads.facts import WorkloadFacts
from fedge.costs import ModelPrice, PriceBook
from fedge.errors import InputError
from fedge.traces import Traces

OWN_PRICE = "upstream"
OWN_VERSION = "server.toml"


def open_upstream(
    settings: UpstreamSettings,
    facts: WorkloadFacts,
    book: PriceBook,
    *,
    figures: Path,
    clock: Callable[[], float] = time.time,
    traces: Traces | None = None,
) -> Upstream | None:
    """The upstream that the settings ask for; None where they name no address. Raises InputError."""
    if settings.url is None:
        return None
    if facts.pixels:
        raise InputError(
            f"upstream.url is set, and workload {facts.name} asks about pictures, which upstream does not take: unset it"
        )
    if not settings.model.strip() or not settings.model.isprintable():
        raise InputError(f"upstream.url is set, and upstream.model is {settings.model!r}: name the endpoint's model")
    priced, price_name = _priced(settings, book)
    target = endpoint(settings.url, settings.api_key_file)
    budget = Budget(
        priced.models[price_name],
        max_usd_per_day=settings.max_usd_per_day,
        clock=clock,
        figures=read_figures(figures),
    )
    return Upstream(
        lambda: ChatClient(target, timeout_s=settings.timeout_s, max_concurrent=settings.max_concurrent),
        Prompt.of(settings.model, facts.labels, topics=facts.topics, oos_label=facts.oos_label),
        when=When(settings.when, settings.min_confidence),
        book=priced,
        price_name=price_name,
        budget=budget,
        timeout_s=settings.timeout_s,
        max_concurrent=settings.max_concurrent,
        traces=traces,
    )


def _priced(settings: UpstreamSettings, book: PriceBook) -> tuple[PriceBook, str]:
    """The book, and the model in it, by which tokens are paid."""
    given = (settings.input_usd_per_mtok, settings.output_usd_per_mtok)
    if settings.price is not None:
        if given != (None, None):
            raise InputError("upstream.price and upstream.input_usd_per_mtok or output_usd_per_mtok exclude each other")
        return book.with_model(settings.price), settings.price
    tokens_in, tokens_out = given
    if tokens_in is None or tokens_out is None:
        raise InputError(
            "upstream has no price: set upstream.price to a model of the price book, or input_usd_per_mtok and "
            "output_usd_per_mtok (0 and 0 for a model of your own)"
        )
    price = ModelPrice(tokens_in, tokens_out, OWN_VERSION, "")
    return book.with_price(OWN_PRICE, price, version=f"{book.version}+{OWN_VERSION}"), OWN_PRICE
