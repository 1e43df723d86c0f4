"""A hostile aggregator over a simulated fleet of the real devices.

The fleet first lives some honest rounds. Then this aggregator takes the honest one's place: it holds the federation's round
key and release key, as an operator would, and speaks to the devices' own Flower apps over the same messages, but sends what
it likes to whom it likes. What it hears is what any sum gave away.
"""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from aggregator.rounds.link import DeviceLink, Reply
from aggregator.rounds.session import CHECK_IN, CONSISTENCY, ROSTER, SHARES, UNMASK
from edge_client.releases.loading import LoadedRelease
from edge_client.releases.watch import WatchRules
from fedge import secagg
from fedge.identity import verify_certificate
from fedge.layouts import CountsLayout, HealthLayout
from fedge.release import Release, flatten, sign_release
from fedge.secagg import Decoded, SecAggError, SessionConfig
from fedge.usage import NAMES
from protos.fedge.rounds.v1 import rounds_pb2
from sim.config import SimulationConfig
from sim.days import Traffic
from sim.fleet import FEDERATION, SimulatedDevice
from sim.grid import InProcessGrid
from sim.preparation import Preparation, prepare
from sim.run import PlayedRun, simulate

DEVICES = 16
"""So many devices make a cohort of the default size, whose sums take at least 11 of them."""
STEP_TIMEOUT_S = 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CheckIn:
    """What one check-in request asks a device for."""

    purpose: "rounds_pb2.Purpose"
    release_id: str
    publication: int = 0
    canary_release_id: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a session gave away: a sum over ``survivors`` devices, or nothing and why."""

    decoded: Decoded | None
    survivors: int
    reason: str = ""


class Silent:
    """Observe a run without a word."""

    def stage(self, text: str) -> None:
        """Ignore what is going on."""

    def round_finished(self, entry: dict[str, Any]) -> None:
        """Ignore a finished round."""


@lru_cache(maxsize=2)
def prepared(seed: int, devices: int, workload: str = "digits") -> Preparation:
    """Prepare the data and the models of ``seed`` once a process."""
    config = SimulationConfig(workload=workload, devices=devices, seed=seed)
    return prepare(config, stage=lambda text: None)


def attack_fleet(
    attack: "Callable[[HostileAggregator], T]",
    *,
    seed: int,
    devices: int = DEVICES,
    rounds: int = 2,
    alter: Callable[[int, Traffic], Traffic] | None = None,
    health_window: WatchRules | None = None,
) -> T:
    """Play honest rounds on the digits workload, then let ``attack`` have the fleet, and return what it returns."""
    outcomes: list[T] = []
    with tempfile.TemporaryDirectory(prefix="fedge-attack-") as folder:
        simulate(
            SimulationConfig(devices=devices, rounds=rounds, seed=seed, out=Path(folder)).checked(),
            observer=Silent(),
            preparation=prepared(seed, devices),
            alter=alter or (lambda number, traffic: traffic),
            health_window=health_window,
            aftermath=lambda run: outcomes.append(attack(HostileAggregator(run))),
        )
    return outcomes[0]


class HostileAggregator:
    """Speaks to a fleet's devices as its aggregator, with all of the aggregator's keys."""

    def __init__(self, run: PlayedRun) -> None:
        self.run = run
        self.release = run.release
        self.devices: dict[str, SimulatedDevice] = {
            device.agent.device.device_id: device for device in run.fleet.devices
        }
        self._link = DeviceLink(
            InProcessGrid(run.fleet.nodes(), absent=lambda node, kind, group: False),
            clock=run.clock,
            sleep=run.clock.sleep,
        )
        self._attempt = 0
        self._round = 1000

    @property
    def names(self) -> list[str]:
        """All devices, in order."""
        return sorted(self.devices)

    def loaded(self, release: Release) -> LoadedRelease:
        """Load a release as a device does."""
        return self.devices[self.names[0]].agent.obtain(release.release_id)

    def twin(self, release: Release, number: int = 1) -> Release:
        """Sign and publish the same files once more, under a manifest of a higher version: a release with another id."""
        manifest = replace(release.manifest, version=release.manifest.version + number, parent=release.release_id)
        twin = sign_release(manifest, release.files, self.run.keys.release)
        self.run.registry.publish(twin, at=self.run.clock())
        return twin

    def session(self, devices: Sequence[str], check_in: CheckIn, *, apart: Mapping[str, CheckIn] | None = None) -> Heard:
        """Run one session over ``devices`` with the real protocol on both ends.

        ``apart``: what single devices are sent at check-in instead of ``check_in``, which the descriptor speaks of.
        """
        self._attempt += 1
        asked = {name: (apart or {}).get(name, check_in) for name in devices}
        replies = self._exchange(CHECK_IN, {name: self._request(one) for name, one in asked.items()})
        bundles = {}
        for name, reply in replies.items():
            bundles[name] = rounds_pb2.CheckInResponse.FromString(reply.payload).bundle
        try:
            return self._sum(bundles, check_in)
        except SecAggError as error:
            return Heard(None, 0, str(error))

    def _request(self, one: CheckIn) -> bytes:
        return rounds_pb2.CheckInRequest(
            round=self._round,
            attempt=self._attempt,
            purpose=one.purpose,
            release_id=one.release_id,
            publication=one.publication,
            canary_release_id=one.canary_release_id,
        ).SerializeToString()

    def _sum(self, bundles: Mapping[str, bytes], about: CheckIn) -> Heard:
        """Take a session from the roster to the sum. Raises SecAggError where too few devices go along."""
        run, config = self.run, self._config(about)
        manifest = run.registry.release(about.release_id).manifest
        state, messages = secagg.create_session(
            config,
            bundles,
            round_key=run.keys.round,
            run=FEDERATION,
            round=self._round,
            attempt=self._attempt,
            release_id=about.release_id,
            weights_sha256=manifest.weights_sha256,
            structure_sha256=manifest.structure_sha256,
            verify_certificate=lambda der: verify_certificate(der, run.authority, run.clock()),
            now=run.clock(),
            entropy=os.urandom,
        )
        for name, reply in self._exchange(ROSTER, messages).items():
            secagg.handle_roster_reply(state, name, reply.payload)
        for name, reply in self._exchange(SHARES, secagg.create_share_messages(state)).items():
            secagg.handle_masked(state, name, reply.payload, reply.vector)
        for name, reply in self._exchange(CONSISTENCY, secagg.create_consistency_messages(state)).items():
            secagg.handle_consistency_reply(state, name, reply.payload)
        for name, reply in self._exchange(UNMASK, secagg.create_unmask_messages(state)).items():
            secagg.handle_unmask_reply(state, name, reply.payload)
        outcome = secagg.recover(state)
        return Heard(secagg.decode(outcome.total, len(outcome.survivors), config), len(outcome.survivors))

    def _config(self, about: CheckIn) -> SessionConfig:
        settings, now = self.run.settings, self.run.clock()
        if about.purpose == rounds_pb2.PURPOSE_UPDATE:
            return settings.update_session(len(flatten(self.release.weights())), now=now)
        bins = len(self.release.manifest.threshold_grid)
        integers = {
            rounds_pb2.PURPOSE_COUNTS: CountsLayout(bins).integers,
            rounds_pb2.PURPOSE_HEALTH: HealthLayout().integers,
            rounds_pb2.PURPOSE_USAGE: len(NAMES),
        }
        return settings.session(reals=0, integers=integers[about.purpose], now=now)

    def _exchange(self, action: str, messages: Mapping[str, bytes]) -> dict[str, Reply]:
        """Send each device its message; return the replies of those that gave one."""
        node_of = {name: self.devices[name].node_id for name in messages}
        name_of = {node: name for name, node in node_of.items()}
        replies: dict[str, Reply] = {}

        def take(node: int, reply: Reply) -> None:
            replies[name_of[node]] = reply

        requests = {node_of[name]: message for name, message in messages.items()}
        self._link.exchange(action, requests, take, group=f"{self._round}.{self._attempt}", timeout_s=STEP_TIMEOUT_S)
        return replies


def cosine(one: "np.typing.NDArray[Any]", other: "np.typing.NDArray[Any]") -> float:
    """Return the cosine of two vectors; 0 where one of them is all zeros."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.dot(one, other)) / lengths if lengths else 0.0
