"""Current sensors on the board's supply that the kernel's hwmon shows: INA219 and its kin, INA3221.

hwmon's units: ``in*_input`` mV, ``curr*_input`` mA, ``power*_input`` uW. Reads files, never talks to the bus itself.
"""

from dataclasses import dataclass
from pathlib import Path

from edge_client.power.base import SampledPower, SensorError, folders, named, read_integer

SINGLE = ("ina219", "ina220", "ina226", "ina230", "ina231", "ina260")
TRIPLE = "ina3221"
INPUT_RAILS = ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0", "5V_IN")
"""Labels of the rail that feeds all others (Jetson boards): counted alone, since the others hang on it."""


@dataclass(frozen=True, slots=True)
class SingleChannel:
    """One chip of the INA219 family."""

    folder: Path

    def watts(self) -> float:
        """Its own power register where the driver shows it, else bus voltage times current."""
        power = self.folder / "power1_input"
        if power.exists():
            return read_integer(power) / 1e6
        return read_integer(self.folder / "in1_input") * read_integer(self.folder / "curr1_input") / 1e6


@dataclass(frozen=True, slots=True)
class ThreeChannels:
    """One INA3221: the sum of ``channels`` (of 1 to 3)."""

    folder: Path
    channels: tuple[int, ...]

    def watts(self) -> float:
        """Bus voltage times current of each channel."""
        return sum(
            read_integer(self.folder / f"in{n}_input") * read_integer(self.folder / f"curr{n}_input") / 1e6
            for n in self.channels
        )


def single_channel_sensors(sysfs: Path) -> list[SampledPower]:
    """The chips of the INA219 family, by their own names."""
    return [
        SampledPower(name, "board", str(folder), SingleChannel(folder))
        for folder in folders(sysfs / "class" / "hwmon", "hwmon*")
        if (name := named(folder / "name")) in SINGLE
    ]


def three_channel_sensors(sysfs: Path) -> list[SampledPower]:
    """The INA3221 chips that have a channel in use. One whose label names the board's input comes first."""
    found: list[tuple[bool, SampledPower]] = []
    for folder in folders(sysfs / "class" / "hwmon", "hwmon*"):
        if named(folder / "name") != TRIPLE:
            continue
        used = [n for n in (1, 2, 3) if _in_use(folder, n)]
        inputs = [n for n in used if named(folder / f"in{n}_label") in INPUT_RAILS]
        if channels := tuple(inputs[:1] or used):
            sensor = SampledPower(TRIPLE, "board", str(folder), ThreeChannels(folder, channels))
            found.append((not inputs, sensor))
    return [sensor for _, sensor in sorted(found, key=lambda pair: pair[0])]


def _in_use(folder: Path, channel: int) -> bool:
    """Whether the driver shows a channel and says that it is on (``in*_enable``; on where that file is missing)."""
    if not (folder / f"curr{channel}_input").exists():
        return False
    try:
        return read_integer(folder / f"in{channel}_enable") != 0
    except SensorError:
        return True
