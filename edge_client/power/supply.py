"""What the machine runs on, as the kernel's power_supply class says it: from outside, from a battery, or not to be told.

Most boards show no supply there: then it is not known, whatever the board may hang on. Mice and keyboards do not count.
"""

from pathlib import Path

from edge_client.power.base import folders, named
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
