"""A model is replaced in the middle of a run: what is kept, what is lost, what it costs. Told from what `new_base` plays."""

from fedge.costs import repriced
from fedge.costs.ledger import STANDING, Kind
from sim.report.numbers import number
from sim.scenarios.base import Given, Scenario, Source, Value, assumed, book_source, central_sources, chart, line
from sim.scenarios.economics import WORK
from sim.scenarios.new_base import WIDER, Before, Case, Replaced

COLOURS = ("c5", "c0", "c2")


def model_replaced(given: Given, played: Replaced) -> Scenario:
    """Every case beside the model that is kept, at the prices of ``given``."""
    before, (kept, *new) = played.before, played.cases
    days = len(kept.rounds)
    extra = {case.name: _usd(given, case) - _usd(given, kept) for case in new}
    empty = new[0]
    return Scenario(
        key="model_replaced",
        title="A model is replaced",
        question=f"On the evening of day {before.round} a new base release takes the place of the fleet's: another encoder "
        f"with another seed and {WIDER:g} times as many dimensions, with an empty head or one that learned the server's "
        f"own part. {_days(days)} follow. What is kept, and what does it cost beside keeping the old model?",
        findings=(
            f"Kept: {before.labelled} labelled queries and {before.probes} probes on {given.record.devices} devices, since "
            "they are stored as queries and labels, not as embeddings, and "
            f"{before.pairs} running pairs ({before.disagreed} disagreed). Lost: the head, the optimizer's moments, the "
            "temperature and the certificate.",
            *(_way_back(case, before, days) for case in new),
            f"On the first day each device downloads {number(_first_release(given, empty), 'bytes')} of releases (the new "
            f"base and the round's own) instead of {number(_first_release(given, kept), 'bytes')}.",
        ),
        loses=tuple(
            f"{case.name.capitalize()}: {case.asked - kept.asked} more answers of central and "
            f"{number(extra[case.name], 'usd')} USD more in {_days(days)} than with the old model kept; on "
            f"{_days(case.blind_days)} everything escalates."
            for case in new
            if extra[case.name] > 0
        ),
        columns=(
            ("right, first day", "share"),
            ("right, last day", "share"),
            ("days all escalates", "count"),
            ("rounds to certified", "count"),
            ("rounds to old fallback", "count"),
            ("central's answers", "count"),
            ("releases down", "bytes"),
            ("work", "joule"),
            ("marginal USD", "usd"),
            ("more USD", "usd"),
        ),
        rows=tuple((case.name, *_row(given, case, before), extra.get(case.name)) for case in played.cases),
        chart=chart(
            "model_replaced",
            "Answered on the device, by day",
            f"Share of the day's queries; the model is replaced before day {before.round + 1}.",
            axis="day",
            names=tuple(str(entry["round"]) for entry in kept.rounds),
            lines=tuple(
                line(
                    case.name,
                    tuple(entry["stream"]["local"] / entry["stream"]["queries"] for entry in case.rounds),
                    "share",
                    colour,
                    label=label,
                    dashed=case is kept,
                )
                for case, colour, label in zip(played.cases, COLOURS, ("kept", "empty", "warm"), strict=True)
            ),
            top=1.0,
        ),
        sources=(
            Source(
                "runs of its own",
                float(len(played.cases)),
                f"measured: played for this page with seed {given.record.seed}",
                "run",
            ),
            *central_sources(given.book),
            book_source(given.book, "server_egress_usd_per_gb"),
            book_source(given.book, "device_electricity_usd_per_kwh"),
            assumed("dimensions of the new encoder, times the old one's", WIDER, "the scenario's question"),
        ),
        own_runs=True,
    )


def _usd(given: Given, case: Case) -> float:
    """Marginal cost of all rounds of a case."""
    total = 0.0
    for entry in case.rounds:
        usd = repriced(entry["quantities"], given.book, given.recorded)
        total += sum(amount for kind, amount in usd.items() if kind not in STANDING)
    return total


def _first_release(given: Given, case: Case) -> float:
    """What one device downloads on the first day."""
    fleet = case.rounds[0]["quantities"].get(Kind.DOWNLINK_RELEASES.value, 0.0)
    return float(fleet) / given.record.devices


def _row(given: Given, case: Case, before: Before) -> tuple[Value, ...]:
    return (
        case.rounds[0]["accuracy"]["device"],
        case.rounds[-1]["accuracy"]["device"],
        float(case.blind_days),
        _rounds(case.certified_after),
        _rounds(case.back_after(before.fallback_rate)),
        float(case.asked),
        case.used(Kind.DOWNLINK_RELEASES),
        case.used(*WORK),
        _usd(given, case),
    )


def _rounds(count: int | None) -> Value:
    return None if count is None else float(count)


def _way_back(case: Case, before: Before, days: int) -> str:
    back, certified = case.back_after(before.fallback_rate), case.certified_after
    rate, right = number(before.fallback_rate, "share"), number(case.rounds[0]["accuracy"]["device"], "share")
    return (
        f"{case.name.capitalize()}: right on the device in {right} on the first evening. The fallback rate is "
        f"{_when(f'back at {rate} or less', back, days)}, the fleet is {_when('certified', certified, days)}."
    )


def _when(what: str, rounds: int | None, days: int) -> str:
    if rounds is None:
        return f"not {what} within {_days(days)}"
    return f"{what} after {rounds} round{'' if rounds == 1 else 's'}"


def _days(count: int) -> str:
    return f"{count} day{'' if count == 1 else 's'}"
