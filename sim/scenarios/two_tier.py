"""Two-tier routing: a cheap tier takes the queries that suit it. What is saved, and what a wrong guess costs."""

from itertools import pairwise

from sim.report.numbers import number
from sim.scenarios.base import Given, Scenario, assumed, central_sources, chart, line, model_sources
from sim.scenarios.economics import running

SUITED = 0.10
RATIOS = (5.0, 6.0)
DRAWN = tuple(i / 10 for i in range(1, 11))


def saved(suited: float, ratio: float, *, wrong: float = 0.0) -> float:
    """Share of the bill that is saved when ``suited`` queries go to a tier ``ratio`` times cheaper.

    ``wrong``: the share of those that have to be asked again at the dear tier, which are then paid twice.
    """
    return suited * (1.0 - 1.0 / ratio) - suited * wrong


def bearable(ratio: float) -> float:
    """The share of wrong guesses at which nothing is saved any more."""
    return 1.0 - 1.0 / ratio


def two_tier(given: Given) -> Scenario:
    """At the issue's ratios and at those of the price book's own models, with and without the device as a tier."""
    book, fleet = given.book, running(given)
    asked = fleet.asked_share
    priced = sorted(book.models, key=lambda name: book.with_model(name).central_price_usd)
    pairs = [
        (f"{dear} over {cheap}", book.with_model(dear).central_price_usd / book.with_model(cheap).central_price_usd)
        for cheap, dear in pairwise(priced)
        if book.with_model(cheap).central_price_usd > 0
    ]
    cases = [*((f"ratio {ratio:g}", ratio) for ratio in RATIOS), *pairs]
    all_cloud = 1000 * book.central_price_usd
    loaded, tiers = 1000 * fleet.loaded_usd / fleet.queries, all_cloud * (1.0 - saved(SUITED, RATIOS[0]))
    rows = tuple(
        (
            name,
            ratio,
            saved(SUITED, ratio),
            all_cloud * saved(SUITED, ratio),
            saved(SUITED, ratio, wrong=0.2),
            bearable(ratio),
            all_cloud * asked * saved(SUITED, ratio),
        )
        for name, ratio in cases
    )
    return Scenario(
        key="two_tier",
        title="Two-tier routing",
        question="One query in ten suits a cheaper cloud tier, five to six times cheaper. What does routing them "
        "there save, "
        "without a device, and behind this fleet, where only the hard queries still reach the cloud?",
        findings=(
            f"{number(saved(SUITED, RATIOS[0]), 'share')} to {number(saved(SUITED, RATIOS[1]), 'share')} of an "
            f"all-cloud bill: "
            "the share that suits the tier caps the saving, whatever the ratio.",
            f"The device as the cheap tier takes {number(1.0 - asked, 'share')} of the queries off the bill (last "
            f"round of the "
            "run, probes paid).",
        ),
        loses=(
            f"Behind the fleet the two tiers have {number(asked, 'share')} of the bill left to save on, and those are the "
            "queries that the small model was least sure of: that one in ten of them suits a cheap tier is generous.",
            *(
                [
                    f"Loaded, the fleet costs {number(loaded, 'usd')} USD per 1,000 queries at "
                    f"{number(fleet.queries, 'count')} a device and day; two tiers at a ratio of {RATIOS[0]:g} cost "
                    f"{number(tiers, 'usd')} and need no device."
                ]
                if loaded > tiers
                else []
            ),
        ),
        columns=(
            ("price ratio", "count"),
            ("saved of an all-cloud bill", "share"),
            ("USD per 1,000 queries", "usd"),
            ("saved when 1 in 5 is asked again", "share"),
            ("asked again: nothing saved at", "share"),
            ("behind the fleet, USD per 1,000", "usd"),
        ),
        rows=rows,
        chart=chart(
            "two_tier",
            "Saved of an all-cloud bill",
            "Over the share of queries that suit the cheap tier.",
            axis="share that suits the cheap tier",
            names=tuple(f"{100 * share:g} %" for share in DRAWN),
            lines=tuple(
                line(f"{ratio:g} times cheaper", _savings(ratio), "share", colour, label=f"1/{ratio:g}")
                for ratio, colour in zip(RATIOS, ("c0", "c5"), strict=True)
            ),
            top=1.0,
        ),
        sources=(
            *central_sources(book),
            *model_sources(book, *(name for name in priced if name != book.central_model)),
            assumed("share that suits the cheap tier", SUITED, "the scenario's question"),
            *(assumed("price ratio", ratio, "the scenario's question") for ratio in RATIOS),
        ),
    )


def _savings(ratio: float) -> tuple[float, ...]:
    return tuple(saved(share, ratio) for share in DRAWN)
