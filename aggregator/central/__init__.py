"""The fallback service: answers what devices escalate, once for each key, priced and counted by device and purpose."""

from aggregator.central.errors import (
    CentralError,
    DeadlinePassedError,
    DeviceRefusedError,
    KeyReusedError,
    ModelFailedError,
    OverloadedError,
    RequestRefusedError,
)
from aggregator.central.server import CentralServer, ServerOptions, serve, serve_in_thread
from aggregator.central.service import AsksUpstream, CentralService, Limits, Pricing, Served, StrongModel
from aggregator.fleet.transport import ServerTls

__all__ = [
    "AsksUpstream",
    "CentralError",
    "CentralServer",
    "CentralService",
    "DeadlinePassedError",
    "DeviceRefusedError",
    "KeyReusedError",
    "Limits",
    "ModelFailedError",
    "OverloadedError",
    "Pricing",
    "RequestRefusedError",
    "Served",
    "ServerOptions",
    "ServerTls",
    "StrongModel",
    "serve",
    "serve_in_thread",
]
