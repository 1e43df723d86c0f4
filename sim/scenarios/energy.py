"""How the conclusion moves when the energy figures are wrong by a factor of three either way."""

from dataclasses import dataclass

from fedge.costs import repriced
from fedge.costs.ledger import STANDING, Kind
from sim.report.numbers import number
from sim.scenarios.base import Given, Scenario, assumed, book_source, central_sources, chart, line, profile_sources
from sim.scenarios.economics import WORK, quantities

FACTOR = 3.0
FACTORS = (1 / FACTOR, 1.0, FACTOR)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The last round with device and cloud energy multiplied. USD per 1,000 queries, joules a query.

    ``match``: queries a day whose data-centre energy equals what the device draws by merely being on.
    """

    marginal_usd: float
    loaded_usd: float
    work_j: float
    idle_j: float
    central_j: float
    all_cloud_j: float
    match: float


def conclusion(given: Given, *, device: float = 1.0, cloud: float = 1.0, idle: float | None = None) -> Conclusion:
    """``device`` multiplies the device's joules, idling too unless ``idle`` says otherwise; ``cloud`` the data centre's,
    which no price follows.
    """
    book, profile, stream = given.book, given.profile, given.last["stream"]
    standing = device if idle is None else idle
    factors = {kind.value: device for kind in WORK} | {Kind.DEVICE_IDLE.value: standing}
    queries = stream["queries"]
    used = {kind: amount * factors.get(kind, 1.0) for kind, amount in quantities(given, profile).items()}
    usd = repriced(used, book, profile)
    marginal = sum(amount for kind, amount in usd.items() if kind not in STANDING)
    each = cloud * book.central_energy_j_per_query
    return Conclusion(
        marginal_usd=1000 * marginal / queries,
        loaded_usd=1000 * sum(usd.values()) / queries,
        work_j=sum(used.get(kind.value, 0.0) for kind in WORK) / queries,
        idle_j=used.get(Kind.DEVICE_IDLE.value, 0.0) / queries,
        central_j=each * (stream["escalated"] + stream["probes"]) / queries,
        all_cloud_j=each,
        match=86_400 * standing * profile.idle_w / each,
    )


def energy(given: Given) -> Scenario:
    """Both figures, each a third, as it is, and threefold."""
    price = 1000 * given.book.central_price_usd
    cases = [(d, c, conclusion(given, device=d, cloud=c)) for d in FACTORS for c in FACTORS]
    as_is = conclusion(given)
    work = [(f"work alone {_times(factor)}", conclusion(given, device=factor, idle=1.0)) for factor in (1 / FACTOR, FACTOR)]
    swing = max(abs(case.marginal_usd / as_is.marginal_usd - 1.0) for _, case in work)
    flips = {
        "marginal cost": {case.marginal_usd < price for _, _, case in cases},
        "loaded cost": {case.loaded_usd < price for _, _, case in cases},
        "energy of the work": {case.work_j + case.central_j < case.all_cloud_j for _, _, case in cases},
        "energy with idle power": {_all_j(case) < case.all_cloud_j for _, _, case in cases},
    }
    firm = [f"{name} is {'below' if True in kept else 'above'} all cloud" for name, kept in flips.items() if len(kept) == 1]
    open_ = [name for name, kept in flips.items() if len(kept) == 2]
    worse = [f"{_times(d)} / {_times(c)}" for d, c, case in cases if _all_j(case) > case.all_cloud_j]
    dear = list(dict.fromkeys(_times(d) for d, _, case in cases if case.loaded_usd > price))
    where = "at every factor" if len(worse) == len(cases) else f"at (device / cloud) {', '.join(worse)}"
    return Scenario(
        key="energy",
        title="When the energy figure is wrong by three",
        question="The device's joules (power and time per inference alike) and the data centre's per query are each "
        "taken as a "
        "third, as they are, and threefold. Central's list price covers its energy, so only the device's joules "
        "move dollars.",
        findings=(
            *([f"Whatever the factor, {'; '.join(firm)}."] if firm else []),
            *([f"It depends on the factor: {', '.join(open_)}."] if open_ else []),
            "Inference (and all other work of the device, but not idling) at a third or three times the energy moves "
            f"marginal cost by at most {number(swing, 'share')}.",
            f"Merely being on equals the data centre's energy at {number(as_is.match, 'count')} queries a day, between "
            f"{number(min(c.match for *_, c in cases), 'count')} and "
            f"{number(max(c.match for *_, c in cases), 'count')} over "
            "all factors.",
        ),
        loses=(
            *([f"With idle power the fleet uses more energy than all cloud {where}."] if worse else []),
            *([f"Loaded cost is above all cloud with the device's energy {', '.join(dear)}."] if dear else []),
        ),
        columns=(
            ("marginal, USD per 1,000", "usd"),
            ("loaded, USD per 1,000", "usd"),
            ("all cloud, USD per 1,000", "usd"),
            ("work and central, joules a query", "joule"),
            ("with idle power", "joule"),
            ("all cloud, joules a query", "joule"),
            ("queries a day to match idling", "count"),
        ),
        rows=tuple(
            (
                name,
                case.marginal_usd,
                case.loaded_usd,
                price,
                case.work_j + case.central_j,
                _all_j(case),
                case.all_cloud_j,
                case.match,
            )
            for name, case in (*((f"device {_times(d)}, cloud {_times(c)}", case) for d, c, case in cases), *work)
        ),
        chart=chart(
            "energy",
            "USD per 1,000 queries",
            "Over the factor on the device's energy.",
            axis="device's energy",
            names=tuple(_times(factor) for factor in FACTORS),
            lines=(
                line("all cloud", (price,) * 3, "usd", "ink", label="all-cloud", dashed=True),
                line(
                    "marginal",
                    tuple(conclusion(given, device=f).marginal_usd for f in FACTORS),
                    "usd",
                    "c0",
                    label="marginal",
                ),
                line("loaded", tuple(conclusion(given, device=f).loaded_usd for f in FACTORS), "usd", "c5", label="loaded"),
            ),
        ),
        sources=(
            *central_sources(given.book),
            book_source(given.book, "central_energy_wh_per_query"),
            book_source(given.book, "device_electricity_usd_per_kwh"),
            *profile_sources(given.profile),
            assumed("factor", FACTOR, "the scenario's question"),
        ),
    )


def _all_j(case: Conclusion) -> float:
    return case.work_j + case.idle_j + case.central_j


def _times(factor: float) -> str:
    return f"x{factor:g}" if factor >= 1 else f"x1/{1 / factor:g}"
