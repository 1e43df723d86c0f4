"""The price of an error: where the best threshold lies when a wrong answer costs nothing, a cent, a dollar or a hundred."""

from dataclasses import dataclass

import numpy as np

from sim.report.numbers import number
from sim.scenarios.base import Given, Scenario, assumed, central_sources, chart, line
from sim.scenarios.economics import Curve, curve

ERROR_PRICES_USD = (0.0, 0.01, 1.0, 100.0)
DRAWN_USD = (0.0, 0.001, 0.01, 0.1, 1.0, 100.0)


@dataclass(frozen=True, slots=True)
class Optimum:
    """The cheapest point of a curve at one price of an error. USD a query. ``chow``: the threshold of Chow's rule."""

    threshold: float
    asked: float
    asking_usd: float
    errors_usd: float
    chow: float

    @property
    def usd(self) -> float:
        """All of it."""
        return self.asking_usd + self.errors_usd


def optimum(points: Curve, *, error_usd: float, asking_usd: float) -> Optimum:
    """The point with the least cost of asking and errors together; of equal ones the one that asks least."""
    asking, errors = points.asked * asking_usd, (1.0 - points.accuracy) * error_usd
    best = int(np.argmin(asking + errors))
    chow = max(0.0, 1.0 - asking_usd / error_usd) if error_usd else 0.0
    return Optimum(float(points.threshold[best]), float(points.asked[best]), float(asking[best]), float(errors[best]), chow)


def error_price(given: Given) -> Scenario:
    """The optimum at each price, against asking everything and asking nothing."""
    points, price = curve(given.record), given.book.central_price_usd
    best = {error: optimum(points, error_usd=error, asking_usd=price) for error in (*ERROR_PRICES_USD, *DRAWN_USD)}

    def everything(error: float) -> float:
        return price + float(1.0 - points.accuracy[-1]) * error

    def nothing(error: float) -> float:
        return float(1.0 - points.accuracy[0]) * error

    rows = tuple(
        (
            f"{error:g} USD",
            _threshold(best[error].threshold),
            f"{best[error].chow:.4f}",
            1.0 - best[error].asked,
            1000 * best[error].asking_usd,
            1000 * best[error].errors_usd,
            1000 * best[error].usd,
            1000 * everything(error),
            1000 * nothing(error),
        )
        for error in ERROR_PRICES_USD
    )
    dearest = best[ERROR_PRICES_USD[-1]]
    gap = 1000 * (nothing(100.0) - everything(100.0))
    return Scenario(
        key="error_price",
        title="The price of an error",
        question="A wrong answer costs 0, 0.01, 1 or 100 USD, whoever gave it. Which threshold makes asking and errors "
        "together cheapest on the test queries, and where would Chow's rule put it?",
        findings=(
            "The best threshold answers "
            + ", ".join(f"{number(1.0 - best[error].asked, 'share')} at {error:g} USD" for error in ERROR_PRICES_USD)
            + " on the device.",
            "Thresholds are picked on the same test queries that measure them, so the last fractions of a percent flatter "
            "the optimum; Chow's threshold uses the confidence alone.",
        ),
        loses=(
            f"At 100 USD an error the device alone costs {number(gap, 'usd')} USD more per 1,000 queries than asking "
            "everything: there the device is worth only what it surely knows."
            if gap > 0
            else "Nowhere here: the device alone errs no more often than central.",
            *(
                ["At 100 USD the best threshold asks everything: the device side has no place."]
                if dearest.asked == 1
                else []
            ),
        ),
        columns=(
            ("best threshold", "count"),
            ("Chow's threshold", "count"),
            ("answered on the device", "share"),
            ("asking, USD per 1,000", "usd"),
            ("errors, USD per 1,000", "usd"),
            ("best, USD per 1,000", "usd"),
            ("asking everything", "usd"),
            ("asking nothing", "usd"),
        ),
        rows=rows,
        chart=chart(
            "error_price",
            "Answered on the device at the best threshold",
            "Share of the test queries, over the price of an error.",
            axis="price of an error, USD",
            names=tuple(f"{error:g}" for error in DRAWN_USD),
            lines=(
                line("best threshold", tuple(1.0 - best[e].asked for e in DRAWN_USD), "share", "c0", label="best"),
                line(
                    "Chow's threshold",
                    tuple(float(np.mean(given.record.queries.confidence >= best[e].chow)) for e in DRAWN_USD),
                    "share",
                    "c5",
                    label="Chow",
                    dashed=True,
                ),
            ),
            top=1.0,
        ),
        sources=(
            *central_sources(given.book),
            *(
                assumed(f"price of an error (USD), case {error:g}", error, "the scenario's question")
                for error in (0.01, 1.0, 100.0)
            ),
        ),
    )


def _threshold(value: float) -> str:
    return "ask everything" if value == np.inf else f"{value:.4f}"
