"""What plugs an agent into its fleet: releases through the door, Flower's node in this process, certificates kept young.

All of it goes over one mutual-TLS way to the fleet's door. Flower is imported only where the device takes part in rounds.
"""

import os
from functools import partial

from edge_client.door import DoorChannel
from edge_client.loops import Loop, Pace
from edge_client.membership import load_keys, load_member, load_trust
from edge_client.process import AgentProcess, Plugs
from edge_client.releases import ReleaseSource
from edge_client.revoked import RevokedDevices
from edge_client.secret import own_secret
from edge_client.settings import DeviceHome, DeviceSettings
from edge_client.tuf_source import TufSource
from fedge import secagg
from fedge.randomness import derive

NODE_PACE = Pace(1.0)
"""The node's own waits are inside its step, which ends only with the process or by a mistake."""


def fleet_plugs(home: DeviceHome, settings: DeviceSettings) -> Plugs:
    """The plugs of an enrolled device."""
    door = DoorChannel(home, settings.fleet, server_name=settings.server_name)
    loops = (partial(_node_loop, door),) if settings.node.mode == "embedded" else ()
    return Plugs(source=partial(_source, door), loops=loops)


def _source(door: DoorChannel, home: DeviceHome, settings: DeviceSettings) -> ReleaseSource:
    return TufSource(home, door, settings.device_id)


def _node_loop(door: DoorChannel, process: AgentProcess) -> Loop:
    def take_part() -> None:
        from edge_client.carriers import through_door
        from edge_client.client_app import build_client_app
        from edge_client.node import run_node
        from edge_client.participant import Federation, Participant

        home, settings, clock = process.home, process.settings, process.clock
        trust = load_trust(home)
        participant = Participant(
            identity=load_member(home, now=clock()),
            federation=Federation(
                name=settings.federation,
                round_key=trust.round_key,
                verify_certificate=lambda der: load_trust(home).verify_certificate(der, clock()),
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
        run_node(through_door(door), load_keys(home).node, build_client_app(participant), stop=process.stopping)

    return Loop("rounds", take_part, NODE_PACE)
