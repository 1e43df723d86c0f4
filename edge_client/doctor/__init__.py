"""`fedge device doctor`: what of this machine, its folder and its network keeps a device from working, and the remedy.

Looks, and changes nothing. Each check is a line: ok, warn or fail.
"""

import time
from collections.abc import Callable

from edge_client.doctor.finding import Finding, Outcome
from edge_client.doctor.folder import disk, papers, read
from edge_client.doctor.machine import Machine, examine_machine
from edge_client.doctor.network import proxies, reach
from edge_client.doctor.times import clock
from edge_client.settings import DeviceHome, DeviceSettings
from fedge.errors import FedgeError

__all__ = ["Finding", "Machine", "Outcome", "examine"]

ServerTime = Callable[[DeviceHome, DeviceSettings], float]


def asked(home: DeviceHome, settings: DeviceSettings) -> float:
    """The server's clock over gRPC, which is loaded here and no sooner."""
    from edge_client.doctor.server_clock import server_time

    return server_time(home, settings)


def examine(
    home: DeviceHome,
    *,
    machine: Machine | None = None,
    now: Callable[[], float] = time.time,
    server_time: ServerTime = asked,
) -> list[Finding]:
    """Every check in order. ``server_time`` asks the server's clock; it is used only where the door could be reached."""
    machine = machine or Machine()
    settings, settled = read(home)
    findings = [*examine_machine(machine), disk(home.folder), proxies(), settled]
    if settings is None:
        return [*findings, clock(now(), server_time=None, validities=[])]
    own = papers(home, now())
    door = reach("door", settings.fleet, home, settings)
    central = reach("central", settings.central, home, settings)
    told = None
    if door.finding.outcome == "ok":
        try:
            told = server_time(home, settings)
        except FedgeError:
            told = None
    validities = [*own.validities, *door.validities, *central.validities]
    return [
        *findings,
        *own.findings,
        clock(now(), server_time=told, validities=validities),
        door.finding,
        central.finding,
    ]
