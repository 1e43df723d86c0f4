"""Accelerators: the same fleet and the same run on other devices, from a Raspberry Pi 4 to a graphics card in a rack."""

from dataclasses import dataclass

from fedge.costs import DeviceProfile, PriceBook, repriced
from fedge.costs.ledger import STANDING
from sim.report.numbers import number
from sim.scenarios.base import Given, Scenario, book_source, central_sources, chart, line, profile_sources
from sim.scenarios.economics import WORK, quantities, running, standing_usd

NAMES = {
    "raspberry-pi-4": "Pi 4",
    "raspberry-pi-5": "Pi 5",
    "jetson-orin-nano": "Orin",
    "laptop": "laptop",
    "data-centre-gpu": "GPU",
}


@dataclass(frozen=True, slots=True)
class OnDevice:
    """The recorded run's last round on one device. USD per 1,000 queries; joules a query, idle power apart."""

    name: str
    marginal_usd: float
    loaded_usd: float
    work_j: float
    standing_usd_per_day: float
    queries_per_day: float | None


def on_device(given: Given, profile: DeviceProfile) -> OnDevice:
    """Energy by the profile's seconds and watts in place of the recorded device's; what is not energy stays."""
    queries, book = given.last["stream"]["queries"], given.book
    used = quantities(given, profile)
    usd = repriced(used, book, profile)
    marginal = 1000 * sum(amount for kind, amount in usd.items() if kind not in STANDING) / queries
    standing = standing_usd(profile, book)
    return OnDevice(
        profile.name,
        marginal,
        marginal + 1000 * standing * given.record.devices / queries,
        sum(used.get(kind.value, 0.0) for kind in WORK) / queries,
        standing,
        break_even(book, marginal_usd=marginal / 1000, standing_usd_per_day=standing),
    )


def break_even(book: PriceBook, *, marginal_usd: float, standing_usd_per_day: float) -> float | None:
    """Queries of one device and day at which loaded equals all cloud; None where no number of queries is enough."""
    saved = book.central_price_usd - marginal_usd
    return standing_usd_per_day / saved if saved > 0 else None


def accelerators(given: Given) -> Scenario:
    """Every profile, the run's own first where it is first in the file."""
    found = [on_device(given, profile) for profile in given.profiles.values()]
    cloud = 1000 * given.book.central_price_usd
    each = given.last["stream"]["queries"] / given.record.devices
    drawn = [one for one in found if one.name != "data-centre-gpu"]
    losers = [one for one in found if one.loaded_usd > cloud]
    least, most = min(found, key=lambda one: one.loaded_usd), max(found, key=lambda one: one.loaded_usd)
    shares = [profile for profile in given.profiles.values() if profile.value("attributed_share") < 1]
    return Scenario(
        key="accelerators",
        title="Accelerators",
        question="The same fleet, queries and rounds on each device profile. Inference and a training step of this kind of "
        f"model ({given.record.device_model}) were timed once, on one x86 core, and scaled to the others: each profile says "
        "how. None of the boards was timed here.",
        findings=(
            f"At {number(each, 'count')} queries a device and day, loaded cost is lowest on {least.name} "
            f"({number(least.loaded_usd, 'usd')} USD per 1,000) and highest on {most.name} "
            f"({number(most.loaded_usd, 'usd')}); all cloud costs {number(cloud, 'usd')}.",
            f"Marginal cost is {_range([one.marginal_usd for one in found])} USD per 1,000, of which central's answers are "
            f"{number(1000 * running(given).asked_share * given.book.central_price_usd, 'usd')} on every device.",
            *(
                f"Of the {profile.name}'s idle power and price only {number(profile.value('attributed_share'), 'share')} is "
                f"charged: {profile.figures['attributed_share'].source}."
                for profile in shares
            ),
        ),
        loses=tuple(
            f"{one.name}: {number(one.loaded_usd, 'usd')} USD per 1,000 queries loaded against {number(cloud, 'usd')}; "
            + (
                f"it breaks even from {number(one.queries_per_day, 'count')} queries a day."
                if one.queries_per_day is not None
                else "no number of queries makes up for it."
            )
            for one in losers
        ),
        columns=(
            ("marginal, USD per 1,000", "usd"),
            ("loaded, USD per 1,000", "usd"),
            ("loaded against all cloud", "share"),
            ("work, joules a query", "joule"),
            ("standing, USD a day", "usd"),
            ("breaks even at queries a day", "count"),
        ),
        rows=tuple(
            (
                one.name,
                one.marginal_usd,
                one.loaded_usd,
                one.loaded_usd / cloud,
                one.work_j,
                one.standing_usd_per_day,
                one.queries_per_day,
            )
            for one in found
        ),
        chart=chart(
            "accelerators",
            "Queries a day to break even",
            "Of one device, loaded against all cloud at today's price. The data-centre card is in the table: it "
            "would dwarf the rest.",
            axis="device",
            names=tuple(NAMES.get(one.name, one.name) for one in drawn),
            bars=(line("break-even", tuple(one.queries_per_day for one in drawn), "count", "c0"),),
            lines=(line("this run", (each,) * len(drawn), "count", "c5", label="run", dashed=True),),
        ),
        sources=(
            *central_sources(given.book),
            book_source(given.book, "device_electricity_usd_per_kwh"),
            *(source for profile in given.profiles.values() for source in profile_sources(profile)),
        ),
    )


def _range(usd: list[float]) -> str:
    least, most = number(min(usd), "usd"), number(max(usd), "usd")
    return least if least == most else f"{least} to {most}"
