"""A new intent: how many days until the other devices answer it themselves? Told from the runs that `arrival` plays."""

from collections.abc import Sequence

import numpy as np

from sim.measure import TestAnswers
from sim.record import RunRecord
from sim.report.numbers import number
from sim.scenarios.arrival import HALF, Learned, middle_class, shares
from sim.scenarios.base import Given, Scenario, Source, assumed, chart, line

COLOURS = ("c0", "c2")


def new_intent(given: Given, cases: Sequence[Learned]) -> Scenario:
    """Days until the fleet answers the intent locally, against the recorded run, in which it was never new."""
    record, intent = given.record, middle_class(given.record)
    known = _never_new(record, intent)
    label, days = record.labels[intent], len(cases[0].right) - 1
    one = cases[0]
    return Scenario(
        key="new_intent",
        title="A new intent",
        question=f"The class {label!r}, in the middle by how often the recorded run asked it, is kept from every device "
        "until a day, and from the data that the device's encoder learns from; central's model knows it. Then the device "
        "that asks it most on that day begins to. From which day on do the other devices answer half of its test queries "
        "rightly without asking central? Traffic, devices and parameters are otherwise the recorded run's.",
        findings=(
            *(_verdict(case) for case in cases),
            f"In the recorded run, where it never was new, {number(known[0], 'share')} of its test queries are answered on "
            f"the device and rightly, {number(known[1], 'share')} wrongly.",
        ),
        loses=(
            *(
                [
                    f"Asked at one device only, {number(one.right[-1], 'share')} of it is answered on the others after "
                    f"{_days(days)}: one device's labels stand against those of all others, which never name it."
                ]
                if one.days is None
                else [
                    f"Asked at one device only, half of it is answered on the others after {_days(one.days)}, "
                    f"{_against(cases[1].days)}: one device's labels stand against those of all others, which never name it."
                ]
                if cases[1].days is None or cases[1].days < one.days
                else []
            ),
            *(
                [
                    f"Up to {number(max(one.wrong), 'share')} of its test queries get another class's answer on the device: "
                    "the model does not know what it does not know, and a certificate speaks of the traffic that there was."
                ]
                if max(one.wrong) > 0
                else []
            ),
        ),
        columns=(
            ("days until the fleet answers half of it", "count"),
            ("queries of it asked until then, or in all", "count"),
            ("right on the device, last day", "share"),
            ("wrong on the device, last day", "share"),
            ("wrong on the device, before", "share"),
        ),
        rows=(
            *(
                (
                    case.name,
                    "not reached" if case.days is None else float(case.days),
                    float(sum(case.asked[: len(case.asked) if case.days is None else case.days + 1])),
                    case.right[-1],
                    case.wrong[-1],
                    case.wrong[0],
                )
                for case in cases
            ),
            ("never new (recorded run)", None, float(record.asked[intent]), *known, None),
        ),
        chart=chart(
            "new_intent",
            "The new intent, answered rightly on the device",
            "Share of its test queries, by days since it was first asked (0: the evening before).",
            axis="day",
            names=tuple(str(day) for day in range(days + 1)),
            lines=(
                *(
                    line(
                        case.name,
                        (*case.right, *(None,) * (days + 1 - len(case.right))),
                        "share",
                        colour,
                        label=case.name.removeprefix("asked at "),
                    )
                    for case, colour in zip(cases, COLOURS, strict=True)
                ),
                line("never new (recorded run)", (known[0],) * (days + 1), "share", "c5", label="known", dashed=True),
            ),
            top=1.0,
        ),
        sources=(
            Source("runs of its own", float(len(cases)), f"measured: played for this page with seed {record.seed}", "run"),
            assumed("share that counts as answered by the fleet", HALF, "the scenario's question"),
        ),
        own_runs=True,
    )


def _never_new(record: RunRecord, intent: int) -> tuple[float, float]:
    columns = record.queries
    nobody = np.zeros(len(columns.device), bool)  # a record does not say what policy decided, and no share here asks
    answers = TestAnswers(columns.device, columns.confidence, columns.local == 1, human=nobody, ruled=nobody)
    return shares(answers, columns.truth, columns.owner, intent=intent, device=None)


def _verdict(case: Learned) -> str:
    if case.days is None:
        days = len(case.right) - 1
        return f"{case.name.capitalize()}, the fleet does not answer half of it for good within {_days(days)}."
    asked = sum(case.asked[: case.days + 1])
    return f"{case.name.capitalize()}, the fleet answers half of it after {_days(case.days)} and {asked} queries of it."


def _against(days: int | None) -> str:
    return (
        "and not for good where every device asks it"
        if days is None
        else f"against {_days(days)} where every device asks it"
    )


def _days(count: int) -> str:
    return f"{count} day{'' if count == 1 else 's'}"
