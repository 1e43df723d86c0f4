"""How the report writes numbers: three or four significant digits, a unit, a dash where there is none. Measures nothing."""

import math
from collections.abc import Callable
from typing import Literal

Unit = Literal["share", "usd", "bytes", "joule", "second", "count"]

MISSING = "–"
_SPACE = "\N{NO-BREAK SPACE}"
_PREFIXES = ("", "k", "M", "G", "T", "P")
_SYMBOLS: dict[Unit, str] = {"bytes": "B", "joule": "J"}


def significant(value: float, digits: int) -> str:
    """``value`` with ``digits`` significant digits, in full between 0.0001 and a million million."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e12:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def number(value: float | None, unit: Unit) -> str:
    """``value`` in three digits with its unit, for reading; dollars stand bare, since each place that shows them says so."""
    if value is None:
        return MISSING
    if unit == "share":
        return f"{_plain(100 * value)}{_SPACE}%"
    if unit == "second":
        return f"{_plain(value)}{_SPACE}s"
    if unit in _SYMBOLS:
        power = _power(value)
        return f"{_plain(value / 1000**power)}{_SPACE}{_PREFIXES[power]}{_SYMBOLS[unit]}"
    return _plain(value) if unit == "count" else significant(value, 3)


def precise(value: float, unit: Unit) -> str:
    """``value`` with its unit, for a table: more digits, and those of one column under one another."""
    if unit == "share":
        return f"{100 * value:.2f}{_SPACE}%"
    if unit == "second":
        return f"{value:.3f}{_SPACE}s"
    if unit in _SYMBOLS:
        power = _power(value)
        return f"{significant(value / 1000**power, 4)}{_SPACE}{_PREFIXES[power]}{_SYMBOLS[unit]}"
    return _plain(value) if unit == "count" else significant(value, 4)


def tick_text(top: float, unit: Unit) -> Callable[[float], str]:
    """How the ticks of an axis that ends at ``top`` are written: all with one prefix, without needless zeros."""
    power = _power(top) if unit in _SYMBOLS else 0
    scale = 100.0 if unit == "share" else 1000.0**-power
    symbol = {"share": "%", "second": "s"}.get(unit) or f"{_PREFIXES[power]}{_SYMBOLS.get(unit, '')}"
    suffix = f"{_SPACE}{symbol}" if symbol else ""
    return lambda value: f"{value * scale:.6g}{suffix}" if value else "0"


def ticks(top: float, *, whole: bool = False) -> list[float]:
    """Two to six round numbers from 0 to at least ``top``, which must not be negative; ``whole`` ones for things counted."""
    if top <= 0:
        return [0.0, 1.0]
    magnitude = 10.0 ** math.floor(math.log10(top / 4))
    steps = (factor * magnitude for factor in (1, 2, 2.5, 5, 10, 20) if factor * magnitude * 5 >= top)
    step = next(step for step in steps if not whole or step == round(step) > 0)
    return [index * step for index in range(math.ceil(top / step - 1e-9) + 1)]


def thinned(count: int, most: int = 8) -> list[int]:
    """Which of ``count`` rounds get a label: the first, then at even steps, at most ``most`` or so."""
    step = next(s * 10**power for power in range(12) for s in (1, 2, 5) if count <= s * 10**power * most)
    return sorted({0, *range(step - 1, count, step)} - ({1} if step == 2 else set()))


def _plain(value: float) -> str:
    """Whole numbers stay whole."""
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e15 else significant(value, 3)


def _power(value: float) -> int:
    return 0 if abs(value) < 1 else min(len(_PREFIXES) - 1, math.floor(math.log10(abs(value)) / 3 + 1e-12))
