"""The simulated devices: the real agent, participant, store and model sessions, with a simulated clock, network and power.

Nothing of a device is modelled but time, energy and who is absent. Identical bytes are loaded once: onnxruntime sessions
have no state, so the devices of one fleet share them.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from aggregator.fleet.enrollment import Enrolment
from aggregator.fleet.keys import AggregatorKeys
from aggregator.workbench.workloads import Drawn, QueryStream, Workload
from aggregator.workbench.workloads import partition as dealt
from edge_client.flower.client_app import build_client_app
from edge_client.inference.escalation import CentralClient
from edge_client.inference.pipeline import Agent, Device
from edge_client.inference.query import Answer
from edge_client.power.accounting import EnergyMeter
from edge_client.releases.health_window import ReleaseWatch, WatchRules
from edge_client.releases.inference import ReleaseLoader
from edge_client.releases.manager import ReleaseManager, ReleaseSource
from edge_client.releases.storage import SharedShelf
from edge_client.rounds.encoding import encode_contribution
from edge_client.rounds.participant import DeviceRoles, Federation, Participant
from edge_client.store import DeviceStore, open_memory, restore
from edge_client.training_policy import TrainingPolicy
from fedge.identity import DeviceIdentity, request_certificate, verify_certificate
from fedge.randomness import derive, generator
from fedge.release import Release
from fedge.routing import Policy
from sim.clock import DAY, SimulatedClock
from sim.grid import Node, node_context
from sim.hostile import draw_hostile

FEDERATION = "simulation"
FIRST_NODE = 1000


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    """One device: its node, its agent, and the traffic that its user will send."""

    node_id: int
    node: Node
    agent: Agent
    stream: QueryStream

    @property
    def store(self) -> DeviceStore:
        """What stands on the device's disk."""
        return self.agent.store


@dataclass(frozen=True, slots=True)
class Asked:
    """One query of a round with its answer."""

    device: int
    drawn: Drawn
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """What all devices have in common. ``corrections`` is the probability that a user corrects a wrong answer."""

    devices: int
    alpha: float
    queries: int
    lifetime_s: float
    n_min: int
    corrections: float
    policy: Policy
    meter: EnergyMeter
    roles: DeviceRoles
    health_window: WatchRules | None = None
    """How devices judge a release after a swap; None: a release stays until the next one, and nothing is counted."""
    hostile: Mapping[str, int] = field(default_factory=dict)
    """How many devices lie, by kind (`sim.hostile`)."""


class Fleet:
    """All devices of a run. Everything random comes from ``seed``; keys come from the operating system.

    ``stored`` and ``release``: what stood on the devices' disks, and the release that they ran, when a run was interrupted.
    """

    def __init__(
        self,
        settings: FleetSettings,
        workload: Workload,
        *,
        keys: AggregatorKeys,
        authority: Ed25519PublicKey,
        enrolment: Enrolment,
        source: ReleaseSource,
        central: CentralClient,
        seed: bytes,
        clock: SimulatedClock,
        stored: Sequence[bytes] | None = None,
        release: Release | None = None,
    ) -> None:
        self._settings = settings
        self._workload = workload
        self._seed = seed
        self._clock = clock
        loader = ReleaseLoader(keys.release.public_key())
        shelf = SharedShelf()
        if release is not None:
            shelf.put(release)
        federation = Federation(
            name=FEDERATION,
            round_key=keys.round.public_key(),
            verify_certificate=partial(_vouched, authority, clock),
            revoked=frozenset(),
            n_min=settings.n_min,
        )
        pools = dealt(workload, settings.devices, alpha=settings.alpha, seed=seed)
        hostile = draw_hostile(settings.hostile, devices=settings.devices, seed=seed)
        self.honest = [number for number in range(settings.devices) if number not in hostile]
        self.devices: list[SimulatedDevice] = []
        for number, pool in enumerate(pools):
            identity = _enrolled(f"device-{number:05d}", enrolment, clock(), settings.lifetime_s)
            store = open_memory() if stored is None else restore(stored[number])
            watch = ReleaseWatch(store, settings.health_window, clock) if settings.health_window is not None else None
            releases = ReleaseManager(source, shelf=shelf, store=store, loader=loader, watch=watch)
            device_seed = derive(seed, "device", number)
            device = Device(
                device_id=identity.device_id,
                probe_key=derive(device_seed, "probes"),
                policy=settings.policy,
                meter=settings.meter,
                clock=clock,
            )
            agent = Agent(device, store=store, releases=releases, central=central)
            participant = Participant(
                identity=identity,
                federation=federation,
                store=store,
                releases=releases,
                meter=settings.meter,
                policy=settings.policy,
                roles=settings.roles,
                seed=device_seed,
                clock=clock,
                entropy=os.urandom,
                repeatable_noise=True,
                encoder=hostile.get(number, encode_contribution),
                training_policy=TrainingPolicy(base_wait_s=0.0),
            )
            node_id = FIRST_NODE + number
            node = Node(build_client_app(participant), node_context(node_id))
            stream = QueryStream(workload, pool, derive(device_seed, "stream"), number)
            if stored is not None:
                releases.restore()
            self.devices.append(SimulatedDevice(node_id, node, agent, stream))

    def nodes(self) -> Mapping[int, Node]:
        """The fleet as Flower sees it."""
        return {device.node_id: device.node for device in self.devices}

    def device_of(self, node_id: int) -> str | None:
        """Return the device that a node was enrolled for."""
        number = node_id - FIRST_NODE
        return self.devices[number].agent.device.device_id if 0 <= number < len(self.devices) else None

    def upcoming(self, round_number: int) -> list[list[Drawn]]:
        """The queries of each device in a round (from 1), in order."""
        return [device.stream.round(round_number - 1, queries=self._settings.queries) for device in self.devices]

    def take_up(self) -> None:
        """Let each device bring itself to the published release and certificate."""
        for device in self.devices:
            device.agent.sync()

    def live_one_day(self, round_number: int, traffic: Sequence[Sequence[Drawn]]) -> list[Asked]:
        """Let a day pass: each device answers its queries at its hour of the day."""
        start = self._clock()
        hours = generator(self._seed, "hours", round_number).random(len(self.devices))
        asked: list[Asked] = []
        for number in sorted(range(len(self.devices)), key=lambda n: hours[n]):
            self._clock.set(start + float(hours[number]) * DAY)
            agent = self.devices[number].agent
            drawn = traffic[number]
            answers = agent.ask_many([one.query for one in drawn], topics=None)
            self._correct(agent, drawn, answers, derive(self._seed, "corrections", number, round_number))
            asked += [Asked(number, one, answer) for one, answer in zip(drawn, answers, strict=True)]
        self._clock.set(start + DAY)
        return asked

    def dump(self) -> tuple[bytes, ...]:
        """Every device's disk."""
        return tuple(device.store.dump() for device in self.devices)

    def _correct(self, agent: Agent, drawn: Sequence[Drawn], answers: Sequence[Answer], seed: bytes) -> None:
        """Simulated users correct some of the wrong answers that they got; nobody corrects a right one."""
        coins = generator(seed).random(len(drawn)) < self._settings.corrections
        for one, answer, corrects in zip(drawn, answers, coins, strict=True):
            truth = self._workload.labels[one.label]
            if corrects and answer.answer != truth:
                agent.correct(answer.answer_id, truth)


def _enrolled(device_id: str, enrolment: Enrolment, now: float, lifetime_s: float) -> DeviceIdentity:
    key = Ed25519PrivateKey.generate()
    request = request_certificate(enrolment.ca_name, device_id, key)
    return DeviceIdentity(device_id, key, enrolment.issue(request.to_bytes(), now=now, lifetime_s=lifetime_s))


def _vouched(authority: Ed25519PublicKey, clock: SimulatedClock, der: bytes) -> tuple[str, Ed25519PublicKey]:
    return verify_certificate(der, authority, clock())
