"""Subsidy ends: cloud prices rise. Which queries are then worth asking, and what does a person's fixed budget buy?"""

import numpy as np

from sim.report.numbers import Unit, number
from sim.scenarios.base import Given, Scenario, Value, assumed, book_source, central_sources, chart, line, profile_sources
from sim.scenarios.economics import DAYS_A_MONTH, Running, running, worth_asking

FACTORS = (1, 2, 4, 10, 100)
ERROR_PRICES_USD = (0.01, 0.1, 1.0)
BUDGET_USD = 5.0
_COLOURS = ("c0", "c2", "c5")


def subsidy(given: Given) -> Scenario:
    """Shares worth asking at each price of an error, and queries a month for BUDGET_USD."""
    now, book = running(given), given.book
    shares = {
        error: tuple(worth_share(given, error, factor * book.central_price_usd) for factor in FACTORS)
        for error in ERROR_PRICES_USD
    }
    cases = [now.changed(price=float(factor)) for factor in FACTORS]
    bought = [(BUDGET_USD / case.central_usd, affordable(case), affordable(case, standing=True)) for case in cases]
    columns: tuple[tuple[str, Unit], ...] = tuple(
        (f"worth asking, error {_usd(error)} USD", "share") for error in ERROR_PRICES_USD
    )
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (f"x{factor}", *(shares[error][i] for error in ERROR_PRICES_USD), *bought[i]) for i, factor in enumerate(FACTORS)
    )
    lost = [FACTORS[i] for i, (cloud, _, loaded) in enumerate(bought) if loaded < cloud]
    first, last = bought[0], bought[-1]
    return Scenario(
        key="subsidy",
        title="The subsidy ends",
        question="Central's price rises to 2, 4, 10 and 100 times today's list price; the device, its power and the "
        "run stay as they are. By Chow's rule a query is worth asking where (1 - confidence) times the price of an "
        "error exceeds the "
        "price of asking.",
        findings=(
            f"At an error price of 0.1 USD {number(shares[0.1][0], 'share')} of the test queries are worth asking today and "
            f"{number(shares[0.1][-1], 'share')} at 100 times the price.",
            f"{_usd(BUDGET_USD)} USD a month buy {number(first[0], 'count')} answers when everything is asked and "
            f"{number(first[1], 'count')} with the fleet on a device that is there anyway; at 100 times the price "
            f"{number(last[0], 'count')} and {number(last[1], 'count')}.",
        ),
        loses=(
            *(
                [
                    f"Once idle power and hardware are paid from the same {_usd(BUDGET_USD)} USD, the fleet answers fewer "
                    f"queries than the cloud at {', '.join(f'x{factor}' for factor in lost)}."
                ]
                if lost
                else []
            ),
        ),
        columns=(
            *columns,
            (f"queries a month for {_usd(BUDGET_USD)} USD, all cloud", "count"),
            ("the same, fleet, marginal", "count"),
            ("the same, fleet, loaded", "count"),
        ),
        rows=rows,
        chart=chart(
            "subsidy",
            "Share of queries worth asking",
            "By Chow's rule, over central's price against today's, for three prices of an error.",
            axis="price of an answer, against today",
            names=tuple(f"x{factor}" for factor in FACTORS),
            lines=tuple(
                line(f"an error costs {_usd(error)} USD", shares[error], "share", colour, label=f"{_usd(error)} USD")
                for error, colour in zip(ERROR_PRICES_USD, _COLOURS, strict=True)
            ),
            top=1.0,
        ),
        sources=(
            *central_sources(book),
            book_source(book, "device_electricity_usd_per_kwh"),
            *profile_sources(given.profile, "idle_w", "load_w", "cores", "inference_s", "price_usd", "life_years"),
            assumed("budget of a person (USD a month)", BUDGET_USD, "an ordinary small subscription"),
        ),
    )


def worth_share(given: Given, error_usd: float, asking_usd: float) -> float:
    """Share of the test queries that are worth asking."""
    sure = given.record.queries.confidence
    return float(np.mean(worth_asking(sure, error_usd=error_usd, asking_usd=asking_usd)))


def affordable(case: Running, *, standing: bool = False, budget_usd: float = BUDGET_USD) -> float:
    """Queries a month that the budget pays after what goes by rounds (and, with ``standing``, idle power and hardware)."""
    fixed = DAYS_A_MONTH * (case.rounds_usd + (case.standing_usd if standing else 0.0))
    each = case.asked_share * case.central_usd + case.per_query_usd
    return max(0.0, budget_usd - fixed) / each


def _usd(value: float) -> str:
    return f"{value:g}"
