"""What plugs an agent into its fleet: releases through the door, Flower's node in this process, certificates kept young,
and the operator told how it stands.

All of it goes over one mutual-TLS way to the fleet's door. Flower is imported only where the device takes part in rounds.
"""

import logging
import math
import os
import socket
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from edge_client.daemon import AgentProcess, Plugs
from edge_client.membership.channel import DoorChannel
from edge_client.membership.credentials import RevokedDevices, load_keys, load_member, load_trust, own_secret
from edge_client.membership.heartbeat import Reporter, fedge_version, report_pace
from edge_client.membership.renewal import Renewer
from edge_client.power.battery import supply
from edge_client.releases.manager import ReleaseSource
from edge_client.releases.tuf_source import TufSource
from edge_client.scheduler import Loop, Pace
from edge_client.settings import DeviceHome, DeviceSettings
from fedge.calendar import Calendar
from fedge.presence import MAX_QUEUE, Presence
from fedge.randomness import derive

if TYPE_CHECKING:
    from edge_client.rounds.participant import Federation, Participant

_log = logging.getLogger(__name__)

NODE_PACE = Pace(1.0)
"""The node's own waits are inside its step, which ends only with the process or by a mistake."""
MEMBERSHIP_PACE = Pace(300.0, first_wait_s=5.0)
"""How often the door is asked for revocations and new keys; certificates are renewed when they are due."""
ASK_ANEW_S = 10.0
"""How often a descriptor under an unknown round key may make the device ask the door at once."""


def fleet_plugs(home: DeviceHome, settings: DeviceSettings) -> Plugs:
    """The plugs of an enrolled device."""
    door = DoorChannel(home, settings.fleet, server_name=settings.server_name)
    part = FleetPart(door)
    loops = [part.membership_loop]
    if settings.report_s > 0:
        loops.append(part.presence_loop)
    if settings.node.mode != "off":
        loops.append(part.node_loop)
    return Plugs(source=partial(_source, door), loops=tuple(loops))


def _source(door: DoorChannel, home: DeviceHome, settings: DeviceSettings) -> ReleaseSource:
    return TufSource(home, door, settings.device_id)


class FleetPart:
    """The device's part in its fleet: what one loop renews, the other one goes by."""

    def __init__(self, door: DoorChannel) -> None:
        self._door = door
        self._participant: Participant | None = None
        self._membership: Loop | None = None
        self._asked_s = -math.inf

    def membership_loop(self, process: AgentProcess) -> Loop:
        """Renews certificates and fetches revocations and keys."""
        renewer = Renewer(process.home, process.settings, door=self._door, clock=process.clock)
        warned: str | None = None

        def keep() -> None:
            nonlocal warned
            changes = renewer.step()
            if changes.warning is not None and changes.warning != warned:
                _log.warning("%s", changes.warning)
            warned = changes.warning
            if changes.reconnect:
                process.renewed()
            if changes.reconnect and (participant := self._participant) is not None:
                participant.take_identity(load_member(process.home, now=process.clock()))
                participant.take_federation(self.federation(process))

        self._membership = Loop("membership", keep, MEMBERSHIP_PACE)
        return self._membership

    def presence_loop(self, process: AgentProcess) -> Loop:
        """Tells the door how the device stands."""
        settings = process.settings
        reporter = Reporter(self._door, partial(presence_of, process), name=settings.fleet, period_s=settings.report_s)
        return Loop("presence", reporter.step, report_pace(settings.report_s))

    def ask_anew(self) -> None:
        """Fetch keys now instead of at the next turn, at most every ASK_ANEW_S: others decide how often this is called."""
        now_s = time.monotonic()
        if self._membership is not None and now_s >= self._asked_s + ASK_ANEW_S:
            self._asked_s = now_s
            self._membership.wake()

    def federation(self, process: AgentProcess) -> "Federation":
        """What stands in the home now, and where to turn when the aggregator goes by another key."""
        return replace(_federation(process), unknown_round_key=self.ask_anew)

    def node_loop(self, process: AgentProcess) -> Loop:
        """Takes part in rounds."""

        def take_part() -> None:
            from edge_client.flower.client_app import build_client_app
            from edge_client.flower.node import run_node
            from edge_client.flower.transports import through_door
            from edge_client.rounds.participant import Participant
            from fedge import secagg

            self._participant = participant = Participant(
                identity=load_member(process.home, now=process.clock()),
                federation=self.federation(process),
                store=process.store,
                releases=process.releases,
                meter=process.meter,
                policy=process.policy,
                roles=secagg,
                seed=derive(own_secret(process.home.secret), "training"),
                clock=process.clock,
                entropy=os.urandom,
                training_policy=process.settings.training.policy(),
            )
            post = through_door(self._door)
            if process.settings.node.mode == "supernode":
                from edge_client.flower.supernode import run_supernode

                run_supernode(post, process.home, participant, api_port=_free_port(), stop=process.stopping)
                return
            node_key = load_keys(process.home).node
            run_node(post, node_key, build_client_app(participant), stop=process.stopping)

        return Loop("rounds", take_part, NODE_PACE)


def _free_port() -> int:
    """A port on loopback that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _federation(process: AgentProcess) -> "Federation":
    from edge_client.rounds.budget import ContributionBudget
    from edge_client.rounds.participant import Federation

    home, settings, clock = process.home, process.settings, process.clock
    trust = load_trust(home)
    revoked = RevokedDevices(home.revocations, lambda: load_trust(home))
    return Federation(
        name=settings.federation,
        round_key=trust.round_key,
        verify_certificate=lambda der: load_trust(home).verify_certificate(der, clock()),
        revoked=revoked,
        revocations_issued=revoked.issued_at,
        n_min=settings.min_cohort,
        noise_multiplier=settings.min_noise_multiplier,
        calendar=Calendar(trust.period_s),
        budget=ContributionBudget(
            min_period_s=settings.min_period_s,
            max_rescores=settings.max_rescores,
            max_probe_epsilon=settings.max_probe_epsilon,
            range_proofs=settings.range_proofs,
            max_probe_store=settings.max_probe_store,
        ),
    )


def presence_of(process: AgentProcess) -> Presence:
    """One look: a few numbers from memory and from the store, and a few files of the kernel's."""
    active, health = process.releases.active, process.store.health
    release = active.loaded.release_id if active else ""
    standing = health.get(release) if release else None
    power = process.meter.power
    return Presence(
        release=release,
        on_trial=standing is not None and standing.state == "watched",
        given_up=health.newest_given_up() or "",
        supply=supply(process.settings.sysfs),
        sensor=(power.source or "") if power is not None else "",
        profile=process.settings.profile,
        queue=min(len(process.store.outbox), MAX_QUEUE),
        fedge=fedge_version(),
    )
