"""What a power sensor is: something that says how much energy went by since it was last looked at, under a name.

A sensor measures all of what it is wired to (a board, a processor), never one process: see `meter` for what is made of that.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Scope = Literal["board", "processor"]
"""What the figure covers."""

MAX_FILE_BYTES = 4096
PAUSE_S = 0.1


class SensorError(Exception):
    """A sensor that gives no figure now: unplugged, not permitted, charging, or nonsense."""


class PowerSource(Protocol):
    """Watts, now."""

    def watts(self) -> float:
        """Power being drawn. Raises SensorError."""


class Sensor(Protocol):
    """Energy since the last look."""

    @property
    def source(self) -> str:
        """Its name in the ledger and the metrics, such as "ina219"."""

    @property
    def scope(self) -> Scope:
        """What the figure covers."""

    @property
    def where(self) -> str:
        """Where it is read, for people."""

    @property
    def pause_s(self) -> float:
        """How long to wait between two looks: what one costs, and how often the figure changes."""

    def begin(self, now: float) -> None:
        """Start counting at ``now`` (stopwatch seconds). Raises SensorError."""

    def advance(self, now: float) -> float:
        """Joules since the last call of `begin` or `advance`. Raises SensorError."""


@dataclass(slots=True)
class SampledPower:
    """A sensor of watts: the energy between two looks is the mean of both times the time between them."""

    source: str
    scope: Scope
    where: str
    power: PowerSource
    pause_s: float = PAUSE_S
    _last: tuple[float, float] = field(default=(0.0, 0.0))

    def begin(self, now: float) -> None:
        """Take the first look."""
        self._last = (now, self.power.watts())

    def advance(self, now: float) -> float:
        """Joules by the trapezoid between the last look and this one."""
        watts = self.power.watts()
        (before, watts_before), self._last = self._last, (now, watts)
        return (now - before) * (watts + watts_before) / 2


def read_integer(path: Path) -> int:
    """The whole number in a sysfs file. Raises SensorError."""
    text = read_word(path)
    try:
        return int(text)
    except ValueError:
        raise SensorError(f"{path} holds {text[:40]!r}, no whole number") from None


def read_word(path: Path) -> str:
    """The text of a sysfs file, stripped. Raises SensorError."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        raise SensorError(f"{path} cannot be read: {error.strerror or error}") from error


def named(path: Path) -> str:
    """The text of a sysfs file, or nothing where it cannot be read."""
    try:
        return read_word(path)
    except SensorError:
        return ""


def folders(parent: Path, pattern: str) -> list[Path]:
    """The entries of a sysfs class, in the order of their numbers; none where the class is missing."""
    try:
        found = list(parent.glob(pattern))
    except OSError:
        return []
    return sorted(found, key=lambda path: (len(path.name), path.name))
