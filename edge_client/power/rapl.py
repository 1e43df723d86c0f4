"""RAPL, the energy counters of x86 processors (``intel-rapl`` under powercap; AMD's are shown under the same name).

Counts the processor packages, or the whole platform where the machine shows that (psys). The counters wrap around at
``max_energy_range_uj``. Kernels since 2020 let only root read them.
"""

from dataclasses import dataclass, field
from pathlib import Path

from edge_client.power.base import PAUSE_S, Scope, SensorError, folders, named, read_integer


@dataclass(slots=True)
class RaplCounters:
    """The sum of some zones' counters."""

    zones: tuple[Path, ...]
    scope: Scope
    source: str = "rapl"
    pause_s: float = PAUSE_S
    _last: list[int] = field(default_factory=list)

    @property
    def where(self) -> str:
        """The zones' folders."""
        return ", ".join(map(str, self.zones))

    def begin(self, now: float) -> None:
        """Note the counters."""
        self._last = [read_integer(zone / "energy_uj") for zone in self.zones]

    def advance(self, now: float) -> float:
        """Joules since the counters were last noted; a counter that went back has wrapped around once."""
        current = [read_integer(zone / "energy_uj") for zone in self.zones]
        microjoules = 0
        for zone, before, after in zip(self.zones, self._last, current, strict=True):
            # The counter runs from 0 up to and with its range.
            microjoules += after - before if after >= before else after - before + self._range(zone) + 1
        self._last = current
        return microjoules / 1e6

    @staticmethod
    def _range(zone: Path) -> int:
        if (size := read_integer(zone / "max_energy_range_uj")) <= 0:
            raise SensorError(f"{zone}: a range of {size} uJ")
        return size


def rapl_sensors(sysfs: Path) -> list[RaplCounters]:
    """The platform's counter where there is one, else all packages together; sub-zones (cores, memory) lie within those."""
    zones = folders(sysfs / "class" / "powercap", "intel-rapl:*")
    platform = tuple(zone for zone in zones if named(zone / "name") == "psys")
    packages = tuple(zone for zone in zones if named(zone / "name").startswith("package-"))
    if platform:
        return [RaplCounters(platform[:1], "board")]
    return [RaplCounters(packages, "processor")] if packages else []
