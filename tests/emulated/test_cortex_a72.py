"""The device's code on an emulated Raspberry Pi 4: the same features and answers as here, and a place in a cohort.

Skipped with a reason where the board cannot be prepared (see board.py). An emulator says nothing about speed.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from board import Board, NotPrepared, prepare
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from device_program import SEED, BoardDevice, read, update_config, write
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from aggregator.rounds.secagg_session import SessionDriver, SessionPlan, Tally
from aggregator.rounds.transport import DeviceLink
from aggregator.workbench import training_config
from aggregator.workbench.device_model import build_device_model, quantized
from aggregator.workbench.workloads import load_workload
from edge_client.flower.client_app import PAYLOAD, VECTOR
from fedge import secagg
from fedge.calendar import DAILY
from fedge.identity import issue_certificate, new_certificate_authority, verify_certificate
from fedge.layouts import UpdateLayout
from fedge.randomness import derive, root_seed
from fedge.release import (
    Manifest,
    Release,
    encoder_sha256,
    file_hashes,
    sign_release,
    structure_sha256,
    weights_sha256,
    write_release,
    write_safetensors,
)
from fedge.secagg import Task
from sim.grid import InProcessGrid, Node, node_context

NOW = 1_767_225_600.0
FEDERATION, N_MIN, DEVICES, QUERIES = "emulated", 6, 8, 24
BOARD = "device-1"
START_S = 300.0
KEYS = {
    name: Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    for number, name in enumerate(("release", "authority", "round"), 1)
}
AUTHORITY = new_certificate_authority("test", not_before=NOW - 60, not_after=NOW + 86_400, private_key=KEYS["authority"])


class Emulated:
    """The program on the board, spoken to through pipes."""

    def __init__(self, board: Board, folder: Path) -> None:
        program = str(Path(__file__).with_name("device_program.py"))
        self.errors = (folder / "stderr").open("w+b")
        self.process = subprocess.Popen(
            board.python(program, str(folder)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=dict(board.environment()),
        )
        self._answer()

    def ask(self, do: str) -> tuple[dict[str, Any], tuple[bytes, ...]]:
        assert self.process.stdin is not None
        write(self.process.stdin, {"do": do})
        return self._answer()

    def app(self, *, message: Message, context: Context) -> Message:
        """Stands where a `ClientApp` does: the message goes to the board, its answer comes back."""
        assert self.process.stdin is not None
        payload = message.content.config_records[PAYLOAD][PAYLOAD]
        write(self.process.stdin, {"do": "deliver", "kind": message.metadata.message_type}, payload)
        head, blobs = self._answer()
        if "error" in head:
            raise RuntimeError(head["error"])
        content = RecordDict({PAYLOAD: ConfigRecord({PAYLOAD: blobs[0]})})
        if len(blobs) == 2:
            content[VECTOR] = ArrayRecord({VECTOR: Array("uint8", (len(blobs[1]),), "fedge.raw", blobs[1])})
        return Message(content, reply_to=message)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self.errors.close()

    def _answer(self) -> tuple[dict[str, Any], tuple[bytes, ...]]:
        assert self.process.stdout is not None
        answer = read(self.process.stdout)
        if answer is None:
            self.errors.seek(0)
            said = self.errors.read().decode(errors="replace")[-2000:]
            pytest.fail(f"the program on the board ended with {self.process.wait(30)}: {said}")
        return answer


@dataclass
class Cohort:
    """One emulated device, its x86 twin, and seven x86 peers."""

    board: Emulated
    twin: BoardDevice
    peers: dict[str, BoardDevice]
    release: Release


@pytest.fixture(scope="module")
def board() -> Board:
    try:
        return prepare()
    except NotPrepared as reason:
        pytest.skip(str(reason))


def make_release(workload: Any) -> Release:
    """A real release of the workload: encoder quantized as QDQ int8, a head that was trained."""
    model = build_device_model(workload, root_seed(3), warm_start=True)
    files = quantized(model, model.head)
    contents = {"infer.onnx": files.infer, "weights.safetensors": write_safetensors(model.head)}
    manifest = Manifest(
        version=1,
        workload=workload.name,
        labels=model.labels,
        oos_label=None,
        features=model.features.to_mapping(),
        files=file_hashes(contents),
        architecture=model.architecture.to_mapping(),
        encoder_sha256=encoder_sha256(files.infer),
        weights_sha256=weights_sha256(model.head),
        structure_sha256=structure_sha256(model.head),
        threshold_grid=(0.5, 0.9),
        temperature=1.0,
        confidence="max_probability",
        price_book="test",
        self_test={"queries": list(model.self_test_queries), "logits": files.self_test_logits},
        metrics={},
        parent=None,
        training=model.training,
    )
    return sign_release(manifest, contents, KEYS["release"])


@pytest.fixture(scope="module")
def cohort(board: Board, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cohort]:
    folder = tmp_path_factory.mktemp("cohort")
    workload = load_workload("home", seed=root_seed(3), data_file=None, devices=DEVICES)
    with pytest.MonkeyPatch.context() as patch:
        # Fewer epochs train a worse encoder of the same shape, quantized in the same way.
        text = training_config.TEXT
        patch.setattr(training_config, "TEXT", replace(text, encoder=replace(text.encoder, epochs=2)))
        release = make_release(workload)
    write_release(folder / "published", release)
    pool = [
        (query, workload.labels[label])
        for query, label in zip(workload.devices.queries, workload.devices.labels, strict=True)
    ]
    pool = [(query, label) for query, label in pool if label != workload.oos_label]

    def home(name: str, number: int, place: str = "") -> Path:
        made = folder / f"{name}{place}"
        made.mkdir()
        key = Ed25519PrivateKey.from_private_bytes(bytes([100 + number]) * 32)
        certificate = issue_certificate(
            KEYS["authority"], AUTHORITY.name, name, key.public_key(), not_before=NOW - 60, not_after=NOW + 86_400
        )
        told = {
            "device_id": name,
            "now": NOW,
            "federation": FEDERATION,
            "n_min": N_MIN,
            "published": str(folder / "published"),
            "queries": [query for query, _ in pool[:QUERIES]],
            "labelled": pool[QUERIES * number : QUERIES * (number + 1)],
            "private": key.private_bytes_raw().hex(),
            "certificate": certificate.hex(),
            **{each: private.public_key().public_bytes_raw().hex() for each, private in KEYS.items()},
        }
        (made / "device.json").write_text(json.dumps(told))
        return made

    names = [f"device-{number}" for number in range(2, DEVICES + 1)]
    peers = {name: BoardDevice(home(name, number)) for number, name in enumerate(names, 2)}
    twin = BoardDevice(home(BOARD, 1, "-on-x86"))
    emulated = Emulated(board, home(BOARD, 1))
    try:
        yield Cohort(emulated, twin, peers, release)
    finally:
        emulated.close()


def test_it_is_a_64_bit_arm_machine_with_a_devices_own_wheels(cohort):
    head, _ = cohort.board.ask("machine")
    assert (head["machine"], head["onnxruntime"]) == ("aarch64", cohort.twin.machine().head["onnxruntime"])
    assert cohort.twin.machine().head["machine"] == "x86_64"


def test_features_are_equal_to_the_last_bit(cohort):
    head, blobs = cohort.board.ask("features")
    here = cohort.twin.features()
    assert (head, blobs) == (here.head, here.blobs)


def test_the_quantized_models_answers_are_equal_to_the_last_bit(cohort):
    """QDQ int8 is integer arithmetic: a certified threshold means the same on every machine."""
    _, (logits, embedding) = cohort.board.ask("logits")
    logits_here, embedding_here = cohort.twin.logits().blobs
    assert embedding == embedding_here
    there, here = (np.frombuffer(each, np.float32).reshape(QUERIES, -1) for each in (logits, logits_here))
    assert there.tobytes() == here.tobytes(), np.abs(there - here).max()


def test_training_gives_the_same_update(cohort):
    """Float32 sums come in another order on another machine, no more."""
    head, (reals, integers) = cohort.board.ask("update")
    here = cohort.twin.update()
    assert head["steps"] == here.head["steps"] > 0
    there, mine = (np.frombuffer(each, np.float64) for each in (reals, here.blobs[0]))
    assert np.abs(mine).max() > 1e-3
    assert there == pytest.approx(mine, abs=1e-6)
    layout = UpdateLayout()
    sums, sums_here = (layout.decode(np.frombuffer(each, np.int64)) for each in (integers, here.blobs[1]))
    assert (sums.weight, sums.examples) == (sums_here.weight, sums_here.examples)


def test_a_secure_aggregation_session_of_the_board_and_seven_x86_peers_gives_their_exact_sum(cohort):
    config = update_config(cohort.release, n_min=N_MIN, now=NOW)
    vectors = []
    board_blobs = cohort.board.ask("update")[1]
    for name, blobs in {BOARD: board_blobs, **{name: peer.update().blobs for name, peer in cohort.peers.items()}}.items():
        reals, integers = np.frombuffer(blobs[0], np.float64), np.frombuffer(blobs[1], np.int64)
        vectors.append(secagg.encode(reals, integers, config, derive(derive(SEED, name), "rounding", 1, 1)))
    expected = secagg.decode(np.sum(vectors, axis=0, dtype=np.uint32), len(vectors), config)

    nodes = {1: Node(cohort.board.app, node_context(1))}
    nodes |= {number: peer.node for number, peer in enumerate(cohort.peers.values(), 2)}
    driver = SessionDriver(
        DeviceLink(InProcessGrid(nodes, absent=lambda *_: False), clock=lambda: NOW, sleep=lambda _: None),
        secagg,
        run=FEDERATION,
        round_key=KEYS["round"],
        verify_certificate=partial(verify_certificate, ca_public_key=KEYS["authority"].public_key(), now=NOW),
        clock=lambda: NOW,
        entropy=np.random.default_rng(1).bytes,
    )
    manifest, tally = cohort.release.manifest, Tally()
    plan = SessionPlan(
        round_number=1,
        attempt=1,
        task=Task(
            purpose="update",
            period=DAILY.period_at(NOW),
            release_id=cohort.release.release_id,
            weights_sha256=manifest.weights_sha256,
            structure_sha256=manifest.structure_sha256,
            architecture=manifest.architecture_text,
            encoder_sha256=manifest.encoder_sha256,
        ),
        config=config,
        timeout_s=300.0,
    )
    result = driver.run(plan, sorted(nodes), tally)
    assert (result.cohort, result.survivors, tally.dropouts) == (DEVICES, DEVICES, [])
    assert result.decoded.reals.tolist() == expected.reals.tolist()
    assert result.decoded.integers.tolist() == expected.integers.tolist()
    assert UpdateLayout().decode(result.decoded.integers).examples == QUERIES * DEVICES
