"""What a scenario is given and what it gives back: values only. Nothing is drawn, read or simulated here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedge.costs import DeviceProfile, Figure, PriceBook
from sim.record import RunRecord
from sim.report.numbers import Unit, number
from sim.report.series import Figure as Chart
from sim.report.series import Series, Values

Value = float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The recorded run and the figures it is looked at with: ``book`` and ``profiles`` need not be those of the run.

    ``recorded``: the device that its joules were counted on; ``profile``: the same device by the figures given now.
    """

    record: RunRecord
    book: PriceBook
    profiles: Mapping[str, DeviceProfile]
    recorded: DeviceProfile

    @property
    def profile(self) -> DeviceProfile:
        """The run's device."""
        return self.profiles[self.record.device_profile]

    @property
    def last(self) -> Mapping[str, Any]:
        """The recorded run's last round."""
        return self.record.rounds[-1]


@dataclass(frozen=True, slots=True)
class Source:
    """A figure that a scenario rests on, with where it comes from and when it was true."""

    name: str
    value: float
    source: str
    date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One question: what comes out (``findings``), where the device side ``loses``, a table, a chart and the sources.

    ``columns`` are names with units; the first cell of a row is its name. ``own_runs``: played anew for this question.
    """

    key: str
    title: str
    question: str
    findings: tuple[str, ...]
    loses: tuple[str, ...]
    columns: tuple[tuple[str, Unit], ...]
    rows: tuple[tuple[Value, ...], ...]
    chart: Chart
    sources: tuple[Source, ...]
    own_runs: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For `scenarios.json`: numbers as numbers, in the units that stand beside them."""
        chart = self.chart
        return {
            "key": self.key,
            "title": self.title,
            "question": self.question,
            "own_runs": self.own_runs,
            "findings": list(self.findings),
            "device_side_loses": list(self.loses),
            "columns": ["case", *(f"{name} [{unit}]" for name, unit in self.columns)],
            "rows": [list(row) for row in self.rows],
            "chart": {
                "title": chart.title,
                "axis": chart.axis,
                "x": [chart.name(i) for i in range(len(chart.rounds))],
                "unit": chart.unit,
                "series": {series.name: list(series.values) for series in chart.table},
            },
            "sources": [{"name": s.name, "value": s.value, "source": s.source, "date": s.date} for s in self.sources],
        }


def cell(value: Value, unit: Unit) -> str:
    """A table's cell as text."""
    return value if isinstance(value, str) else number(value, unit)


def line(name: str, values: Values, unit: Unit, colour: str, *, label: str = "", dashed: bool = False) -> Series:
    """One line of a chart."""
    return Series(name, values, unit, colour, label=label, dashed=dashed)


def chart(
    key: str,
    title: str,
    caption: str,
    *,
    axis: str,
    names: tuple[str, ...],
    lines: tuple[Series, ...],
    bars: tuple[Series, ...] = (),
    top: float = 0.0,
) -> Chart:
    """A chart of lines over named columns, before stacked ``bars``."""
    return Chart(
        key=key,
        title=title,
        caption=caption,
        unit=(*bars, *lines)[0].unit,
        rounds=tuple(range(1, len(names) + 1)),
        layers=bars,
        lines=lines,
        table=(*bars, *lines),
        top=top,
        unfinished={},
        axis=axis,
        names=names,
    )


def book_source(book: PriceBook, name: str) -> Source:
    """A figure of the price book."""
    figure = book.figures[name]
    return Source(name, figure.value, figure.source, figure.date)


def model_sources(book: PriceBook, *names: str) -> tuple[Source, ...]:
    """Both list prices of each model, in USD per million tokens."""
    return tuple(
        Source(f"{name} model, {way} (USD per million tokens)", value, model.source, model.date)
        for name in names
        for model in (book.models[name],)
        for way, value in (("in", model.input_usd_per_mtok), ("out", model.output_usd_per_mtok))
    )


def central_sources(book: PriceBook) -> tuple[Source, ...]:
    """What one answer of central costs, and its list prices."""
    tokens = f"{book.tokens_in} tokens in and {book.tokens_out} out at the {book.central_model} model's list price"
    own = Source("an answer of central (USD)", book.central_price_usd, tokens, book.models[book.central_model].date)
    return (own, *model_sources(book, book.central_model))


def profile_sources(profile: DeviceProfile, *names: str) -> tuple[Source, ...]:
    """Figures of a device, all of them where no name is given."""
    figures: Mapping[str, Figure] = profile.figures
    return tuple(
        Source(f"{profile.name}: {name}", figures[name].value, figures[name].source, figures[name].date)
        for name in (names or tuple(figures))
    )


def assumed(name: str, value: float, why: str, date: str = "2026-11") -> Source:
    """A figure that this scenario chose."""
    return Source(name, value, f"assumption: {why}", date)
