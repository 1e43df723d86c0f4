"""From a figure to coordinates: where its layers, lines, ticks and labels lie. The template turns them into SVG.

Drawn at about the size at which it is shown, so that its text stays readable on a telephone. A library was looked for: those
that are light (pygal, leather) draw no lines over stacked bars and fix their colours, so that a report could not follow the
reader's scheme.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sim.report.numbers import number, thinned, tick_text, ticks
from sim.report.series import Figure, Series, Values, sums

WIDTH, HEIGHT = 360, 230
TOP, BOTTOM = 14, 190
# Of the widest common sans-serif at 11.5 pixels.
LETTER = 7.0
LINE_HEIGHT = 13.0
DOTS_UP_TO = 40


@dataclass(frozen=True, slots=True)
class Text:
    """A text whose anchor lies at x, y."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Path:
    """SVG path data in one colour."""

    d: str
    colour: str
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """The strip of one round: what hovering over it says, and whether its round did not finish."""

    x: float
    width: float
    title: str
    unfinished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """All coordinates of one chart, in units of a WIDTH by HEIGHT box."""

    width: int = WIDTH
    height: int = HEIGHT
    left: float
    right: float
    top: float = TOP
    bottom: float = BOTTOM
    values: tuple[Text, ...]
    rounds: tuple[Text, ...]
    layers: tuple[Path, ...]
    lines: tuple[Path, ...]
    dots: tuple[tuple[float, float, str], ...]
    labels: tuple[Text, ...]
    marks: tuple[Text, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class _Frame:
    """The plot's box: ``count`` rounds side by side, values from 0 to ``highest``."""

    left: float
    right: float
    count: int
    highest: float

    @property
    def slot(self) -> float:
        return (self.right - self.left) / max(1, self.count)

    def x(self, index: int) -> float:
        return self.left + (index + 0.5) * self.slot

    def y(self, value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * min(value / self.highest, 1.0)


def draw(figure: Figure) -> Drawing:
    """The chart of ``figure``."""
    steps = ticks(figure.top or _highest(figure), whole=figure.unit == "count")
    say = tick_text(steps[-1], figure.unit)
    ends = [(line, value) for line in figure.lines if line.label and (value := _last(line.values)) is not None]
    texts = [f"{line.label} {number(value, figure.unit)}" for line, value in ends]
    left = 10 + LETTER * max(len(say(step)) for step in steps)
    right = WIDTH - (12 + LETTER * max((len(text) for text in texts), default=0))
    frame = _Frame(left, right, len(figure.rounds), steps[-1])
    heights = _spread([frame.y(value) for _, value in ends])
    return Drawing(
        left=left,
        right=right,
        values=tuple(Text(left - 6, frame.y(step), say(step)) for step in steps),
        rounds=tuple(Text(frame.x(i), BOTTOM + 16, figure.name(i)) for i in thinned(len(figure.rounds))),
        layers=_bars(figure.layers, frame),
        lines=tuple(Path(_line(line.values, frame), line.colour, line.dashed) for line in figure.lines),
        dots=tuple(dot for line in figure.lines for dot in _dots(line, frame)),
        labels=tuple(Text(right + 7, height, text) for height, text in zip(heights, texts, strict=True)),
        marks=tuple(
            Text(frame.x(figure.rounds.index(at)), TOP + 9 + LINE_HEIGHT * row, text)
            for row, (at, text) in enumerate(figure.marks)
            if at in figure.rounds
        ),
        columns=tuple(
            Column(left + i * frame.slot, frame.slot, _title(figure, i), figure.rounds[i] in figure.unfinished)
            for i in range(len(figure.rounds))
        ),
    )


def _highest(figure: Figure) -> float:
    stacked = sums(figure.layers) if figure.layers else ()
    rows = (stacked, *(line.values for line in figure.lines))
    return max((value for values in rows for value in values if value is not None), default=0.0)


def _bars(layers: Sequence[Series], frame: _Frame) -> tuple[Path, ...]:
    """One path a layer: all its bars, each on top of the layers below."""
    # Many rounds make an area: bars that overlap by a hair, since ones that only touch show seams.
    width = 0.78 * frame.slot if frame.slot > 4 else frame.slot + 0.4
    base = [0.0] * frame.count
    paths = []
    for layer in layers:
        bars = []
        for index, value in enumerate(layer.values):
            if value:
                low, high = frame.y(base[index]), frame.y(base[index] + value)
                bars.append(f"M{frame.x(index) - width / 2:.1f} {low:.2f}V{high:.2f}h{width:.1f}V{low:.2f}z")
                base[index] += value
        paths.append(Path("".join(bars), layer.colour))
    return tuple(paths)


def _line(values: Values, frame: _Frame) -> str:
    """Through the values that are there; broken where one is missing."""
    parts, pen_down = [], False
    for index, value in enumerate(values):
        if value is not None:
            parts.append(f"{'L' if pen_down else 'M'}{frame.x(index):.1f} {frame.y(value):.2f}")
        pen_down = value is not None
    return "".join(parts)


def _dots(line: Series, frame: _Frame) -> list[tuple[float, float, str]]:
    """A dot for each value where there is room, and always for one without neighbours, which no line would show."""
    roomy = frame.count <= DOTS_UP_TO and not line.dashed
    shown = [value is not None for value in (None, *line.values, None)]
    return [
        (frame.x(index), frame.y(value), line.colour)
        for index, value in enumerate(line.values)
        if value is not None and (roomy or not (shown[index] or shown[index + 2]))
    ]


def _last(values: Values) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


def _spread(heights: Sequence[float]) -> list[float]:
    """Heights of labels moved apart until none covers another, kept inside the plot as far as they fit."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = dict.fromkeys(order, 0.0)
    above = -LINE_HEIGHT
    for index in order:
        above = placed[index] = max(heights[index], above + LINE_HEIGHT)
    below = BOTTOM + LINE_HEIGHT
    for index in reversed(order):
        below = placed[index] = min(placed[index], below - LINE_HEIGHT)
    return [placed[index] for index in range(len(heights))]


def _title(figure: Figure, index: int) -> str:
    """What hovering over a round says: every value that is drawn there."""
    number_, unit = figure.rounds[index], figure.unit
    outcome = f" ({figure.unfinished[number_]})" if number_ in figure.unfinished else ""
    drawn = [s for s in (*figure.lines, *reversed(figure.layers)) if s in figure.lines or s.values[index]]
    return "\n".join(
        [
            f"{figure.axis.capitalize()} {figure.name(index)}{outcome}",
            *(f"{s.name}: {number(s.values[index], unit)}" for s in drawn),
        ]
    )
