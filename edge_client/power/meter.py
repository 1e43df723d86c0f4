"""From what a board draws to what a piece of work cost: the first source of a chain that speaks, and its name.

A sensor sees everything that runs. What a piece of work cost is the energy while it ran less what the board draws at rest,
as the same sensor showed it shortly before. Work too short for a sensor, or a sensor whose rest is not known yet, gives no
figure: the caller's model speaks then, and says so. Single queries (a millisecond) are always the model's.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from edge_client.clock import Stopwatch
from edge_client.power.base import Sensor, SensorError
from edge_client.power.battery import battery_sensors
from edge_client.power.hwmon import single_channel_sensors, three_channel_sensors
from edge_client.power.pmic import COMMAND, pmic_sensors
from edge_client.power.rapl import rapl_sensors

LEAST_LOOKS = 5
"""Work that ends before a sensor would have been looked at this often is not measured."""
REMEMBERED = 60
"""Intervals at rest whose median is the board's power at rest."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Energy that a piece of work took, and who says so."""

    joules: float
    source: str


@dataclass(slots=True)
class Span:
    """A piece of work under watch. ``spent`` is there after its end, and None where nothing could be measured."""

    spent: Spent | None = None


def find_sensors(sysfs: Path, *, pmic: Sequence[str] = COMMAND) -> list[Sensor]:
    """Every sensor of the machine, the most trusted first; an entry may still give no figure when it is read."""
    return [
        *single_channel_sensors(sysfs),
        *three_channel_sensors(sysfs),
        *pmic_sensors(pmic),
        *battery_sensors(sysfs),
        *rapl_sensors(sysfs),
    ]


class PowerMeter:
    """Reads a chain of sensors. Safe to share between threads; two pieces of work at once are not told apart."""

    def __init__(self, sensors: Sequence[Sensor], stopwatch: Stopwatch) -> None:
        self._sensors = list(sensors)
        self._stopwatch = stopwatch
        self._lock = threading.Lock()
        self._current: Sensor | None = None
        self._since = 0.0
        self._rest: deque[float] = deque(maxlen=REMEMBERED)
        self._watching = 0
        self._mixed = False
        self._joules = 0.0

    @property
    def source(self) -> str | None:
        """The sensor that spoke last, or None while none does."""
        return self._current.source if self._current else None

    @property
    def rest_w(self) -> float | None:
        """Power at rest by the sensor that spoke last, or None while it is not known."""
        return median(self._rest) if self._rest else None

    def rest(self) -> None:
        """Call this now and then (every few seconds): what went by since the last look counts as the board at rest."""
        with self._lock:
            if self._watching:
                return
            before = self._since
            joules = self._look()
            if joules is not None and self._since > before:
                self._rest.append(joules / (self._since - before))

    @contextmanager
    def span(self) -> Iterator[Span]:
        """Watch a piece of work."""
        span, stop = Span(), threading.Event()
        with self._lock:
            self._look()
            sensor, started = self._current, self._since
            self._mixed = self._watching > 0
            self._watching += 1
            self._joules = 0.0
        sampler = threading.Thread(
            target=self._sample, args=(stop, sensor.pause_s if sensor else None), daemon=True, name="fedge-power"
        )
        sampler.start()
        try:
            yield span
        finally:
            stop.set()
            sampler.join()
            with self._lock:
                self._add()
                self._watching -= 1
                # Another sensor took over in between, or another piece of work ran: there is no one figure for this one.
                if sensor is not None and sensor is self._current and not self._mixed:
                    span.spent = self._spent(sensor, self._joules, self._since - started)

    def _spent(self, sensor: Sensor, joules: float, seconds: float) -> Spent | None:
        rest_w = self.rest_w
        if rest_w is None or seconds < LEAST_LOOKS * sensor.pause_s:
            return None
        return Spent(max(0.0, joules - rest_w * seconds), sensor.source)

    def _sample(self, stop: threading.Event, pause_s: float | None) -> None:
        while not stop.wait(pause_s):
            with self._lock:
                self._add()

    def _add(self) -> None:
        joules = self._look()
        if joules is not None:
            self._joules += joules

    def _look(self) -> float | None:
        """Joules since the last look by the same sensor; None where another one speaks now, or none."""
        now = self._stopwatch()
        for sensor in self._sensors:
            try:
                if sensor is self._current:
                    joules = sensor.advance(now)
                    self._since = now
                    return joules
                sensor.begin(now)
            except SensorError:
                continue
            self._take(sensor, now)
            return None
        self._take(None, now)
        return None

    def _take(self, sensor: Sensor | None, now: float) -> None:
        """Let another sensor speak; what was known of the board at rest was the other one's."""
        self._current, self._since = sensor, now
        self._rest.clear()
