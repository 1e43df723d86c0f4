"""Who paid for what over the latest rounds, for each 1,000 queries, beside the same queries answered by central alone.

Queries and the devices' electricity come from the rounds' secure sums of usage; central's and the rounds' own costs from the
server's ledger. Rounds without such a sum add costs and no queries, so figures of a few rounds jump: look at many.

Costs as JSON: the latest rounds together, and round by round.

The page of costs: who paid for what.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from aggregator.console.context import TheConsole
from aggregator.console.templating import page
from aggregator.store import Database, RoundRow
from fedge.costs import Kind, Payer, PriceBook, all_cloud_usd, usd_per_1k
from fedge.costs.ledger import STANDING
from fedge.usage import NAMES, Usage

api = APIRouter(prefix="/api/v1")


@api.get("/costs")
def costs(console: TheConsole) -> dict[str, Any]:
    """Who paid for what over the latest rounds, and for each 1,000 queries."""
    return latest_costs(console.database, console.book).to_json()


@api.get("/costs/series")
def series(console: TheConsole) -> dict[str, Any]:
    """Fallback rate and USD for 1,000 queries, round by round."""
    return cost_series(console.database, console.book)


pages = APIRouter(include_in_schema=False)


@pages.get("/costs")
def costs_page(request: Request, console: TheConsole) -> Response:
    """As it stands now."""
    return page(request, "costs.html", costs=latest_costs(console.database, console.book), book=console.book.version)


LATEST = 50
"""Rounds that the overview and the costs speak of."""
WINDOW = 10
PRICE_FACTORS = (1.0, 2.0, 4.0, 10.0, 100.0)
_CENTRAL = (Kind.ESCALATIONS, Kind.PROBES, Kind.UPSTREAM_TOKENS_IN, Kind.UPSTREAM_TOKENS_OUT)

Spent = Mapping[tuple[Payer, Kind], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Per1k:
    """USD for 1,000 queries; None where there were none."""

    marginal: float | None
    loaded: float | None
    all_cloud: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What 1,000 of these queries cost were central's prices ``factor`` times what they are; nothing else changes."""

    factor: float
    marginal: float | None
    all_cloud: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """The latest rounds together: their usage, USD by payer and kind, and for each 1,000 queries."""

    rounds: int
    first: int | None
    last: int | None
    usage: Usage
    fallback_rate: float | None
    usd_by_payer: Mapping[str, float]
    usd_by_kind: Mapping[str, Mapping[str, float]]
    usd_per_1k: Per1k
    scenarios: Sequence[Scenario]

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def costs_of(rounds: Sequence[RoundRow], spent: Mapping[int, Spent], book: PriceBook) -> Costs:
    """The costs of ``rounds``, oldest first, by what was ``spent`` in each."""
    usage = sum((usage_of(row) for row in rounds), Usage())
    usd: dict[tuple[Payer, Kind], float] = defaultdict(float)
    for row in rounds:
        for key, amount in spent.get(row.round, {}).items():
            usd[key] += amount
    by_kind: dict[str, dict[str, float]] = {}
    by_payer: dict[str, float] = defaultdict(float)
    for (payer, kind), amount in sorted(usd.items()):
        by_kind.setdefault(payer.value, {})[kind.value] = amount
        by_payer[payer.value] += amount
    total = sum(usd.values())
    marginal = sum(amount for (_, kind), amount in usd.items() if kind not in STANDING)
    central = sum(amount for (_, kind), amount in usd.items() if kind in _CENTRAL)
    cloud = all_cloud_usd(usage.queries, book)
    per_1k = Per1k(
        marginal=usd_per_1k(marginal, usage.queries),
        loaded=usd_per_1k(total, usage.queries),
        all_cloud=usd_per_1k(cloud, usage.queries),
    )
    return Costs(
        rounds=len(rounds),
        first=rounds[0].round if rounds else None,
        last=rounds[-1].round if rounds else None,
        usage=usage,
        fallback_rate=usage.fallback_rate,
        usd_by_payer=dict(by_payer),
        usd_by_kind=by_kind,
        usd_per_1k=per_1k,
        scenarios=[
            Scenario(
                factor=factor,
                marginal=usd_per_1k(marginal + (factor - 1) * central, usage.queries),
                all_cloud=usd_per_1k(factor * cloud, usage.queries),
            )
            for factor in PRICE_FACTORS
        ],
    )


def latest_costs(database: Database, book: PriceBook, *, count: int = LATEST) -> Costs:
    """The costs of the latest rounds."""
    rounds = database.latest_rounds(count)
    return costs_of(rounds, database.spent_by_round(rounds[0].round) if rounds else {}, book)


def cost_series(database: Database, book: PriceBook, *, count: int = 200) -> dict[str, Any]:
    """Fallback rate and USD for 1,000 queries over each round and the nine before it, oldest first; null without queries.

    A single round would jump: central's bill and the devices' sums of usage are cut at different moments.
    """
    rounds = database.latest_rounds(count)
    spent = database.spent_by_round(rounds[0].round) if rounds else {}
    each = [costs_of(rounds[max(0, place - WINDOW + 1) : place + 1], spent, book) for place in range(len(rounds))]
    return {
        "round": [row.round for row in rounds],
        "fallback_rate": [one.fallback_rate for one in each],
        "usd_per_1k": {
            name: [getattr(one.usd_per_1k, name) for one in each] for name in ("marginal", "loaded", "all_cloud")
        },
    }


def usage_of(row: RoundRow) -> Usage:
    """What a round's secure sum said that the devices answered and used; nothing where it had none."""
    found = row.metrics.get("usage")
    if not isinstance(found, Mapping):
        return Usage()
    return Usage(**{name: found[name] for name in NAMES if isinstance(found.get(name), int)})
