"""Rounds in which one device spoils sums: nobody is asked twice, later cohorts are redrawn, and the device is named.

The devices run the real protocol and report updates alone, each once a period; they have nothing to say for other sums.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from onnx import TensorProto, helper

from aggregator.releases.registry import ReleaseRegistry
from aggregator.rounds.certify import CertificatePolicy
from aggregator.rounds.link import PAYLOAD, VECTOR, DeviceLink
from aggregator.rounds.publish import Export, ReleaseMaker
from aggregator.rounds.report import RoundReport
from aggregator.rounds.round import RoundRunner
from aggregator.rounds.round_settings import RoundSettings
from aggregator.rounds.server_optimizer import ServerOptimizer
from aggregator.rounds.session import CHECK_IN, CONSISTENCY, ROSTER, SHARES, UNMASK, SessionDriver
from aggregator.rounds.state import FederationState, initial_state
from aggregator.rounds.suspicion import Verdict
from fedge import secagg
from fedge.calendar import DAY_S
from fedge.layouts import UpdateLayout
from fedge.routing.confidence import TEMPERATURE_GRID
from fedge.secagg import DevicePolicy, Task
from protos.fedge.rounds.v1 import rounds_pb2
from sim.grid import InProcessGrid, Node, node_context

NOW, RUN = 1_767_225_600.0, "test"
FLEET, N_MIN, FIRST_NODE = 30, 11, 100
CLIP, CAP, WEIGHTS = 1.0, 4, 8
ROUND_KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
RELEASE_KEY = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)


def vouched(der: bytes) -> tuple[str, Ed25519PublicKey]:
    name, _, key = der.partition(b"|")
    return name.decode(), Ed25519PublicKey.from_public_bytes(key)


class Clock:
    """Time that moves only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Device:
    """One device's side of the protocol behind a `ClientApp`. ``trips``: it counts itself wrongly."""

    def __init__(self, number: int, clock: Clock) -> None:
        self.name = f"device-{number}"
        self.trips = False
        self.sent: list[int] = []
        """The periods in which its update has left."""
        self._clock = clock
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([100 + number]) * 32)
        self._update = np.eye(WEIGHTS)[number % WEIGHTS] / 2
        self._task: Task | None = None
        self._state: secagg.DeviceState | None = None
        self._accepted: tuple[int, int] | None = None

    def answer(self, action: str, payload: bytes) -> tuple[bytes, bytes | None]:
        if action == CHECK_IN:
            return self._check_in(rounds_pb2.CheckInRequest.FromString(payload)), None
        assert self._state is not None and self._task is not None
        if action == ROSTER:
            self._state, reply = secagg.handle_roster(self._state, payload, self._policy(self._task))
            self._accepted = self._state.accepted
            return reply, None
        if action == SHARES:
            assert self._state.session is not None
            metrics = UpdateLayout().encode(weight=CAP, examples=5, loss_sum=2.5, nll=[4.0] * len(TEMPERATURE_GRID))
            encoded = secagg.encode(self._update, metrics, self._state.session.config, os.urandom(32))
            if self.trips:
                encoded[-1] = 0
            self.sent.append(self._task.period)
            self._state, reply, vector = secagg.handle_shares(self._state, payload, encoded)
            return reply, None if vector is None else vector.tobytes()
        handle = secagg.handle_consistency if action == CONSISTENCY else secagg.handle_unmask
        self._state, reply = handle(self._state, payload)
        return reply, None

    def app(self) -> ClientApp:
        app = ClientApp()
        for step in (CHECK_IN, ROSTER, SHARES, CONSISTENCY, UNMASK):
            kind, _, action = step.partition(".")
            getattr(app, kind)(action)(self._handler(step))
        return app

    def _check_in(self, request: rounds_pb2.CheckInRequest) -> bytes:
        self._task = Task.from_message(request.task)
        if self._task.purpose != "update" or self._task.period in self.sent:
            return rounds_pb2.CheckInResponse(device_id=self.name, nothing_to_report=True).SerializeToString()
        certificate = self.name.encode() + b"|" + self._key.public_key().public_bytes_raw()
        self._state, bundle = secagg.create_bundle(
            self._key, self.name, certificate, now=self._clock(), expires=self._clock() + 3600, entropy=os.urandom
        )
        return rounds_pb2.CheckInResponse(device_id=self.name, bundle=bundle).SerializeToString()

    def _policy(self, task: Task) -> DevicePolicy:
        return DevicePolicy(
            round_key=ROUND_KEY.public_key(),
            verify_certificate=vouched,
            revoked=frozenset(),
            federation=RUN,
            last_accepted=self._accepted,
            task=task,
            reals=WEIGHTS,
            integers=UpdateLayout().integers,
            scale=CLIP,
            clip_norm=CLIP,
            weight_cap=CAP,
            now=self._clock(),
            n_min=N_MIN,
        )

    def _handler(self, action: str):
        def handle(message: Message, context: Context) -> Message:
            payload, vector = self.answer(action, message.content.config_records[PAYLOAD][PAYLOAD])
            content = RecordDict({PAYLOAD: ConfigRecord({PAYLOAD: payload})})
            if vector is not None:
                content[VECTOR] = ArrayRecord({VECTOR: Array("uint8", (len(vector),), "raw", vector)})
            return Message(content, reply_to=message)

        return handle


class Fleet:
    """Devices, a registry in a folder, and what runs their rounds, one a day. ``away``: nodes that never answer."""

    def __init__(self, folder: Path, devices: int = FLEET) -> None:
        self.clock = Clock()
        self.away: set[int] = set()
        self.devices = {FIRST_NODE + number: Device(number, self.clock) for number in range(devices)}
        self.registry = ReleaseRegistry(folder, RELEASE_KEY.public_key())
        self.readmissions: dict[str, int] = {}
        nodes = {node: Node(device.app(), node_context(node)) for node, device in self.devices.items()}
        grid = InProcessGrid(nodes, absent=lambda node, action, group: node in self.away)
        self._link = DeviceLink(grid, clock=self.clock, sleep=self.clock.sleep, poll_s=1.0)
        head = {"head.bias": np.zeros(2, np.float32), "head.weight": np.zeros((3, 2), np.float32)}
        model = _model()
        self._maker = ReleaseMaker(
            workload="tiny",
            labels=("a", "b"),
            oos_label=None,
            features={"kind": "pixels", "size": 2},
            step=model,
            first_head=head,
            training={"learning_rate": 0.1, "batch_size": 4, "epochs": 1, "clip_norm": CLIP, "weight_cap": CAP},
            threshold_grid=(0.5, 0.9),
            confidence="max_probability",
            price_book="test",
            export=lambda weights: Export(model, 1.0, {"queries": [[0.0, 1.0]], "logits": [[0.0, 1.0]]}),
            release_key=RELEASE_KEY,
        )
        first = self._maker.make(head, version=0, temperature=1.0, parent=None)
        self.registry.publish(first, at=NOW)
        self.registry.promote(first.release_id, at=NOW, reason="first release")
        self.state = initial_state(first)

    def play(self) -> RoundReport:
        """Run the next day's round and go on from the state that it gives."""
        self.clock.sleep(DAY_S)
        sessions = SessionDriver(
            self._link,
            secagg,
            run=RUN,
            round_key=ROUND_KEY,
            verify_certificate=vouched,
            clock=self.clock,
            entropy=os.urandom,
        )
        runner = RoundRunner(
            link=self._link,
            sessions=sessions,
            registry=self.registry,
            settings=RoundSettings(
                cohort=32,
                cohort_max=128,
                n_min=N_MIN,
                bits=32,
                clip_norm=CLIP,
                weight_cap=CAP,
                max_attempts=3,
                phase_timeout_s=10.0,
                session_timeout_s=600.0,
                optimizer=ServerOptimizer(),
                certificate=CertificatePolicy(max_risk=0.05, confidence=0.95, lifetime_s=DAY_S, grid=(0.5, 0.9)),
            ),
            seed=b"r" * 32,
            clock=self.clock,
            owner=lambda node: self.devices[node].name,
            readmissions=self.readmissions,
            maker=self._maker,
            release_key=RELEASE_KEY,
        )
        self.state, report = runner.run(self.state)
        return report

    def sent(self) -> list[int]:
        """Return how many updates each device has sent in the present period."""
        period = round(self.clock.now // DAY_S)
        return [device.sent.count(period) for device in self.devices.values()]

    def play_until_excluded(self) -> RoundReport:
        """Play until somebody is excluded, for 25 periods at most."""
        for _ in range(25):
            report = self.play()
            if self.state.suspicion.excluded:
                return report
        raise AssertionError("nobody was excluded in 25 periods")


def updates(report: RoundReport) -> list[tuple[str, int]]:
    """Return outcome and size of the round's update sessions."""
    return sorted((session.outcome, len(session.roster)) for session in report.sessions if session.purpose == "update")


def _model() -> bytes:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("pixels", "logits")]
    graph = helper.make_graph([helper.make_node("Identity", ["pixels"], ["logits"])], "g", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.fixture
def spoiled(tmp_path: Path) -> Fleet:
    fleet = Fleet(tmp_path)
    fleet.devices[FIRST_NODE + 7].trips = True
    return fleet


def test_an_honest_fleet_keeps_its_cohort_and_stores_no_evidence(fleet: Fleet) -> None:
    for _ in range(2):
        report = fleet.play()
        assert report.survivors == FLEET and updates(report) == [("finished", FLEET)]
    assert not fleet.state.suspicion.tests and not fleet.state.suspicion.excluded


def test_a_spoiled_sum_is_not_asked_for_again_in_its_period(spoiled: Fleet) -> None:
    report = spoiled.play()
    assert report.outcome == "failed" and updates(report) == [("aborted", FLEET)]
    assert spoiled.sent() == [1] * FLEET
    [test] = spoiled.state.suspicion.tests
    assert test.verdict is Verdict.SUM and len(test.members) == FLEET


def test_devices_that_left_before_they_masked_anything_are_neither_evidence_nor_spent(fleet: Fleet) -> None:
    fleet.away = set(list(fleet.devices)[:15])
    report = fleet.play()
    assert report.survivors == 15 and not fleet.state.suspicion.tests


def test_the_next_period_splits_the_fleet_so_that_one_cohort_counts(spoiled: Fleet) -> None:
    spoiled.play()
    report = spoiled.play()
    assert updates(report) == [("aborted", 15), ("finished", 15)]
    assert report.survivors == 15 and spoiled.sent() == [1] * FLEET
    assert sorted(report.draws[0].sizes) == [15, 15]


def test_devices_can_check_afterwards_who_sat_with_whom(spoiled: Fleet) -> None:
    spoiled.play()
    report = spoiled.play()
    [draw] = [draw for draw in report.draws if draw.purpose == "update"]
    for session in (session for session in report.sessions if session.purpose == "update"):
        for device in session.roster:
            draw.check_roster(session.roster, own=device)


def test_the_device_that_spoils_is_named_and_left_out_and_all_others_count_again(spoiled: Fleet) -> None:
    report = spoiled.play_until_excluded()
    assert spoiled.state.suspicion.excluded == {"device-7"}
    assert any("device-7 is excluded" in note and "fedge rounds readmit device-7" in note for note in report.notes)
    assert set(spoiled.sent()) == {1}
    spoiled.state = FederationState.from_bytes(spoiled.state.to_bytes())  # the exclusion outlives the process
    report = spoiled.play()
    assert updates(report) == [("finished", FLEET - 1)] and spoiled.sent().count(0) == 1
    assert not any("device-7" in session.roster for session in report.sessions)


def test_a_device_that_an_operator_readmits_takes_part_again(spoiled: Fleet) -> None:
    spoiled.play_until_excluded()
    spoiled.devices[FIRST_NODE + 7].trips = False
    spoiled.readmissions = {"device-7": 1}
    assert updates(spoiled.play()) == [("finished", FLEET)]
    assert not spoiled.state.suspicion.excluded and not spoiled.state.suspicion.unexplained()


def test_a_fleet_that_is_too_small_to_tell_pauses_and_says_what_to_do(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, devices=N_MIN)
    fleet.devices[FIRST_NODE + 3].trips = True
    assert fleet.play().outcome == "failed"
    report = fleet.play()
    assert (report.outcome, report.attempts, updates(report)) == ("paused", 0, []) and set(fleet.sent()) == {0}
    [note] = [note for note in report.notes if note.startswith("updates are paused")]
    assert "11 devices are present that are not excluded, and 12 are needed" in note and "Enroll or connect more" in note


def test_a_fleet_with_room_for_one_cohort_lets_others_rest_and_still_finds_the_device(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, devices=16)
    fleet.devices[FIRST_NODE + 3].trips = True
    fleet.play()
    assert updates(fleet.play())[0][1] == 13 and sorted(fleet.sent()) == [0] * 3 + [1] * 13
    fleet.play_until_excluded()
    assert fleet.state.suspicion.excluded == {"device-3"}


def test_the_beacon_moves_only_with_what_devices_contributed(fleet: Fleet) -> None:
    before, fleet.away = fleet.state.beacon, set(fleet.devices)
    fleet.play()
    assert fleet.state.beacon == before
    fleet.away = set()
    report = fleet.play()
    moved = fleet.state.beacon
    assert moved != before and report.draws[0].beacon == before
    assert fleet.play().draws[0].beacon == moved
