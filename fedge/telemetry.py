"""Switches that keep the packages below us from calling their vendors.

onnxruntime's Linux wheels record a device id and events on disk and send them, from their import on. Flower reports its
commands, asks for newer versions and installs what an app's bundle names. Ray reports usage, and Hugging Face's hub names
its caller. Each reads its variable at import, so importing `fedge` sets all of them first. A variable that is set stays.
"""

import os
from collections.abc import Mapping, MutableMapping
from types import MappingProxyType

TELEMETRY_SWITCHES: Mapping[str, str] = MappingProxyType({
    "ORT_DISABLE_TELEMETRY": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
})


def disable_telemetry(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set every switch in ``environment`` that is not set yet."""
    for name, value in TELEMETRY_SWITCHES.items():
        environment.setdefault(name, value)


def find_enabled_telemetry(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the switches, in order, whose value in ``environment`` is not the one that turns reporting off."""
    return [name for name, value in TELEMETRY_SWITCHES.items() if environment.get(name) != value]
