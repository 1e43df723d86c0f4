"""Long-tail classes: device-only, federated and central accuracy on the tenth of the classes that users ask least."""

import numpy as np
from numpy.typing import NDArray

from sim.record import RunRecord
from sim.report.numbers import number
from sim.scenarios.base import Given, Scenario, Source, chart, line

TENTH = 0.1


def rarest(record: RunRecord, share: float = TENTH) -> NDArray[np.int64]:
    """The classes in scope that the fleet was asked least in the run: ``share`` of them, at least one, the rarest first."""
    classes = np.array([i for i in range(len(record.labels)) if i != record.oos_index])
    order = classes[np.argsort(record.asked[classes], kind="stable")]
    return order[: max(1, round(share * len(order)))]


def accuracies(record: RunRecord, chosen: NDArray[np.bool_]) -> tuple[float | None, ...]:
    """Alone, federated, what the user gets, central, and the local share, over the ``chosen`` test queries."""
    columns = record.queries
    if not chosen.any():
        return (None,) * 5
    system = np.where(columns.local == 1, columns.device, columns.central)
    right = [(answer == columns.truth)[chosen].mean() for answer in (columns.device, system, columns.central)]
    alone = columns.alone[chosen].mean() / record.alone_devices if record.alone_devices else np.nan
    return (float(alone), *(float(each) for each in right), float(columns.local[chosen].mean()))


def long_tail(given: Given) -> Scenario:
    """The rarest tenth against all classes in scope, and against the tenth that is asked most."""
    record = given.record
    rare, truth = rarest(record), record.queries.truth
    common = rarest(record, 1.0)[-len(rare) :]
    scope = truth != (-1 if record.oos_index is None else record.oos_index)
    groups = {
        "rarest tenth": np.isin(truth, rare),
        "most asked tenth": np.isin(truth, common),
        "all in scope": scope,
    }
    rows = {name: accuracies(record, chosen) for name, chosen in groups.items()}
    tail = rows["rarest tenth"]
    named = ", ".join(f"{record.labels[i]} ({record.asked[i]} times)" for i in rare[:5])
    gap = (tail[3] or 0.0) - (tail[1] or 0.0)
    return Scenario(
        key="long_tail",
        title="Long-tail classes",
        question="How well are the classes answered that users ask least? A device alone learns from its own labels only "
        f"(mean of {record.alone_devices} devices, each with as many steps as in the run, on the fleet's encoder); the "
        "federated model is the run's last release; test queries are of all handwritings or users alike.",
        findings=(
            f"The rarest tenth, {len(rare)} of {len(rarest(record, 1.0))} classes: "
            f"{named}{', ...' if len(rare) > 5 else ''}.",
            f"There a device alone is right in {number(tail[0], 'share')}, the federated model in "
            f"{number(tail[1], 'share')}, "
            f"central in {number(tail[3], 'share')}.",
        ),
        loses=(
            *(
                [f"On the rarest tenth the device's model is {number(gap, 'share')} (points) behind central."]
                if gap > 0
                else []
            ),
        ),
        columns=(
            ("device alone", "share"),
            ("federated", "share"),
            ("what the user gets", "share"),
            ("central", "share"),
            ("answered on the device", "share"),
            ("test queries", "count"),
        ),
        rows=tuple((name, *rows[name], float(groups[name].sum())) for name in groups),
        chart=chart(
            "long_tail",
            "Accuracy by how often a class is asked",
            "Right answers to the test queries of these classes.",
            axis="classes",
            names=("rarest", "most asked", "all"),
            lines=tuple(
                line(name, tuple(row[i] for row in rows.values()), "share", colour, label=name, dashed=name == "central")
                for i, name, colour in ((0, "alone", "c1"), (1, "federated", "c0"), (3, "central", "c5"))
            ),
            top=1.0,
        ),
        sources=(
            Source(
                "queries asked in the run", float(record.asked.sum()), f"measured: the run with seed {record.seed}", "run"
            ),
        ),
    )
