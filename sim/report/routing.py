"""The report's part on routing: the risk-coverage curve, and the shares that the confidence would let the device answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sim.report.numbers import MISSING, Unit, number
from sim.report.series import Figure, Series

_ROWS: tuple[tuple[str, str, Unit], ...] = (
    ("local_at_equal", "local, equal", "share"),
    ("local_at_minus_half_point", "local, -0.5 point", "share"),
    ("local_at_minus_one_point", "local, -1 point", "share"),
    ("aurc", "AURC", "count"),
    ("cpt_50", "CPT 50 %", "share"),
    ("cpt_80", "CPT 80 %", "share"),
    ("apgr", "APGR", "count"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure for all test queries and for those in scope, each with its interval, as text."""

    name: str
    all: str
    in_scope: str


def rows(summary: Mapping[str, Any]) -> list[Row]:
    """The table of figures; empty for a summary of an older version, which has none."""
    routing = summary.get("routing")
    if not routing:
        return []
    return [Row(name, _cell(routing["all"][key], unit), _cell(routing["in_scope"][key], unit)) for key, name, unit in _ROWS]


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """What the threshold in use did to the test queries, both directions of error apart, and to those out of scope."""
    routing = summary.get("routing")
    if not routing:
        return []
    did, outside = routing["threshold"], routing["out_of_scope"]
    said = [
        f"The threshold in use kept {did['local']} of {did['queries']} test queries local: {did['kept_wrongly']} of them "
        f"were wrong where central is right. It sent {did['escalated_needlessly']} to central that the device had right."
    ]
    if outside is not None:
        found = outside["local_at_minus_one_point_in_scope"]
        said.append(
            f"Out of scope: {did['out_of_scope_local']} of {did['out_of_scope']} such test queries were answered locally. "
            f"The confidence tells in scope from out of scope with an AUROC of {_cell(outside['auroc'], 'count')}; at the "
            f"threshold that costs a point in scope, {_cell(found, 'share')} of them would be answered locally."
        )
    return said


def risk_coverage(summary: Mapping[str, Any]) -> Figure | None:
    """Share of wrong answers among those that the device gives, the surest first; None for an older version's summary."""
    routing = summary.get("routing")
    if not routing:
        return None
    points = routing["all"]["risk_coverage"]
    percent = tuple(round(100 * point["coverage"]) for point in points)

    def line(name: str, key: str, colour: str, label: str) -> Series:
        return Series(name, tuple(float(p["risk"]) for p in routing[key]["risk_coverage"]), "share", colour, label=label)

    lines = [line("device, all queries", "all", "c0", "all")]
    if routing["out_of_scope"] is not None:
        lines.append(line("device, queries in scope", "in_scope", "c2", "in scope"))
    central = 1.0 - float(routing["in_scope"]["accuracy"]["central"])
    lines.append(
        Series("central, everything in scope", (central,) * len(points), "share", "c5", label="central", dashed=True)
    )
    return Figure(
        key="risk-coverage",
        title="Risk and coverage after the last round",
        caption="Share of wrong answers on the test third, if the device answered only so many queries: those that it is "
        "surest of.",
        unit="share",
        rounds=percent,
        lines=tuple(lines),
        table=tuple(lines),
        unfinished={},
        axis="coverage in %",
    )


def _cell(entry: Mapping[str, Any] | None, unit: Unit) -> str:
    if entry is None:
        return MISSING
    value, low, high = (number(part, unit) for part in (entry["value"], *entry["interval_95"]))
    return f"{value} ({low} to {high})"
