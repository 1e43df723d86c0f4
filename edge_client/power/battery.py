"""What flows out of a battery, as the kernel's power_supply class shows it (uW, uA, uV).

A battery that charges or is full says nothing of what the board draws: then it gives no figure, and the next source speaks.

What the machine runs on, as the kernel's power_supply class says it: from outside, from a battery, or not to be told.

Most boards show no supply there: then it is not known, whatever the board may hang on. Mice and keyboards do not count.
"""

from dataclasses import dataclass
from pathlib import Path

from edge_client.power.base import SampledPower, SensorError, folders, named, read_integer, read_word
from fedge.presence import Supply

_OUTSIDE = ("Mains", "USB", "Wireless")
_ON = ("1", "2")  # 2: on, and its voltage is negotiated
_FED = ("Charging", "Full", "Not charging")


def supply(sysfs: Path) -> Supply:
    """A battery that runs down says it, whatever else is plugged in; then a supply that is on, or a battery that is fed."""
    parts = [
        (named(folder / "type"), named(folder / "status"), named(folder / "online"))
        for folder in folders(sysfs / "class" / "power_supply", "*")
        if named(folder / "scope") != "Device"
    ]
    if any(kind == "Battery" and status == "Discharging" for kind, status, _ in parts):
        return "battery"
    if any(kind in _OUTSIDE and online in _ON for kind, _, online in parts):
        return "mains"
    if any(kind == "Battery" and status in _FED for kind, status, _ in parts):
        return "mains"
    return "unknown"


@dataclass(frozen=True, slots=True)
class Batteries:
    """All batteries of the machine; a laptop may have two and empty them in turn."""

    folders: tuple[Path, ...]

    def watts(self) -> float:
        """The sum over the batteries that discharge. Raises SensorError where none does or one charges."""
        states = [read_word(folder / "status") for folder in self.folders]
        if "Discharging" not in states or "Charging" in states:
            raise SensorError(f"the battery is not the supply now: {', '.join(states)}")
        return sum(_drawn(folder) for folder, state in zip(self.folders, states, strict=True) if state == "Discharging")


def battery_sensors(sysfs: Path) -> list[SampledPower]:
    """One sensor for all batteries that feed the system, those of mice and keyboards left out."""
    found = tuple(
        folder
        for folder in folders(sysfs / "class" / "power_supply", "*")
        if named(folder / "type") == "Battery" and named(folder / "scope") != "Device"
    )
    where = ", ".join(map(str, found))
    return [SampledPower("battery", "board", where, Batteries(found))] if found else []


def _drawn(folder: Path) -> float:
    # Some drivers count a discharge as negative.
    if (folder / "power_now").exists():
        return abs(read_integer(folder / "power_now")) / 1e6
    return abs(read_integer(folder / "current_now")) * read_integer(folder / "voltage_now") / 1e12
