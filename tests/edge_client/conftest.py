"""A tiny real release (four pixels, three features, two labels, as ONNX graphs written by hand) and a device around it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper, numpy_helper

from edge_client.inference.escalation import EscalationFailed
from edge_client.inference.pipeline import Agent, Device
from edge_client.power.accounting import EnergyMeter
from edge_client.releases.inference import ReleaseLoader
from edge_client.releases.manager import Latest, ReleaseManager, ReleasePieces
from edge_client.releases.storage import SharedShelf
from edge_client.store import DeviceStore, open_memory
from fedge.costs import PriceBook, load_profiles
from fedge.features import PixelFeatures
from fedge.release import (
    CertificateDocument,
    Manifest,
    Release,
    Weights,
    encoder_sha256,
    file_hashes,
    sign_release,
    structure_sha256,
    weights_sha256,
    write_safetensors,
)
from fedge.routing import GridTest, Policy, RunningBound, clopper_pearson_upper, statement
from protos.fedge.central.v1.central_pb2 import AnswerRequest, AnswerResponse

PIXELS, WIDTH, LABELS = 4, 3, ("left", "right")
BATCH = 4
ENCODER = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=np.float32)
GRID = (0.5, 0.6, 0.7, 0.8, 0.9)


def weights_of(scale: float) -> Weights:
    """A head that says left where the first two pixels are brighter, the surer the larger ``scale`` is."""
    return {
        "head.weight": np.array([[scale, -scale], [-scale, scale], [0, 0]], dtype=np.float32),
        "head.bias": np.zeros(2, dtype=np.float32),
    }


def infer_model(weights: Weights) -> bytes:
    nodes = [
        helper.make_node("MatMul", ["pixels", "encoder"], ["projected"]),
        helper.make_node("Relu", ["projected"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "head.weight", "head.bias"], ["logits"]),
    ]
    return _model(
        nodes,
        inputs=[("pixels", TensorProto.FLOAT, ["n", PIXELS])],
        outputs=[("logits", TensorProto.FLOAT, ["n", len(LABELS)]), ("embedding", TensorProto.FLOAT, ["n", WIDTH])],
        constants={"encoder": ENCODER, **weights},
    )


def _model(nodes: list, *, inputs: list, outputs: list, constants: dict[str, np.ndarray]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model.SerializeToString()


def logits_of(queries: np.ndarray, weights: Weights) -> np.ndarray:
    """What the model must say, in numpy."""
    return np.maximum(queries @ ENCODER, 0) @ weights["head.weight"] + weights["head.bias"]


MakeRelease = Callable[..., Release]


@pytest.fixture(scope="session")
def release_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)


@pytest.fixture(scope="session")
def make_release(release_key: Ed25519PrivateKey) -> MakeRelease:
    def make(*, scale: float = 2.0, version: int = 1, parent: str | None = None, shift: float = 0.0) -> Release:
        weights = weights_of(scale)
        files = {
            "infer.onnx": infer_model(weights),
            "weights.safetensors": write_safetensors(weights),
        }
        queries = np.array([[1, 0, 0, 0], [0, 0, 1, 1]], dtype=np.float32)
        manifest = Manifest(
            version=version,
            workload="tiny",
            labels=LABELS,
            oos_label=None,
            features=PixelFeatures(PIXELS).to_mapping(),
            files=file_hashes(files),
            architecture={"name": "dense-head-v1", "dimensions": WIDTH, "classes": len(LABELS)},
            encoder_sha256=encoder_sha256(files["infer.onnx"]),
            weights_sha256=weights_sha256(weights),
            structure_sha256=structure_sha256(weights),
            threshold_grid=GRID,
            temperature=1.0,
            confidence="max_probability",
            price_book="test",
            self_test={"queries": queries.tolist(), "logits": (logits_of(queries, weights) + shift).tolist()},
            metrics={},
            parent=parent,
            training={
                "learning_rate": 0.5,
                "batch_size": BATCH,
                "epochs": 2,
                "clip_norm": 10.0,
                "example_clip_norm": 10.0,
                "weight_cap": 32,
            },
        )
        return sign_release(manifest, files, release_key)

    return make


@pytest.fixture(scope="session")
def queries() -> np.ndarray:
    """64 queries in [0, 1]."""
    return np.random.default_rng(3).random((64, PIXELS), dtype=np.float32)


@pytest.fixture(scope="session")
def release_math() -> Callable[[np.ndarray, Weights], np.ndarray]:
    """The model in numpy: queries [n, 4] and head to logits [n, 2]."""
    return logits_of


class LocalCentral:
    """Central in this process: a rule, a price, and a switch to take it away."""

    def __init__(self, *, price_usd: float = 0.001) -> None:
        self.price_usd = price_usd
        self.failure: EscalationFailed | None = None
        self.requests: list[AnswerRequest] = []

    def label(self, request: AnswerRequest) -> str:
        """Left where the first two pixels are brighter by a margin: the device's model has none, so they can disagree."""
        pixels = np.frombuffer(request.query.pixels, dtype="<f4")
        return "left" if pixels[:2].sum() > pixels[2:].sum() + 0.2 else "right"

    def answer(self, request: AnswerRequest, timeout_s: float) -> AnswerResponse:
        if self.failure is not None:
            raise self.failure
        self.requests.append(request)
        label = self.label(request)
        return AnswerResponse(
            label=label,
            distribution=[float(label == name) for name in LABELS],
            answered_by="central",
            price_usd=self.price_usd,
            price_book="test",
            model="rule",
        )

    def answer_many(self, requests: Sequence[AnswerRequest], timeout_s: float) -> list[AnswerResponse | EscalationFailed]:
        if self.failure is not None:
            return [self.failure] * len(requests)
        return [self.answer(request, timeout_s) for request in requests]


class LocalSource:
    """Releases in this process."""

    def __init__(self) -> None:
        self.releases: dict[str, Release] = {}
        self.desired = Latest(None, None)
        self.fetched: list[tuple[str, frozenset[str]]] = []

    def publish(self, release: Release, certificate: bytes | None = None) -> None:
        self.releases[release.release_id] = release
        self.desired = Latest(release.release_id, certificate)

    def latest(self) -> Latest:
        return self.desired

    def fetch(self, release_id: str, have: Collection[str]) -> ReleasePieces:
        self.fetched.append((release_id, frozenset(have)))
        release = self.releases[release_id]
        files = {release.manifest.files[name]: data for name, data in release.files.items()}
        missing = {digest: data for digest, data in files.items() if digest not in have}
        return ReleasePieces(release.manifest.to_bytes(), release.signature, missing)


class Clock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_767_225_600.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """A device with everything around it."""

    agent: Agent
    store: DeviceStore
    manager: ReleaseManager
    source: LocalSource
    central: LocalCentral
    clock: Clock


@pytest.fixture(scope="session")
def make_bench(release_key: Ed25519PrivateKey) -> Callable[..., Bench]:
    def make(*, policy: Policy | None = None, source: LocalSource | None = None, **device: Any) -> Bench:
        store, source, central, clock = open_memory(), source or LocalSource(), LocalCentral(), Clock()
        loader = ReleaseLoader(release_key.public_key())
        manager = ReleaseManager(source, shelf=SharedShelf(), store=store, loader=loader)
        meter = EnergyMeter(PriceBook.load_default(), load_profiles()["raspberry-pi-4"])
        who = Device(
            device_id="device-1",
            probe_key=b"k" * 32,
            policy=policy or Policy.default(),
            meter=meter,
            clock=clock,
            **device,
        )
        return Bench(Agent(who, store=store, releases=manager, central=central), store, manager, source, central, clock)

    return make


@pytest.fixture(scope="session")
def certify(release_key: Ed25519PrivateKey) -> Callable[..., bytes]:
    """A signed certificate document for a release, at threshold 0.7 of the grid unless told otherwise."""

    def make(
        release: Release,
        *,
        index: int | None = 2,
        round_number: int = 1,
        issued_at: int = 1_767_225_600,
        life_s: int = 86_400,
        rate: float = 0.1,
        key: Ed25519PrivateKey | None = None,
        speaks_of: str | None = None,
    ) -> bytes:
        grid = GridTest(None, None, 0, 0, None, 1)
        if index is not None:
            grid = GridTest(index, GRID[index], 200, 2, clopper_pearson_upper(2, 200, 0.05), 1)
        content = statement(
            release_id=speaks_of or release.release_id,
            round=round_number,
            grid=grid,
            running=RunningBound(),
            max_risk=0.05,
            tolerance=0.05,
            confidence=0.95,
            probes_are_new=True,
            probe_rate=rate,
            issued_at=issued_at,
            expires_at=issued_at + life_s,
        )
        return CertificateDocument.sign(key or release_key, release.release_id, content.to_bytes()).to_bytes()

    return make
