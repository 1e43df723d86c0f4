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

from aggregator.rounds.robust_sum import SumHistory
from aggregator.rounds.secagg_session import CHECK_IN, CONSISTENCY, ROSTER, SHARES, UNMASK
from aggregator.rounds.transport import DeviceLink, Reply
from edge_client.releases.health_window import WatchRules
from edge_client.releases.inference import LoadedRelease
from fedge import secagg
from fedge.identity import verify_certificate
from fedge.layouts import HealthLayout
from fedge.release import Release, flatten, sign_release
from fedge.secagg import Decoded, SecAggError, SessionConfig, Task
from fedge.secagg.rotation import rotate_back
from fedge.secagg.session import Purpose
from fedge.usage import NAMES
from protos.fedge.rounds.v1 import rounds_pb2
from sim.clock import DAY
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
    """Play honest rounds on the digits workload, then let ``attack`` have the fleet, and return what it returns.

    A day without a round has passed by then, so that devices have something to report of a period that nothing is spent of.
    """
    outcomes: list[T] = []
    alter = alter or (lambda number, traffic: traffic)

    def take_over(run: PlayedRun) -> None:
        run.fleet.live_one_day(rounds + 1, alter(rounds + 1, run.fleet.upcoming(rounds + 1)))
        outcomes.append(attack(HostileAggregator(run)))

    with tempfile.TemporaryDirectory(prefix="fedge-attack-") as folder:
        simulate(
            SimulationConfig(devices=devices, rounds=rounds, seed=seed, out=Path(folder)).checked(),
            observer=Silent(),
            preparation=prepared(seed, devices),
            alter=alter,
            health_window=health_window,
            aftermath=take_over,
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
        self._day = 1000

    @property
    def names(self) -> list[str]:
        """All devices, in order."""
        return sorted(self.devices)

    def pass_day(self) -> None:
        """Let a day pass on which nobody asks anything: a new period begins."""
        self.run.clock.sleep(DAY)

    def live_one_day(self) -> None:
        """Let a day pass on which everyone asks as usual."""
        self._day += 1
        self.run.fleet.live_one_day(self._day, self.run.fleet.upcoming(self._day))

    def ask(self, name: str, queries: int, *, round_number: int = 50) -> int:
        """Let one device's user ask ``queries`` new things; return how many the device counted."""
        device = self.devices[name]
        before = count_answers(device)
        device.agent.ask_many([drawn.query for drawn in device.stream.round(round_number, queries=queries)], topics=None)
        return count_answers(device) - before

    def loaded(self, release: Release) -> LoadedRelease:
        """Load a release as a device does."""
        return self.devices[self.names[0]].agent.obtain(release.release_id)

    def twin(self, release: Release, number: int = 1) -> Release:
        """Sign and publish the same files once more, under a manifest of a higher version: a release with another id."""
        manifest = replace(release.manifest, version=release.manifest.version + number, parent=release.release_id)
        twin = sign_release(manifest, release.files, self.run.keys.release)
        self.run.registry.publish(twin, at=self.run.clock())
        return twin

    def task(self, purpose: Purpose, release: Release | None = None, *, canary: str = "", periods_ahead: int = 0) -> Task:
        """Return what an honest aggregator would ask for now, about the fleet's release where none is given."""
        release, settings, counts = release or self.release, self.run.settings, purpose == "counts"
        return Task(
            purpose=purpose,
            period=settings.calendar.period_at(self.run.clock()) + periods_ahead,
            release_id=release.release_id,
            weights_sha256=release.manifest.weights_sha256,
            structure_sha256=release.manifest.structure_sha256,
            architecture=release.manifest.architecture_text,
            encoder_sha256=release.manifest.encoder_sha256,
            canary_release_id=canary,
            probe_epsilon=settings.probe_epsilon if counts else 0.0,
            probe_cap=settings.probe_cap if counts else 0,
        )

    def session(self, devices: Sequence[str], task: Task, *, apart: Mapping[str, Task] | None = None) -> Heard:
        """Run one session over ``devices`` with the real protocol on both ends.

        ``apart``: what single devices are told at check-in instead of ``task``, which the descriptor names.
        """
        self._attempt += 1
        asked = {name: (apart or {}).get(name, task) for name in devices}
        requests = {
            name: rounds_pb2.CheckInRequest(round=self._round, attempt=self._attempt, task=one.to_message())
            for name, one in asked.items()
        }
        replies = self._exchange(CHECK_IN, {name: request.SerializeToString() for name, request in requests.items()})
        answers = {name: rounds_pb2.CheckInResponse.FromString(reply.payload) for name, reply in replies.items()}
        bundles = {name: answer.bundle for name, answer in answers.items() if not answer.nothing_to_report}
        try:
            return self._sum(bundles, task)
        except SecAggError as error:
            silent = sum(answer.nothing_to_report for answer in answers.values())
            return Heard(None, 0, f"{silent} of {len(devices)} devices had nothing to report; {error}")

    def _sum(self, bundles: Mapping[str, bytes], task: Task) -> Heard:
        """Take a session from the roster to the sum. Raises SecAggError where too few devices go along."""
        run, config = self.run, self._config(task)
        state, messages = secagg.create_session(
            config,
            bundles,
            round_key=run.keys.round,
            run=FEDERATION,
            round=self._round,
            attempt=self._attempt,
            task=task,
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
        decoded = secagg.decode(outcome.total, len(outcome.survivors), config)
        if task.purpose == "update":
            weights = len(flatten(self.release.weights()))
            decoded = replace(decoded, reals=rotate_back(decoded.reals, state.session.rotation_seed, weights))
        return Heard(decoded, len(outcome.survivors))

    def _config(self, task: Task) -> SessionConfig:
        settings, now = self.run.settings, self.run.clock()
        if task.purpose == "update":
            history = SumHistory.begin(clip_norm=settings.clip_norm, weight_cap=settings.weight_cap)
            return settings.update_session(len(flatten(self.release.weights())), history, now=now)
        integers = {
            "counts": settings.counts_layout.integers,
            "health": HealthLayout().integers,
            "usage": len(NAMES),
        }
        return settings.session(reals=0, integers=integers[task.purpose], now=now)

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


def count_answers(device: SimulatedDevice) -> int:
    """Return how many queries the device ever answered."""
    return sum(count for key, count in device.store.counters().items() if key.startswith("answered."))


def cosine(one: "np.typing.NDArray[Any]", other: "np.typing.NDArray[Any]") -> float:
    """Return the cosine of two vectors; 0 where one of them is all zeros."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.dot(one, other)) / lengths if lengths else 0.0
