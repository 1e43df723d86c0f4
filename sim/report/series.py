"""What a figure is made of: values by round, and the little arithmetic on them. Missing values stay missing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from sim.report.numbers import Unit

Values = tuple[float | None, ...]
COLOURS = ("c0", "c1", "c2", "c3", "c4", "c5")
# A layer that is a smaller share of all layers would be drawn thinner than a line.
SLIVER = 0.005


@dataclass(frozen=True, slots=True)
class Series:
    """One value a round. ``label`` is written at a line's end; ``colour`` is a class of report.css."""

    name: str
    values: Values
    unit: Unit
    colour: str = "ink"
    label: str = ""
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Stacked ``layers`` (bottom first) and ``lines`` over rounds; ``table`` has the same data, in full where it was folded.

    ``marks`` are upright lines at a round, with their text; ``unfinished`` says what became of rounds that did not finish.
    ``top`` is where the axis ends, 0 for wherever the data does. Where the columns are no rounds, ``axis`` says what they
    are and ``names`` is written under them.
    """

    key: str
    title: str
    caption: str
    unit: Unit
    rounds: tuple[int, ...]
    layers: tuple[Series, ...] = ()
    lines: tuple[Series, ...] = ()
    table: tuple[Series, ...]
    top: float = 0.0
    marks: tuple[tuple[int, str], ...] = ()
    unfinished: Mapping[int, str]
    axis: str = "round"
    names: tuple[str, ...] = ()

    def name(self, index: int) -> str:
        """What is written under a column."""
        return self.names[index] if self.names else str(self.rounds[index])


def column(rounds: Iterable[Mapping[str, Any]], path: str) -> Values:
    """The number under a dotted key in every round, None where a round has none."""
    return tuple(_at(entry, path.split(".")) for entry in rounds)


def folded(layers: Sequence[Series], *, keep: int = len(COLOURS)) -> tuple[Series, ...]:
    """The ``keep`` largest layers in their order, coloured, with the sum of the others and of slivers on top.

    Layers without a value go.
    """
    used = [layer for layer in layers if total(layer)]
    visible = [layer for layer in used if total(layer) >= SLIVER * sum(map(total, used))]
    largest = sorted(visible, key=total, reverse=True)[:keep]
    rest = [layer for layer in used if layer not in largest]
    named = zip((layer for layer in used if layer in largest), COLOURS, strict=False)
    more = [Series(f"{len(rest)} smaller ones", sums(rest), rest[0].unit, "other")] if rest else []
    return (*(replace(layer, colour=colour) for layer, colour in named), *more)


def running(values: Values) -> Values:
    """Running sums; a missing value adds nothing."""
    return tuple(accumulate((value or 0.0) for value in values))


def ratios(above: Values, below: Values) -> Values:
    """Quotients; missing where either value is, or where nothing stands below."""
    return tuple(None if a is None or not b else a / b for a, b in zip(above, below, strict=True))


def sums(layers: Sequence[Series]) -> Values:
    """The layers added up, round by round."""
    rows = zip(*(layer.values for layer in layers), strict=True)
    return tuple(None if all(v is None for v in row) else sum(v or 0.0 for v in row) for row in rows)


def total(layer: Series) -> float:
    """All rounds added up."""
    return sum(value or 0.0 for value in layer.values)


def _at(entry: Mapping[str, Any], path: Sequence[str]) -> float | None:
    value: Any = entry
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
