"""The cost paradox: a token gets ten times cheaper, thirty times as many are asked for, and the bill trebles."""

from sim.report.numbers import number
from sim.scenarios.base import Given, Scenario, assumed, book_source, central_sources, chart, line, profile_sources
from sim.scenarios.economics import DAYS_A_MONTH, Running, running

PRICE_FALLS, VOLUME_GROWS = 10.0, 30.0
STEPS = 5


def paradox(given: Given) -> Scenario:
    """One device's month: today, each change alone, both; and the way from today to both in equal ratios."""
    now = running(given)
    cases = (
        ("today", now),
        (f"price /{PRICE_FALLS:g}", now.changed(price=1 / PRICE_FALLS)),
        (f"volume x{VOLUME_GROWS:g}", now.changed(volume=VOLUME_GROWS)),
        ("both", now.changed(price=1 / PRICE_FALLS, volume=VOLUME_GROWS)),
    )
    way = [now.changed(price=PRICE_FALLS ** (-k / STEPS), volume=VOLUME_GROWS ** (k / STEPS)) for k in range(STEPS + 1)]
    both = cases[-1][1]
    busy = both.queries * given.profile.value("inference_s") / 86_400
    lost = [name for name, case in cases if case.loaded_usd > case.all_cloud_usd]
    lost_marginal = [name for name, case in cases if case.marginal_usd > case.all_cloud_usd]
    return Scenario(
        key="paradox",
        title="The cost paradox",
        question=f"Token prices fall {PRICE_FALLS:g} times while the volume of queries grows {VOLUME_GROWS:g} times. A "
        "device's cost of answering, the bytes of queries and central's answers grow with the volume; training, secure "
        "aggregation and releases go by rounds; idle power and hardware stay, since even then one core is busy with "
        f"answering for {number(busy, 'share')} of the day.",
        findings=(
            f"All cloud, the bill of one device's user goes from {_month(now.all_cloud_usd)} to "
            f"{_month(both.all_cloud_usd)} "
            f"USD a month, {number(both.all_cloud_usd / now.all_cloud_usd, 'count')} times as much, though each "
            f"answer costs "
            "a tenth.",
            f"With the fleet, marginal cost goes from {_month(now.marginal_usd)} to {_month(both.marginal_usd)} USD "
            f"a month, "
            f"and loaded from {_month(now.loaded_usd)} to {_month(both.loaded_usd)}.",
        ),
        loses=(
            *([f"Loaded, the device costs more than all cloud in these cases: {', '.join(lost)}."] if lost else []),
            *([f"Even marginal, it costs more in these cases: {', '.join(lost_marginal)}."] if lost_marginal else []),
        ),
        columns=(
            ("queries a day", "count"),
            ("all cloud, USD a month", "usd"),
            ("fleet, marginal", "usd"),
            ("fleet, loaded", "usd"),
            ("marginal against all cloud", "share"),
            ("loaded against all cloud", "share"),
        ),
        rows=tuple((name, *_row(case)) for name, case in cases),
        chart=chart(
            "paradox",
            "One device's month, in USD",
            "From today (step 0) to both changes (step 5), price and volume moving in equal ratios.",
            axis="step",
            names=tuple(str(k) for k in range(STEPS + 1)),
            lines=(
                line("all cloud", _monthly([c.all_cloud_usd for c in way]), "usd", "ink", label="all-cloud", dashed=True),
                line("fleet, marginal", _monthly([c.marginal_usd for c in way]), "usd", "c0", label="marginal"),
                line("fleet, loaded", _monthly([c.loaded_usd for c in way]), "usd", "c5", label="loaded"),
            ),
        ),
        sources=(
            *central_sources(given.book),
            book_source(given.book, "device_electricity_usd_per_kwh"),
            *profile_sources(given.profile, "idle_w", "load_w", "cores", "inference_s", "price_usd", "life_years"),
            assumed("fall of token prices (times)", PRICE_FALLS, "the scenario's question"),
            assumed("growth of volume (times)", VOLUME_GROWS, "the scenario's question"),
        ),
    )


def _row(case: Running) -> tuple[float, ...]:
    cloud = case.all_cloud_usd
    usd = (cloud, case.marginal_usd, case.loaded_usd)
    return (case.queries, *(DAYS_A_MONTH * each for each in usd), case.marginal_usd / cloud, case.loaded_usd / cloud)


def _monthly(daily: list[float]) -> tuple[float, ...]:
    return tuple(DAYS_A_MONTH * usd for usd in daily)


def _month(daily_usd: float) -> str:
    return number(DAYS_A_MONTH * daily_usd, "usd")
