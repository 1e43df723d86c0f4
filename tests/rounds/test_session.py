"""Rounds over Flower messages with tiny devices: who leaves, who answers nonsense, what an operator then reads."""

import copy
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from onnx import TensorProto, helper

from aggregator.console.metrics import threshold_expiry
from aggregator.releases.registry import ReleaseRegistry
from aggregator.rounds.certification import CertificatePolicy
from aggregator.rounds.config import PROBE_CAP, PROBE_EPSILON, RoundSettings
from aggregator.rounds.interfaces import PHASES, AttemptLog, NoProgress, ProgressLog
from aggregator.rounds.probe_sums import TotalsSource
from aggregator.rounds.progress import StoredProgress
from aggregator.rounds.release_builder import MIN_AGREEMENT, Export, HeldOut, ReleaseMaker
from aggregator.rounds.report import RoundReport, store_round
from aggregator.rounds.round import RoundRunner
from aggregator.rounds.secagg_session import CHECK_IN, CONSISTENCY, ROSTER, SHARES, UNMASK, SessionDriver, SessionPlan, Tally
from aggregator.rounds.server_optimizer import ServerOptimizer
from aggregator.rounds.state import FederationState, StateFolder, initial_state
from aggregator.rounds.suspicion import Verdict
from aggregator.rounds.transport import PAYLOAD, VECTOR, DeviceLink
from aggregator.store import Database
from fedge import secagg
from fedge.architectures import DenseHead
from fedge.calendar import DAILY
from fedge.errors import VerificationError
from fedge.layouts import CountsLayout, UpdateLayout
from fedge.release import CertificateDocument, flatten
from fedge.routing.confidence import TEMPERATURE_GRID
from fedge.routing.probe_noise import ProbeNoise
from fedge.secagg import DevicePolicy, SessionAborted, SessionConfig, Task, keys, read_record
from fedge.secagg.rotation import rotate, rotate_back
from fedge.usage import Usage
from protos.fedge.rounds.v1 import rounds_pb2
from protos.fedge.secagg.v1 import secagg_pb2
from sim.grid import InProcessGrid, Node, node_context

NOW = 1_767_225_600.0
RUN = "test"
GRID = (0.5, 0.6, 0.7, 0.8, 0.9)  # 0.5 and 0.9 are the coarse one
LAYOUT = CountsLayout(len(GRID), lift=ProbeNoise(PROBE_EPSILON, 1).bound)
FIRST_NODE, DEVICES, COHORT = 100, 8, 4  # of 4 devices 3 must stay to the end
CAP, CLIP, STEP = 4, 1.0, 0.5
ROUND_KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
RELEASE_KEY = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
STEPS = (CHECK_IN, ROSTER, SHARES, CONSISTENCY, UNMASK)

Spoiler = Callable[[bytes, bytes | None], tuple[object, bytes | None]]


class Clock:
    """Time that moves only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def vouched(der: bytes) -> tuple[str, Ed25519PublicKey]:
    name, _, key = der.partition(b"|")
    if len(key) != 32:
        raise VerificationError("not a certificate")
    return name.decode(), Ed25519PublicKey.from_public_bytes(key)


class TinyDevice:
    """The device side of the protocol behind a `ClientApp`: number k moves weight k by STEP.

    ``spoil`` changes what it answers to an action; the protocol's state is that of an honest device.
    """

    def __init__(self, number: int, clock: Clock, registry: ReleaseRegistry) -> None:
        self.name = f"device-{number}"
        self.number = number
        self.clock = clock
        self.registry = registry
        self.key = Ed25519PrivateKey.from_private_bytes(bytes([100 + number]) * 32)
        self.spoil: dict[str, Spoiler] = {}
        self.lies: dict[str, int | np.ndarray] = {}
        self.usage_lies: dict[str, int] = {}
        self.last_accepted: tuple[int, int] | None = None
        self.state: secagg.DeviceState | None = None
        self.request = rounds_pb2.CheckInRequest()

    def contribution(self) -> tuple[np.ndarray, np.ndarray]:
        purpose = Task.from_message(self.request.task).purpose
        if purpose == "update":
            nll = [4.0 + abs(i - 3) for i in range(len(TEMPERATURE_GRID))]
            session = None if self.state is None else self.state.session
            cap = CAP if session is None else session.config.weight_cap
            integers = UpdateLayout().encode(weight=cap, examples=5, loss_sum=2.5, nll=nll, norm=STEP)
            update = STEP * np.eye(DEVICES)[self.number]
            if session is None:
                return update, integers
            clipped = update * min(1.0, session.config.clip_norm / STEP)
            return rotate(clipped, session.rotation_seed), integers
        if purpose == "usage":
            return np.zeros(0), replace(Usage(queries=10, local=6, probes=2, inference_mj=3), **self.usage_lies).encode()
        counts = {"agreed": np.array([50, 100]), "disagreed": np.array([50, 0])}
        counts |= {"new_seen": np.array([100, 0, 0, 0, 100]), "new_disagreed": np.array([50, 0, 0, 0, 0])}
        counts |= {"running_seen": 10, "running_disagreed": 0, **self.lies}
        return np.zeros(0), LAYOUT.encode(**counts)

    def policy(self) -> DevicePolicy:
        reals, integers = self.contribution()
        return DevicePolicy(
            round_key=ROUND_KEY.public_key(),
            verify_certificate=vouched,
            revoked=frozenset(),
            federation=RUN,
            last_accepted=self.last_accepted,
            task=Task.from_message(self.request.task),
            reals=len(reals),
            integers=len(integers),
            clip_norm=CLIP,
            weight_cap=CAP,
            now=self.clock(),
            n_min=2,
        )

    def answer(self, action: str, payload: bytes) -> tuple[bytes, bytes | None]:
        if action == CHECK_IN:
            self.request.ParseFromString(payload)
            if payload and self.contribution() is None:
                return rounds_pb2.CheckInResponse(device_id=self.name, nothing_to_report=True).SerializeToString(), None
            certificate = self.name.encode() + b"|" + self.key.public_key().public_bytes_raw()
            self.state, bundle = secagg.create_bundle(
                self.key, self.name, certificate, now=self.clock(), expires=self.clock() + 3600, entropy=os.urandom
            )
            return rounds_pb2.CheckInResponse(device_id=self.name, bundle=bundle).SerializeToString(), None
        assert self.state is not None
        if action == ROSTER:
            self.state, reply = secagg.handle_roster(self.state, payload, self.policy())
            self.last_accepted = self.state.accepted
        elif action == SHARES:
            assert self.state.session is not None
            encoded = secagg.encode(*self.contribution(), self.state.session.config, os.urandom(32))
            task = self.state.session.descriptor.task
            room = ProbeNoise(PROBE_EPSILON, 1).room
            limits = {"probe_cap": task.probe_cap, "probe_store": task.probe_store, "room": room}
            claim = LAYOUT.claim(**limits) if task.range_proofs else None
            self.state, reply, vector = secagg.handle_shares(self.state, payload, encoded, claim)
            return reply, None if vector is None else vector.tobytes()
        else:
            handle = secagg.handle_consistency if action == CONSISTENCY else secagg.handle_unmask
            self.state, reply = handle(self.state, payload)
        return reply, None

    def app(self) -> ClientApp:
        app = ClientApp()
        for step in STEPS:
            kind, _, action = step.partition(".")
            getattr(app, kind)(action)(self._handler(step))
        return app

    def _handler(self, action: str) -> Callable[[Message, Context], Message]:
        def handle(message: Message, context: Context) -> Message:
            payload, vector = self.answer(action, message.content.config_records[PAYLOAD][PAYLOAD])
            if action in self.spoil:
                payload, vector = self.spoil[action](payload, vector)
            content = RecordDict({} if payload is None else {PAYLOAD: ConfigRecord({PAYLOAD: payload})})
            if vector is not None:
                content[VECTOR] = ArrayRecord({VECTOR: Array("uint8", (len(vector),), "raw", vector)})
            return Message(content, reply_to=message)

        return handle


def tiny_model() -> bytes:
    names = ("pixels", "logits", "embedding")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in names]
    nodes = [helper.make_node("Identity", ["pixels"], [name]) for name in names[1:]]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


class World:
    """Eight tiny devices, a registry in a folder, and what runs their rounds.

    ``away`` holds (node, action, session group); an entry of None in a place means any. ``asked`` lists what was sent.
    """

    def __init__(self, folder: Path, progress: ProgressLog | None = None) -> None:
        self.totals: TotalsSource | None = None
        self.liars = 1
        self.probe_cap, self.range_proofs = PROBE_CAP, False
        self.clock = Clock()
        self.progress = progress or NoProgress()
        self.registry = ReleaseRegistry(folder, RELEASE_KEY.public_key())
        self.devices = {FIRST_NODE + k: TinyDevice(k, self.clock, self.registry) for k in range(DEVICES)}
        self.away: set[tuple[int | None, str | None, str | None]] = set()
        self.asked: list[tuple[int, str, str]] = []
        self.agreement = 1.0
        self.held_out: HeldOut | None = None
        nodes = {node: Node(device.app(), node_context(node)) for node, device in self.devices.items()}
        self.grid = InProcessGrid(nodes, absent=self._absent)
        self.link = DeviceLink(self.grid, clock=self.clock, sleep=self.clock.sleep, poll_s=1.0)
        self.driver = SessionDriver(
            self.link,
            secagg,
            run=RUN,
            round_key=ROUND_KEY,
            verify_certificate=vouched,
            clock=self.clock,
            entropy=os.urandom,
            progress=progress,
        )
        head = {"head.bias": np.zeros(2, np.float32), "head.weight": np.zeros((3, 2), np.float32)}
        model = tiny_model()
        self.maker = ReleaseMaker(
            workload="tiny",
            labels=("a", "b"),
            oos_label=None,
            features={"kind": "pixels", "size": 2},
            architecture=DenseHead(3, 2),
            first_head=head,
            training={
                "learning_rate": 0.1,
                "batch_size": 4,
                "epochs": 1,
                "clip_norm": CLIP,
                "example_clip_norm": CLIP,
                "weight_cap": CAP,
            },
            threshold_grid=GRID,
            confidence="max_probability",
            price_book="test",
            export=lambda weights: Export(
                model, self.agreement, {"queries": [[0.0, 1.0]], "logits": [[0.0, 1.0]]}, self.held_out
            ),
            release_key=RELEASE_KEY,
        )
        first = self.maker.make(head, version=0, temperature=1.0, parent=None)
        self.registry.publish(first, at=NOW)
        self.registry.promote(first.release_id, at=NOW, reason="first release")
        self.state = initial_state(first)

    def _absent(self, node: int, action: str, group: str) -> bool:
        self.asked.append((node, action, group))
        return any(
            all(wanted in (None, given) for wanted, given in zip(entry, (node, action, group), strict=True))
            for entry in self.away
        )

    def moved_on(self, before: FederationState, round_number: int) -> FederationState:
        """``before`` as a round that failed leaves it: only what is known of the fleet, and the beacon, went on."""
        now = self.state
        return replace(
            before, round_number=round_number, beacon=now.beacon, suspicion=now.suspicion, probes=now.probes
        )

    def checked_in(self, group: str) -> set[int]:
        return {node for node, action, of in self.asked if (action, of) == (CHECK_IN, group)}

    def config(self) -> SessionConfig:
        return SessionConfig(
            reals=DEVICES,
            integers=UpdateLayout().integers,
            bits=32,
            cohort_max=16,
            scale=CLIP,
            clip_norm=CLIP,
            weight_cap=CAP,
            n_min=2,
            deadline=self.clock() + 600,
        )

    def session(
        self, tally: Tally, *, attempt: int = 1, nodes: Collection[int] = range(FIRST_NODE, FIRST_NODE + COHORT)
    ) -> secagg.Decoded:
        """One update session with the first four devices."""
        manifest = self.registry.release(self.state.release_id).manifest
        plan = SessionPlan(
            round_number=1,
            attempt=attempt,
            task=Task(
                purpose="update",
                period=DAILY.period_at(self.clock()),
                release_id=self.state.release_id,
                weights_sha256=manifest.weights_sha256,
                structure_sha256=manifest.structure_sha256,
            ),
            config=self.config(),
            timeout_s=10.0,
        )
        result = self.driver.run(plan, list(nodes), tally)
        return replace(result.decoded, reals=rotate_back(result.decoded.reals, result.rotation_seed, DEVICES))

    def round(
        self,
        *,
        max_attempts: int = 3,
        cohort: int = COHORT,
        cohort_max: int = 16,
        noise_multiplier: float = 0.0,
        attempts: AttemptLog | None = None,
        usage_every: int = 0,
    ) -> RoundReport:
        """Run the next round and go on from the state that it gives."""
        settings = RoundSettings(
            cohort=cohort,
            cohort_max=cohort_max,
            n_min=2,
            bits=32,
            clip_norm=CLIP,
            weight_cap=CAP,
            max_attempts=max_attempts,
            phase_timeout_s=10.0,
            session_timeout_s=600.0,
            optimizer=ServerOptimizer(),
            certificate=CertificatePolicy(max_risk=0.05, confidence=0.95, lifetime_s=86_400.0, grid=GRID),
            noise_multiplier=noise_multiplier,
            usage_every=usage_every,
            liars=self.liars,
            probe_cap=self.probe_cap,
            range_proofs=self.range_proofs,
        )
        runner = RoundRunner(
            link=self.link,
            sessions=self.driver,
            registry=self.registry,
            settings=settings,
            seed=b"r" * 32,
            clock=self.clock,
            progress=self.progress,
            maker=self.maker,
            release_key=RELEASE_KEY,
            totals=self.totals,
        )
        if attempts is not None:
            runner = replace(runner, attempts=attempts)
        self.state, report = runner.run(self.state)
        return report

    def logged_round(self, database: Database, *, max_attempts: int = 3) -> RoundReport:
        report = self.round(max_attempts=max_attempts)
        store_round(database, self.state, report, finished=self.clock())
        return report

    def published(self) -> tuple[str | None, list[str], bytes | None]:
        """Everything that the fleet can see: active release, releases, the active one's certificate."""
        active = self.registry.active()
        document = None if active is None else self.registry.certificate(active)
        ids = [release.release_id for release in self.registry.releases()]
        return active, ids, None if document is None else document.to_bytes()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def moved(decoded: secagg.Decoded) -> set[int]:
    """Which devices' updates are in a sum: each moves its own weight by STEP."""
    amounts = np.rint(decoded.reals / STEP * 1e6) / 1e6
    assert set(amounts.tolist()) <= {0.0, 1.0}
    return set(np.flatnonzero(amounts).tolist())


def payload(data: object) -> Spoiler:
    return lambda honest, vector: (data, vector)


# One session.


def test_a_session_sums_what_its_devices_sent(world: World) -> None:
    tally = Tally()
    assert moved(world.session(tally)) == {0, 1, 2, 3}
    assert tally.dropouts == [] and tally.excluded == set()
    assert set(tally.seconds) == {"check_in", "share_keys", "masked_input", "consistency", "unmask"}
    assert tally.bytes_vectors == 4 * world.config().vector_bytes and tally.bytes_up > 0 and tally.bytes_down > 0
    assert world.clock.now == NOW  # nobody waits where everyone has answered


@pytest.mark.parametrize(
    ("action", "name", "stage", "summed"),
    [
        (CHECK_IN, "node 102", "check-in", {0, 1, 3}),
        (ROSTER, "device-2", ROSTER, {0, 1, 3}),
        (SHARES, "device-2", SHARES, {0, 1, 3}),
        (CONSISTENCY, "device-2", CONSISTENCY, {0, 1, 2, 3}),
        (UNMASK, "device-2", UNMASK, {0, 1, 2, 3}),
    ],
)
def test_a_device_that_never_answers_is_dropped_and_named_with_the_stage(
    world: World, action: str, name: str, stage: str, summed: set[int]
) -> None:
    world.away = {(102, later, None) for later in STEPS[STEPS.index(action) :]}
    tally = Tally()
    assert moved(world.session(tally)) == summed
    assert tally.dropouts == [(name, f"{stage}: no answer in time")]
    assert world.clock.now - NOW == 10.0  # one phase's timeout, once: a device that left is not waited for again


MALFORMED = {
    "no payload": (payload(None), "the reply carries no payload"),
    "text": (payload("text"), "the reply carries no payload"),
    "garbage": (payload(b"\xff" * 40), ""),
    "oversize": (payload(bytes(4 * 1024 * 1024 + 1)), "the reply's payload has 4194305 bytes, more than 4194304"),
}


@pytest.mark.parametrize("action", STEPS)
@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_reply_drops_its_sender_and_not_the_session(world: World, action: str, kind: str) -> None:
    spoiler, reason = MALFORMED[kind]
    world.devices[101].spoil[action] = spoiler
    tally = Tally()
    summed = moved(world.session(tally))
    assert summed == ({0, 1, 2, 3} if action in (CONSISTENCY, UNMASK) else {0, 2, 3})
    ((name, why),) = tally.dropouts
    assert name == ("node 101" if action == CHECK_IN else "device-1")
    assert why.startswith(("check-in: " if action == CHECK_IN else f"{action}: ") + reason)


def signed_by_another(action: str) -> Spoiler:
    """The honest reply with every signature in it made by a key that is not the device's."""

    def spoil(honest: bytes, vector: bytes | None) -> tuple[object, bytes | None]:
        if action == CHECK_IN:
            response = rounds_pb2.CheckInResponse.FromString(honest)
            bundle = secagg_pb2.SignedBundle.FromString(response.bundle)
            bundle.signature = keys.sign(RELEASE_KEY, "bundle", bundle.bundle)
            response.bundle = bundle.SerializeToString()
            return response.SerializeToString(), vector
        if action == ROSTER:
            dealt = secagg_pb2.ShareReply.FromString(honest)
            dealt.dealing.signature = keys.sign(RELEASE_KEY, "shares", dealt.dealing.body)
            return dealt.SerializeToString(), vector
        if action == SHARES:
            masked = secagg_pb2.MaskedReply.FromString(honest)
            masked.vector.signature = keys.sign(RELEASE_KEY, "vector", masked.vector.body)
            return masked.SerializeToString(), vector
        agreed = secagg_pb2.ConsistencyReply(signature=RELEASE_KEY.sign(honest))
        return agreed.SerializeToString(), vector

    return spoil


BAD = ("malformed", "oversized", "reordered", "replayed from another session", "signed by another")


@pytest.mark.parametrize("action", STEPS)
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_message_is_refused_counted_and_blamed_and_the_session_finishes(world: World, action: str, kind: str) -> None:
    device = world.devices[101]
    seen: dict[str, tuple[bytes, bytes | None]] = {}
    for step in STEPS:
        device.spoil[step] = lambda honest, vector, step=step: seen.setdefault(step, (honest, vector))
    world.session(Tally())  # an earlier session, whose replies can be replayed; afterwards the device is honest again
    device.spoil.clear()
    earlier = STEPS[STEPS.index(action) - 1]
    device.spoil[action] = {
        "malformed": payload(b"\xff" * 40),
        "oversized": payload(bytes(4 * 1024 * 1024 + 1)),
        "reordered": lambda honest, vector: seen[earlier],
        "replayed from another session": lambda honest, vector: seen[action],
        "signed by another": signed_by_another(action),
    }[kind]
    tally = Tally()
    summed = moved(world.session(tally, attempt=2))
    if action == CHECK_IN and kind.startswith("replayed"):
        # The bundle still holds; its owner has other keys by now, so it refuses the roster and drops out by itself.
        assert summed == {0, 2, 3} and [name for name, _ in tally.dropouts] == ["device-1"] and not tally.refusals
        return
    assert summed == ({0, 1, 2, 3} if action in (CONSISTENCY, UNMASK) else {0, 2, 3})
    assert tally.refusals == {"MessageError": 1}
    ((name, _),) = tally.dropouts
    assert name in ("device-1", "node 101") and tally.excluded == set()


def test_who_is_silent_or_raises_is_no_refusal(world: World) -> None:
    world.away = {(101, SHARES, None)}
    world.devices[102].spoil[UNMASK] = payload(b"\xff")
    tally = Tally()
    with pytest.raises(SessionAborted):
        world.session(tally)
    assert len(tally.dropouts) == 2 and tally.refusals == {"MessageError": 1}  # counted though the session aborted


class UnreadableGrid(InProcessGrid):
    """Flower cannot put together what one node made up: it raises in the middle of a pull, as its own grid does."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        pulled = list(super().pull_messages(message_ids))
        if any(message.metadata.src_node_id == 101 for message in pulled):
            raise KeyError("ArrayRecord")
        return pulled


def test_a_reply_that_flower_cannot_read_costs_its_sender_alone(world: World) -> None:
    nodes = {node: Node(world.devices[node].app(), node_context(node)) for node in (100, 101, 102)}
    link = DeviceLink(UnreadableGrid(nodes, absent=lambda *_: False), clock=world.clock, sleep=world.clock.sleep)
    taken: list[int] = []
    exchange = link.exchange(
        CHECK_IN, dict.fromkeys(nodes, b""), lambda node, _: taken.append(node), group="1.1", timeout_s=10.0
    )
    assert sorted(taken) == [100, 102] and exchange.answered == {100, 102}
    assert {node: str(error) for node, error in exchange.refused.items()} == {
        101: "Flower cannot read the reply: KeyError: 'ArrayRecord'"
    }


def test_a_grid_that_is_gone_is_nobodys_fault(world: World) -> None:
    class GoneGrid(InProcessGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            raise ConnectionError("no SuperLink")

    grid = GoneGrid({100: Node(world.devices[100].app(), node_context(100))}, absent=lambda *_: False)
    link = DeviceLink(grid, clock=world.clock, sleep=world.clock.sleep)
    with pytest.raises(ConnectionError):
        link.exchange(CHECK_IN, {100: b""}, lambda *_: None, group="1.1", timeout_s=10.0)


@pytest.mark.parametrize("action", STEPS)
def test_an_app_that_raises_drops_its_device_with_its_own_words(world: World, action: str) -> None:
    def refuse(honest: bytes, vector: bytes | None) -> tuple[object, bytes | None]:
        raise ValueError("not today")

    world.devices[101].spoil[action] = refuse
    tally = Tally()
    world.session(tally)
    ((_, why),) = tally.dropouts
    assert why == f"{'check-in' if action == CHECK_IN else action}: ValueError: not today"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda vector: None, "the vector is missing"),
        (lambda vector: vector[:-4], "the vector has"),
        (lambda vector: bytes(len(vector)), "the vector is not the one that was signed"),
    ],
)
def test_a_vector_that_does_not_hold_never_enters_the_sum(
    world: World, change: Callable[[bytes], bytes | None], reason: str
) -> None:
    world.devices[101].spoil[SHARES] = lambda honest, vector: (honest, change(vector or b""))
    tally = Tally()
    assert moved(world.session(tally)) == {0, 2, 3}
    ((name, why),) = tally.dropouts
    assert name == "device-1" and reason in why


@pytest.mark.parametrize("name", ["", "x" * 65, "device-0", "two\nlines", "nul\0"])
def test_a_check_in_under_an_unusable_or_taken_name_is_left_out(world: World, name: str) -> None:
    bundle = rounds_pb2.CheckInResponse(device_id=name, bundle=b"bundle").SerializeToString()
    world.devices[101].spoil[CHECK_IN] = payload(bundle)
    tally = Tally()
    assert moved(world.session(tally)) == {0, 2, 3}
    assert tally.dropouts == [("node 101", "check-in: an unusable or repeated device id")]


def test_a_bundle_that_does_not_hold_is_left_out_of_the_roster(world: World) -> None:
    response = rounds_pb2.CheckInResponse(device_id="device-1", bundle=b"\xff")
    world.devices[101].spoil[CHECK_IN] = payload(response.SerializeToString())
    tally = Tally()
    assert moved(world.session(tally)) == {0, 2, 3}
    ((name, why),) = tally.dropouts
    assert name == "device-1" and why.startswith("roster: ")


@pytest.mark.parametrize("action", STEPS[1:])
def test_with_too_few_left_the_session_aborts_and_says_so(world: World, action: str) -> None:
    world.away = {(node, later, None) for node in (101, 102) for later in STEPS[STEPS.index(action) :]}
    tally = Tally()
    with pytest.raises(SessionAborted, match="2 of 4 devices answered, it takes 3"):
        world.session(tally)
    assert [name for name, _ in tally.dropouts] == ["device-1", "device-2"]
    assert tally.bytes_up > 0  # what an aborted session cost is counted too


def test_an_abort_excludes_the_nodes_of_the_devices_that_it_blames(world: World) -> None:
    for node in (101, 102, 103):
        response = rounds_pb2.CheckInResponse(device_id=world.devices[node].name, bundle=b"\xff")
        world.devices[node].spoil[CHECK_IN] = payload(response.SerializeToString())
    tally = Tally()
    with pytest.raises(SessionAborted):
        world.session(tally)
    assert tally.excluded == {101, 102, 103}


# The link.


class LateGrid(InProcessGrid):
    """Replies arrive only at ``due``."""

    clock: Clock
    due: float

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return super().pull_messages(message_ids) if self.clock() >= self.due else []


@pytest.mark.parametrize(("after_s", "answered"), [(3.0, True), (10.0, True), (11.0, False)])
def test_replies_are_waited_for_until_the_deadline_and_no_longer(world: World, after_s: float, answered: bool) -> None:
    grid = LateGrid({100: Node(world.devices[100].app(), node_context(100))}, absent=lambda *_: False)
    grid.clock, grid.due = world.clock, NOW + after_s
    link = DeviceLink(grid, clock=world.clock, sleep=world.clock.sleep, poll_s=1.0)
    taken: list[int] = []
    exchange = link.exchange(CHECK_IN, {100: b""}, lambda node, _: taken.append(node), group="1.1", timeout_s=10.0)
    assert exchange.answered == set(taken) == ({100} if answered else set())
    assert world.clock.now == NOW + min(after_s, 10.0)


class MixedUpGrid(InProcessGrid):
    """Every reply names a sender that nobody asked, and comes with one to a message that was never sent."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        pulled = list(super().pull_messages(message_ids))
        stray = copy.deepcopy(pulled)
        for message in pulled:
            message.metadata.__dict__["_src_node_id"] = 999
        for message in stray:
            message.metadata.__dict__["_reply_to_message_id"] = "never sent"
        return [*stray, *pulled]


def test_a_reply_counts_for_the_node_that_was_asked(world: World) -> None:
    grid = MixedUpGrid({100: Node(world.devices[100].app(), node_context(100))}, absent=lambda *_: False)
    link = DeviceLink(grid, clock=world.clock, sleep=world.clock.sleep)
    taken: list[int] = []
    exchange = link.exchange(CHECK_IN, {100: b""}, lambda node, _: taken.append(node), group="1.1", timeout_s=10.0)
    assert taken == [100] and exchange.answered == {100} and not exchange.failures


def test_an_exchange_with_nobody_ends_at_once(world: World) -> None:
    exchange = world.link.exchange(CHECK_IN, {}, lambda *_: None, group="1.1", timeout_s=10.0)
    assert not exchange.answered and world.clock.now == NOW


# A round.


def test_a_round_moves_the_weights_by_the_mean_and_publishes_release_and_certificate(world: World) -> None:
    first = world.published()[0]
    report = world.round()
    survivors = {node - FIRST_NODE for node in world.checked_in("1.1")}
    expected = np.zeros(DEVICES)
    expected[list(survivors)] = STEP / COHORT
    assert flatten(world.state.head) == pytest.approx(expected, abs=1e-7)
    assert (report.outcome, report.attempts, report.cohort, report.survivors) == ("finished", 1, COHORT, COHORT)
    assert report.training_loss == pytest.approx(0.5)
    assert world.state.temperature == TEMPERATURE_GRID[11]  # two points towards the best one, the fourth
    assert world.state.history.weight_cap == CAP and world.state.history.mean_norms == (pytest.approx(STEP / 2),)
    assert report.sum_checks[0].kind is None
    active, releases, certificate = world.published()
    assert active == report.release_id == world.state.release_id and releases == [first, active]
    assert certificate == report.certificate.to_bytes()
    assert world.state.threshold == 0.9 and world.state.running.seen == 10 * DEVICES - 2 * PROBE_CAP
    assert (world.state.round_number, world.state.version) == (1, 1)


def test_a_round_above_the_limit_of_a_cohort_runs_several_and_adds_their_sums(world: World) -> None:
    report = world.round(cohort=DEVICES, cohort_max=COHORT)
    first, second = world.checked_in("1.1"), world.checked_in("1.2")
    assert not first & second and len(first) == len(second) == COHORT
    assert (report.outcome, report.attempts, report.cohort, report.survivors) == ("finished", 2, DEVICES, DEVICES)
    assert flatten(world.state.head) == pytest.approx(np.full(DEVICES, STEP / DEVICES), abs=1e-7)


def test_an_aborted_cohort_is_tried_again_with_devices_that_no_other_has(world: World) -> None:
    world.away = {(None, ROSTER, "1.2")}
    report = world.round(cohort=DEVICES, cohort_max=COHORT)
    assert not world.checked_in("1.1") & world.checked_in("1.3")
    assert (report.outcome, report.attempts, report.survivors) == ("finished", 3, DEVICES)


def test_a_cohort_that_uses_up_its_attempts_is_missed_and_the_other_counts(world: World) -> None:
    world.away = {(None, ROSTER, group) for group in ("1.2", "1.3")}
    report = world.round(cohort=DEVICES, cohort_max=COHORT, max_attempts=2)
    expected = np.zeros(DEVICES)
    expected[[node - FIRST_NODE for node in world.checked_in("1.1")]] = STEP / COHORT
    assert (report.outcome, report.attempts, report.survivors) == ("finished", 3, COHORT)
    assert flatten(world.state.head) == pytest.approx(expected, abs=1e-7)


def test_an_aborted_attempt_is_counted_and_the_next_draws_another_cohort(world: World) -> None:
    world.away = {(None, ROSTER, "1.1")}
    report = world.round()
    assert (report.outcome, report.attempts) == ("finished", 2)
    assert world.checked_in("1.1") != world.checked_in("1.2")
    assert [(s.purpose, s.attempt, s.outcome) for s in report.sessions] == [
        ("update", 1, "aborted"),
        ("update", 2, "finished"),
        ("counts", 3, "finished"),
        ("counts", 4, "finished"),
    ]
    assert len(report.sessions[0].dropouts) == COHORT and not report.sessions[1].dropouts
    assert report.notes == [f"update attempt 1 aborted: {report.sessions[0].reason}"]


def test_nodes_that_an_abort_blames_are_not_asked_again_in_that_round(world: World) -> None:
    bad = [101, 102, 103, 104, 105]
    for node in bad:
        response = rounds_pb2.CheckInResponse(device_id=world.devices[node].name, bundle=b"\xff")
        world.devices[node].spoil[CHECK_IN] = payload(response.SerializeToString())
    report = world.round(max_attempts=9)
    blamed: set[int] = set()
    for session in report.sessions:
        nodes = world.checked_in(f"1.{session.attempt}")
        assert not nodes & blamed
        blamed |= nodes & set(bad) if session.outcome == "aborted" else set()
    assert blamed


def test_a_round_that_uses_up_its_attempts_fails_and_changes_nothing(world: World) -> None:
    world.round()
    before, published = world.state, world.published()
    world.away = {(None, ROSTER, None)}
    report = world.round(max_attempts=3)
    assert (report.outcome, report.attempts, report.release_id) == ("failed", 3, before.release_id)
    assert (report.release, report.certificate, report.survivors) == (None, None, 0)
    assert world.published() == published
    assert world.state.to_bytes() == world.moved_on(before, 2).to_bytes()
    world.away.clear()
    assert world.round().outcome == "finished" and world.state.version == 2


def test_attempts_that_a_crash_cut_off_have_spent_privacy_like_aborted_ones(world: World, tmp_path: Path) -> None:
    world.away = {(None, None, None)}
    whole = world.round(noise_multiplier=2.0, max_attempts=3).privacy_rho
    log = StateFolder(tmp_path / "rounds")
    log.begin(2, 3)  # the round before this one's end, three attempts far
    assert whole > 0.0
    assert world.round(noise_multiplier=2.0, max_attempts=3, attempts=log).privacy_rho == pytest.approx(2 * whole)
    assert world.state.privacy_rho == pytest.approx(3 * whole)


def test_a_round_with_nobody_there_fails_in_words(world: World) -> None:
    before, published = world.state, world.published()
    world.away = {(None, None, None)}
    report = world.round()
    assert report.outcome == "failed" and world.published() == published
    assert world.state.to_bytes() == world.moved_on(before, 1).to_bytes()
    assert report.notes[0].startswith("update attempt 1 aborted: the session aborts at roster: 0 devices")


def test_a_model_below_the_quality_gate_is_not_published_and_the_weights_stay(world: World) -> None:
    world.round()
    before, (active, releases, _) = world.state, world.published()
    world.agreement = MIN_AGREEMENT - 0.001
    report = world.round()
    assert report.outcome == "quality gate" and report.release is None
    assert any("98.4%" in note and "98.5% are required" in note for note in report.notes)
    assert world.published()[:2] == (active, releases)
    assert flatten(world.state.head).tolist() == flatten(before.head).tolist()
    assert world.state.optimizer.first.tolist() == before.optimizer.first.tolist()
    assert (world.state.release_id, world.state.version) == (before.release_id, before.version)
    world.agreement = MIN_AGREEMENT
    assert world.round().outcome == "finished"
    assert world.state.version == before.version + 1


def test_a_cohort_whose_counts_abort_is_missed_and_the_others_count(world: World) -> None:
    world.away = {(None, ROSTER, "1.2")}
    report = world.round()
    assert [(s.purpose, s.outcome) for s in report.sessions[1:]] == [("counts", "aborted"), ("counts", "finished")]
    assert not set(world.checked_in("1.2")) & set(world.checked_in("1.3"))
    assert world.state.running.seen == 10 * COHORT - PROBE_CAP  # less what one liar may have invented


@pytest.mark.parametrize(
    ("lies", "reason", "seen"),
    [
        ({"running_disagreed": 10_000}, "a running pair of 10000 disagreements among 40 probes cannot be", 10 * COHORT),
        ({"new_disagreed": np.array([10_000, 0, 0, 0, 0])}, "more disagreements than probes", 10 * DEVICES),
        ({"agreed": np.array([2**27, 0])}, "more than 4 devices can have", 10 * DEVICES),
        ({"running_seen": 2**27}, "cannot be", 10 * COHORT),
    ],
)
def test_counts_that_cannot_be_cost_their_cohort_and_not_the_round(
    world: World, lies: dict[str, int | np.ndarray], reason: str, seen: int
) -> None:
    world.devices[101].lies = lies
    report = world.round()
    assert report.outcome == "finished" and report.certificate is not None
    assert world.state.running.seen == seen - 2 * PROBE_CAP  # and what a liar may have invented in each cohort is deducted
    (note,) = [note for note in report.notes if "lied" in note]
    assert reason in note and report.tally.refusals == {"LiarEvidence": 1}


@pytest.fixture
def proving(world: World) -> World:
    """A world with range proofs and a cap that leaves room for what its devices count."""
    world.probe_cap, world.range_proofs, world.liars = 255, True, 0
    return world


def test_counts_with_range_proofs_give_the_certificate_of_those_without(proving: World, tmp_path: Path) -> None:
    other = World(tmp_path / "without")
    other.probe_cap, other.liars = proving.probe_cap, proving.liars
    ours, theirs = proving.round().statement, other.round().statement
    assert ours is not None and theirs is not None and ours.seen > 0
    assert ours == replace(theirs, release_id=ours.release_id)


@pytest.mark.parametrize(
    "lies",
    [
        {"running_disagreed": 11},
        {"new_disagreed": np.array([0, -1, 0, 0, 0])},
        {"new_seen": np.array([100, 0, 0, 0, 156])},
        {"agreed": np.array([2**20, 0])},
    ],
)
def test_counts_that_cannot_be_proved_cost_their_device_and_nobody_else(
    proving: World, lies: dict[str, int | np.ndarray]
) -> None:
    proving.devices[101].lies = lies
    report = proving.round()
    assert [(s.purpose, s.outcome) for s in report.sessions] == [("update", "finished"), *[("counts", "finished")] * 2]
    assert proving.state.running.seen == 10 * (DEVICES - 1)
    ((name, _),) = report.tally.dropouts
    assert name == "device-1"


@pytest.mark.parametrize("place", [0, -1])
def test_a_spoiled_proof_costs_its_device_and_nobody_else(proving: World, place: int) -> None:
    def spoil(honest: bytes, vector: bytes | None) -> tuple[object, bytes | None]:
        message = secagg_pb2.MaskedReply.FromString(honest)
        if not message.range_proof:
            return honest, vector
        proof = bytearray(message.range_proof)
        proof[place] ^= 1
        message.range_proof = bytes(proof)
        body = secagg_pb2.MaskedVector.FromString(message.vector.body)
        body.range_proof_sha256 = hashlib.sha256(message.range_proof).digest()
        message.vector.body = body.SerializeToString()
        message.vector.signature = keys.sign(device.key, "vector", message.vector.body)
        return message.SerializeToString(), vector

    device = proving.devices[101]
    device.spoil[SHARES] = spoil
    report = proving.round()
    assert [(s.purpose, s.outcome) for s in report.sessions] == [("update", "finished"), *[("counts", "finished")] * 2]
    assert proving.state.running.seen == 10 * (DEVICES - 1)
    ((name, why),) = report.tally.dropouts
    assert name == device.name and "range proof" in why
    assert not [test for test in report.tests.values() if test.verdict is not Verdict.CLEAN]


def test_a_vector_that_deviates_from_its_proof_spoils_its_cohorts_sum_as_evidence(proving: World) -> None:
    def deviate(honest: bytes, vector: bytes | None) -> tuple[object, bytes | None]:
        assert vector is not None
        lying = np.frombuffer(vector, "<u4").copy()
        lying[-4] += np.uint32(1)
        message = secagg_pb2.MaskedReply.FromString(honest)
        body = secagg_pb2.MaskedVector.FromString(message.vector.body)
        body.vector_blake2b = secagg.wire.vector_hash(lying)
        message.vector.body = body.SerializeToString()
        message.vector.signature = keys.sign(device.key, "vector", message.vector.body)
        return (message.SerializeToString(), lying.tobytes()) if message.range_proof else (honest, vector)

    device = proving.devices[101]
    device.spoil[SHARES] = deviate
    report = proving.round()
    assert sorted(s.outcome for s in report.sessions[1:]) == ["aborted", "finished"]
    (spoiled,) = [test for test in report.tests.values() if test.verdict is Verdict.SUM]
    assert spoiled.purpose == "counts" and device.name in spoiled.members
    assert any("not that of the committed values" in note for note in report.notes)


def test_every_so_many_rounds_devices_are_asked_what_they_answered_and_used(world: World) -> None:
    assert world.round(usage_every=2).usage is None
    report = world.round(usage_every=2)
    assert report.usage == Usage(queries=80, local=48, probes=16, inference_mj=24)
    attempts = [session.attempt for session in report.sessions]
    assert attempts == list(range(1, len(attempts) + 1))  # each device accepts a pair of round and attempt once
    assert [session.purpose for session in report.sessions] == ["update", "counts", "counts", "usage", "usage"]


def test_usage_that_cannot_be_costs_its_cohort_and_not_the_round(world: World, database: Database) -> None:
    world.devices[101].usage_lies = {"local": 10_000}
    report = world.round(usage_every=1)
    assert report.outcome == "finished" and report.usage == Usage(queries=40, local=24, probes=8, inference_mj=12)
    assert any("usage discarded" in note for note in report.notes)
    store_round(database, world.state, report, finished=world.clock())
    metrics = database.rounds()[-1].metrics
    assert metrics["usage"]["queries"] == 40 and metrics["fallback_rate"] == pytest.approx(8 / 32)


def test_a_first_release_whose_counts_all_abort_goes_out_without_a_certificate(world: World) -> None:
    world.away = {(None, ROSTER, f"1.{attempt}") for attempt in range(2, 6)}
    report = world.round()
    assert report.outcome == "finished" and report.certificate is None
    assert world.published()[0] == world.state.release_id and world.published()[2] is None
    assert (world.state.threshold, world.state.certificate_state) == (None, "none")
    assert "no new certificate" in report.notes[-1]


def test_a_release_that_cannot_be_certified_leaves_the_one_before_in_place(world: World) -> None:
    world.round()
    live, head, threshold = world.published(), flatten(world.state.head), world.state.threshold
    assert threshold is not None
    world.away = {(None, ROSTER, f"2.{attempt}") for attempt in range(2, 6)}
    report = world.round()
    assert report.outcome == "uncertified" and "no new certificate" in report.notes[-1]
    now = world.published()
    assert (now[0], now[2]) == (live[0], live[2])
    assert (flatten(world.state.head) == head).all() and world.state.threshold == threshold
    assert report.release_id == world.state.release_id == live[0] and world.state.round_number == 2
    assert world.round().outcome == "finished" and world.published()[0] != live[0]


# The round log.


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(f"sqlite:///{tmp_path}/log.sqlite") as opened:
        yield opened


def test_the_log_holds_attempts_dropouts_records_and_the_state_to_go_on_from(world: World, database: Database) -> None:
    world.away = {(None, SHARES, "1.1"), *((100, action, "1.3") for action in STEPS[2:])}
    world.away |= {(101, action, "1.3") for action in STEPS}
    report = world.logged_round(database)
    attempts = database.attempts(1)
    assert [(row.attempt, row.purpose, row.outcome) for row in attempts] == [
        (session.attempt, session.purpose, session.outcome) for session in report.sessions
    ]
    assert attempts[0].reason and attempts[0].survivors == 0 and attempts[1].survivors == COHORT
    assert attempts[0].finished - attempts[0].started == 10.0
    aborted = [row for row in database.dropouts(1) if row.attempt == 1]
    left = {f"device-{node - FIRST_NODE}" for node in world.checked_in("1.1")}
    assert {(row.device_id, row.stage, row.reason) for row in aborted} == {
        (name, SHARES, "no answer in time") for name in left
    }
    finished = [session for session in report.sessions if session.outcome == "finished"]
    records = database.records()
    assert [(row.attempt, row.session) for row in records] == [(s.attempt, s.session_id.hex()) for s in finished]
    for row, session in zip(records, finished, strict=True):
        record = read_record(row.record, ROUND_KEY.public_key())
        assert (record.run, record.round, record.attempt, record.survivors) == (RUN, 1, row.attempt, session.survivors)
        assert record.session_id.hex() == row.session
    stored = database.load_state()
    assert stored is not None and FederationState.from_bytes(stored).to_bytes() == world.state.to_bytes()
    (line,) = database.rounds()
    assert (line.round, line.state, line.attempts, line.release) == (1, "finished", 2, world.state.release_id)
    assert (line.cohort, line.survivors, line.metrics["threshold"]) == (COHORT, COHORT, 0.9)
    assert [row.release_id for row in database.releases()] == [world.state.release_id]
    (certificate,) = database.certificates()
    assert CertificateDocument.from_bytes(certificate.document).release_id == world.state.release_id
    assert threshold_expiry(database) == {"threshold": report.statement.expires_at}
    assert (line.metrics["epsilon"], line.metrics["canary"]) == (None, None)


def test_who_watches_sees_every_phase_with_its_margin_and_who_left(database: Database, tmp_path: Path) -> None:
    world = World(tmp_path / "watched", StoredProgress(database))
    world.away = {(None, SHARES, "1.1")}
    world.logged_round(database)
    happenings = database.happenings
    phases = happenings.phases(1)
    assert all(row.finished is not None for row in phases)
    cut = [row for row in phases if (row.purpose, row.attempt) == ("update", 1)]
    assert [row.phase for row in cut] == list(PHASES[:5])  # nobody uploads, so it ends there
    assert [(row.reported, row.expected, row.needed) for row in cut[1:]] == [(4, 4, 2)] * 2 + [(4, 4, 3), (0, 4, 3)]
    whole = [row for row in phases if (row.purpose, row.attempt) == ("update", 2)]
    assert [row.phase for row in whole] == list(PHASES)
    assert all(row.reported == row.expected == 4 for row in whole[1:7])
    events = happenings.events()
    assert [event.kind for event in events if event.kind != "device.left"] == [
        "round.started", "attempt.aborted", "attempt.finished", "release.published",
        "attempt.finished", "attempt.finished",
    ]  # fmt: skip
    left = [event for event in events if event.kind == "device.left"]
    assert len(left) == 4 and all(event.text.endswith("no answer in time") for event in left)
    assert {event.detail["device"] for event in left} == {f"device-{n - FIRST_NODE}" for n in world.checked_in("1.1")}


def test_every_dropout_of_the_log_has_a_stage_and_a_reason(world: World, database: Database) -> None:
    world.away = {(100, None, None)}
    world.devices[101].spoil[CHECK_IN] = payload(b"\xff")
    world.devices[102].spoil[CHECK_IN] = payload(rounds_pb2.CheckInResponse(device_id="x" * 500).SerializeToString())
    world.devices[103].spoil[CHECK_IN] = payload(None)
    for node, action in ((104, ROSTER), (105, SHARES)):
        world.devices[node].spoil[action] = payload(b"\xff")
    world.logged_round(database, max_attempts=1)
    (line,) = database.rounds()
    assert line.metrics["refusals"]["MessageError"] >= 3
    rows = database.dropouts(1)
    assert {row.device_id for row in rows} >= {"node 100", "node 101", "node 102", "node 103"}
    assert {row.stage for row in rows} <= {"check-in", *STEPS}
    assert all(row.reason and len(row.device_id) <= 64 for row in rows)


def test_a_failed_round_is_logged_and_the_run_goes_on_from_the_round_before(world: World, database: Database) -> None:
    world.logged_round(database)
    before = world.state
    world.away = {(None, ROSTER, None)}
    world.logged_round(database)
    assert [(row.round, row.state) for row in database.rounds()] == [(1, "finished"), (2, "failed")]
    assert not [row for row in database.records() if row.round == 2] and len(database.releases()) == 1
    resumed = FederationState.from_bytes(database.load_state())
    assert resumed.to_bytes() == world.moved_on(before, 2).to_bytes()


def test_a_devices_own_words_reach_the_log_cut_and_on_one_line(world: World, database: Database) -> None:
    def shout(honest: bytes, vector: bytes | None) -> tuple[object, bytes | None]:
        raise ValueError("a\nb\0c" + "!" * 100_000)

    for device in world.devices.values():
        device.spoil[UNMASK] = shout
    world.logged_round(database, max_attempts=1)
    reasons = {row.reason for row in database.dropouts(1)}
    assert all(reason.startswith("ValueError: a b c!!!") and len(reason) <= 300 for reason in reasons) and reasons


def test_a_release_that_is_worse_on_held_out_queries_is_not_published_and_everything_goes_back(world: World) -> None:
    world.held_out = HeldOut(540, 600)
    world.round()
    before, live = world.state, world.published()
    assert before.best_accuracy == 0.9
    world.held_out = HeldOut(500, 600)
    report = world.round()
    assert report.outcome == "quality gate" and "83.3%" in report.notes[0] and "90.0%" in report.notes[0]
    assert report.sum_checks[0].kind == "accuracy"
    assert flatten(world.state.head).tolist() == flatten(before.head).tolist()
    assert world.state.optimizer.first.tolist() == before.optimizer.first.tolist()
    assert world.state.history == before.history and world.state.best_accuracy == 0.9
    assert world.published()[1] == live[1]


def test_a_slow_slide_stops_where_a_single_step_would(world: World) -> None:
    outcomes = []
    for right in (540, 536, 532, 528, 524, 520):
        world.held_out = HeldOut(right, 600)
        outcomes.append(world.round().outcome)
    assert outcomes == ["finished"] * 4 + ["quality gate"] * 2
