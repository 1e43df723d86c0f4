"""The last points of accuracy: what 85 to 90, 90 to 95 and 95 to 99 % cost on the same queries, and what is out of reach."""

from dataclasses import dataclass

from sim.report.numbers import number
from sim.scenarios.base import Given, Scenario, assumed, central_sources, chart, line
from sim.scenarios.economics import Curve, cheapest, curve

TARGETS = (0.85, 0.90, 0.95, 0.99)
DRAWN = tuple(percent / 100 for percent in range(85, 100))


@dataclass(frozen=True, slots=True)
class Step:
    """From one target to the next: least share asked for each, None where no threshold reaches it. USD per 1,000 queries."""

    start: float
    end: float
    asked_start: float | None
    asked_end: float | None
    usd_per_1k: float | None

    @property
    def usd_per_point(self) -> float | None:
        """Marginal cost of one percentage point, per 1,000 queries."""
        return None if self.usd_per_1k is None else self.usd_per_1k / (100 * (self.end - self.start))


def steps(points: Curve, *, asking_usd: float) -> list[Step]:
    """One step between neighbouring targets."""
    least = [cheapest(points, target) for target in TARGETS]
    asked = [None if index is None else float(points.asked[index]) for index in least]
    return [
        Step(a, b, x, y, None if x is None or y is None else 1000 * asking_usd * (y - x))
        for a, b, x, y in zip(TARGETS[:-1], TARGETS[1:], asked[:-1], asked[1:], strict=True)
    ]


def last_points(given: Given) -> Scenario:
    """Ask the least sure queries first, until the accuracy of what the user gets reaches each target."""
    points, price = curve(given.record), given.book.central_price_usd
    found = steps(points, asking_usd=price)
    best, ends = float(points.accuracy.max()), (float(points.accuracy[0]), float(points.accuracy[-1]))
    alone_best = ends[1] > float(points.accuracy[:-1].max(initial=0.0))
    missed = [target for target in TARGETS if cheapest(points, target) is None]
    free = [target for target in TARGETS if target <= ends[0]]
    paid = [step for step in found if step.usd_per_point]
    return Scenario(
        key="last_points",
        title="The last points of accuracy",
        question="The least sure queries go to central first. How many must be asked for 85, 90, 95 and 99 % right "
        "answers to "
        "the same test queries, and what does each further point cost?",
        findings=(
            f"The device alone is right in {number(ends[0], 'share')}, central alone in {number(ends[1], 'share')}, "
            f"the best "
            f"mixture in {number(best, 'share')}.",
            *([f"No query has to be asked for {_list(free)}."] if free else []),
            *(
                f"{number(step.start, 'share')} to {number(step.end, 'share')} costs "
                f"{number(step.usd_per_1k, 'usd')} USD per "
                f"1,000 queries, {number(step.usd_per_point, 'usd')} a point."
                for step in paid
            ),
        ),
        loses=(
            *([f"No mixture of this device's model and this central reaches {_list(missed)}."] if missed else []),
            *(["Asking everything is the only way to the best accuracy."] if alone_best else []),
        ),
        columns=(
            ("asked at the start", "share"),
            ("asked at the end", "share"),
            ("USD per 1,000 queries", "usd"),
            ("USD per 1,000 and point", "usd"),
            ("reached", "count"),
        ),
        rows=tuple(
            (
                f"{100 * step.start:g} to {100 * step.end:g} %",
                step.asked_start,
                step.asked_end,
                step.usd_per_1k,
                step.usd_per_point,
                "no" if step.asked_end is None else "without asking" if step.asked_end == 0 else "yes",
            )
            for step in found
        ),
        chart=chart(
            "last_points",
            "What each accuracy costs",
            "USD per 1,000 queries for asking the least sure until so many answers are right; no dot: out of reach.",
            axis="right answers, %",
            names=tuple(f"{100 * target:g}" for target in DRAWN),
            lines=(
                line(
                    "asking as few as it takes",
                    tuple(_usd_per_1k(points, target, price) for target in DRAWN),
                    "usd",
                    "c0",
                    label="least",
                ),
                line("asking everything", (1000 * price,) * len(DRAWN), "usd", "ink", label="all", dashed=True),
            ),
        ),
        sources=(
            *central_sources(given.book),
            *(assumed(f"target {target:g}", target, "the scenario's question") for target in TARGETS),
        ),
    )


def _usd_per_1k(points: Curve, target: float, price: float) -> float | None:
    least = cheapest(points, target)
    return None if least is None else 1000 * price * float(points.asked[least])


def _list(targets: list[float]) -> str:
    return ", ".join(number(target, "share") for target in targets)
