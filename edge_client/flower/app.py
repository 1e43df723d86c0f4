"""The `ClientApp` that an official SuperNode loads: ``edge_client.flower.app:app``.

The SuperNode starts a process for each message, which builds the same app as the embedded node has, around the participant
of the agent that runs beside it (`edge_client.flower.participant_socket`); ``FEDGE_DEVICE_HOME`` names the device's folder.
`edge_client.flower.supernode` starts it all.

Limits of this mode, measured with flwr 1.42: 250 to 420 MB for the SuperNode's processes beside the agent's own memory, and
two to four seconds of processor time for each message, so a step of a session takes several seconds. Use the embedded node
where there is no reason against it.
"""

import os
from pathlib import Path

from flwr.clientapp import ClientApp

from edge_client.flower.client_app import build_client_app
from edge_client.flower.participant_socket import RemoteParticipant
from edge_client.settings import DeviceHome
from fedge.errors import InputError

APP = "edge_client.flower.app:app"
HOME = "FEDGE_DEVICE_HOME"


def __getattr__(name: str) -> ClientApp:
    """Build ``app`` when Flower asks for it: importing this module has no effect. Raises InputError without a home."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    folder = os.environ.get(HOME)
    if not folder:
        raise InputError(f"{HOME} is not set: it names the folder of the device whose agent is to answer")
    return build_client_app(RemoteParticipant(DeviceHome(Path(folder)).participant))
