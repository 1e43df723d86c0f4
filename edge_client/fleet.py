"""What plugs an agent into its fleet: releases through the door, Flower's node in this process, certificates kept young.

All of it goes over one mutual-TLS way to the fleet's door. Flower is imported only where the device takes part in rounds.
"""

import logging
import os
from collections.abc import Sequence
from threading import Event
from typing import TYPE_CHECKING

from edge_client.door import DoorChannel
from edge_client.loops import Loop, Pace
from edge_client.membership import load_keys, load_member, load_trust
from edge_client.process import AgentProcess, Plugs
from edge_client.releases import ReleaseSource
from edge_client.renewal import Renewer
from edge_client.revoked import RevokedDevices
from edge_client.secret import own_secret
from edge_client.settings import DeviceHome, DeviceSettings
from edge_client.tuf_source import TufSource
from fedge import secagg
from fedge.randomness import derive

if TYPE_CHECKING:
    from edge_client.participant import Participant

NODE_PACE = Pace(1.0)
"""The node's own waits are inside its step, which ends with the process, by renewed certificates, or by a mistake."""
MEMBERSHIP_PACE = Pace(600.0, first_wait_s=10.0)

_log = logging.getLogger(__name__)


def fleet_plugs(home: DeviceHome, settings: DeviceSettings) -> Plugs:
    """The plugs of an enrolled device."""
    door = DoorChannel(home, settings.fleet, server_name=settings.server_name)
    nodes: list[NodeLoop] = []

    def source(home: DeviceHome, settings: DeviceSettings) -> ReleaseSource:
        return TufSource(home, door, settings.device_id)

    def node(process: AgentProcess) -> Loop:
        nodes.append(NodeLoop(door, process))
        return nodes[-1]

    def membership(process: AgentProcess) -> Loop:
        return _membership_loop(door, process, nodes)

    return Plugs(source=source, loops=(node, membership) if settings.node.mode == "embedded" else (membership,))


class NodeLoop(Loop):
    """Flower's node as a loop of the agent: takes part in rounds until it is stopped."""

    def __init__(self, door: DoorChannel, process: AgentProcess) -> None:
        super().__init__("rounds", self._take_part, NODE_PACE)
        self._door = door
        self._process = process
        self._leave = Event()

    def stop(self) -> None:
        """Leave, and take no further step."""
        super().stop()
        self._leave.set()

    def renewed(self) -> None:
        """Begin anew, with the certificates and the trusted keys that stand in the home now."""
        self._leave.set()

    def _take_part(self) -> None:
        from edge_client.carriers import through_door
        from edge_client.client_app import build_client_app
        from edge_client.node import run_node

        self._leave.clear()
        if self._stopping:
            return
        app = build_client_app(_participant(self._process))
        run_node(through_door(self._door), load_keys(self._process.home).node, app, stop=self._leave)


def _participant(process: AgentProcess) -> "Participant":
    from edge_client.participant import Federation, Participant

    home, settings, clock = process.home, process.settings, process.clock
    trust = load_trust(home)
    return Participant(
        identity=load_member(home, now=clock()),
        federation=Federation(
            name=settings.federation,
            round_key=trust.round_key,
            verify_certificate=lambda der: trust.verify_certificate(der, clock()),
            revoked=RevokedDevices(home.revocations, trust.authority_key),
            n_min=settings.min_cohort,
        ),
        store=process.store,
        releases=process.releases,
        meter=process.meter,
        policy=process.policy,
        roles=secagg,
        seed=derive(own_secret(home.secret), "training"),
        clock=clock,
        entropy=os.urandom,
    )


def _membership_loop(door: DoorChannel, process: AgentProcess, nodes: Sequence[NodeLoop]) -> Loop:
    """Certificates renewed in time, revocations and trusted keys fetched."""
    renewer = Renewer(process.home, process.settings, door=door, clock=process.clock)

    def step() -> None:
        changes = renewer.step()
        if changes.warning is not None:
            _log.warning("%s", changes.warning)
        for node in nodes if changes.reconnect else ():
            node.renewed()

    return Loop("membership", step, MEMBERSHIP_PACE)
