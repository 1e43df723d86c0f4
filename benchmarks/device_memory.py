"""Resident memory of the serving part of a device: agent, onnxruntime session on a 1 MB int8 model, SQLite, gRPC client.

    python benchmarks/device_memory.py

A fresh process serves queries, locally and from a central service in this process, and reads its own memory from the kernel
(Linux only). Fails where more than 120 MB are resident. Training (which loads one more model and Flower) is not part of it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from concurrent import futures
from pathlib import Path

LIMIT_MB = 120
QUERIES = 2000
LABELS = [f"label-{i}" for i in range(64)]
BUCKETS, WIDTH = 16_384, 64


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this benchmark reads /proc/self/status: run it on Linux")


def release_folder(folder: Path) -> bytes:
    """Writes a signed release; returns the release key's raw public bytes."""
    import numpy as np
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from onnx import TensorProto, helper, numpy_helper

    from fedge.architectures import DenseHead
    from fedge.features import TextFeatures
    from fedge.release import (
        Manifest,
        encoder_sha256,
        file_hashes,
        sign_release,
        structure_sha256,
        weights_sha256,
        write_release,
        write_safetensors,
    )

    rng = np.random.default_rng(1)
    weights = {"head.weight": rng.normal(size=(WIDTH, len(LABELS))).astype(np.float32)}
    weights["head.bias"] = np.zeros(len(LABELS), np.float32)
    constants = {
        "table": rng.integers(-127, 128, (BUCKETS + 1, WIDTH)).astype(np.int8),
        "scale": np.array(0.01, np.float32),
        "zero": np.array(0, np.int8),
        "axis": np.array([1], np.int64),
        "last": np.array([2], np.int64),
        **weights,
    }

    def model(nodes: list, inputs: list, outputs: list, used: Collection[str]) -> bytes:
        tensors = [numpy_helper.from_array(constants[name], name) for name in used]
        values = [[helper.make_tensor_value_info(*value) for value in side] for side in (inputs, outputs)]
        graph = helper.make_graph(nodes, "bench", *values, tensors)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        proto.ir_version = 10
        return proto.SerializeToString()

    infer = model(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("DequantizeLinear", ["rows", "scale", "zero"], ["wide"]),
            helper.make_node("Unsqueeze", ["weights", "last"], ["shares"]),
            helper.make_node("Mul", ["wide", "shares"], ["weighted"]),
            helper.make_node("ReduceSum", ["weighted", "axis"], ["embedding"], keepdims=0),
            helper.make_node("MatMul", ["embedding", "head.weight"], ["logits"]),
        ],
        [("ids", TensorProto.INT64, ["n", "t"]), ("weights", TensorProto.FLOAT, ["n", "t"])],
        [("logits", TensorProto.FLOAT, ["n", len(LABELS)]), ("embedding", TensorProto.FLOAT, ["n", WIDTH])],
        constants,
    )
    files = {"infer.onnx": infer, "weights.safetensors": write_safetensors(weights)}
    manifest = Manifest(
        version=1,
        workload="bench",
        labels=tuple(LABELS),
        oos_label=None,
        features=TextFeatures(buckets=BUCKETS).to_mapping(),
        files=file_hashes(files),
        architecture=DenseHead(WIDTH, len(LABELS)).to_mapping(),
        encoder_sha256=encoder_sha256(infer),
        weights_sha256=weights_sha256(weights),
        structure_sha256=structure_sha256(weights),
        threshold_grid=(0.5,),
        temperature=1.0,
        confidence="max_probability",
        price_book="bench",
        self_test={"queries": [], "logits": []},
        metrics={},
        parent=None,
        training={
            "learning_rate": 0.1,
            "batch_size": 16,
            "epochs": 1,
            "clip_norm": 1.0,
            "example_clip_norm": 8.0,
            "weight_cap": 64,
        },
    )
    key = Ed25519PrivateKey.generate()
    write_release(folder, sign_release(manifest, files, key))
    return key.public_key().public_bytes_raw()


def serve(folder: Path, release_key: bytes, address: str) -> Mapping[str, float]:
    """The device. Imports happen here, so that this process holds what a device holds and nothing else."""
    measured = {"python": resident_mb()}
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from edge_client.clock import system_clock, system_stopwatch
    from edge_client.inference.escalation import GrpcCentralClient
    from edge_client.inference.pipeline import Agent, Device
    from edge_client.power.accounting import EnergyMeter
    from edge_client.releases.inference import ReleaseLoader
    from edge_client.releases.manager import Latest, ReleaseManager, ReleasePieces
    from edge_client.releases.storage import FolderShelf
    from edge_client.store import open_file
    from fedge.costs import PriceBook, load_profiles
    from fedge.release import read_release
    from fedge.routing import Policy

    measured["imports"] = resident_mb()
    key = Ed25519PublicKey.from_public_bytes(release_key)

    class FolderSource:
        def latest(self) -> Latest:
            return Latest(read_release(folder / "published", key).release_id, None)

        def fetch(self, release_id: str, have: Collection[str]) -> ReleasePieces:
            release = read_release(folder / "published", key)
            files = {release.manifest.files[name]: data for name, data in release.files.items()}
            return ReleasePieces(release.manifest.to_bytes(), release.signature, files)

    store = open_file(folder / "device.db")
    manager = ReleaseManager(
        FolderSource(), shelf=FolderShelf(folder / "shelf", key), store=store, loader=ReleaseLoader(key)
    )
    device = Device(
        device_id="bench",
        probe_key=os.urandom(32),
        policy=Policy.default(),
        meter=EnergyMeter(PriceBook.load_default(), load_profiles()["raspberry-pi-4"]),
        clock=system_clock,
        stopwatch=system_stopwatch,
    )
    agent = Agent(device, store=store, releases=manager, central=GrpcCentralClient(address))
    agent.sync()
    measured["loaded"] = resident_mb()
    started = time.perf_counter()
    for number in range(QUERIES):
        answer = agent.ask(f"please turn the lamp number {number} in the kitchen on", mode="local-only")
        assert answer.answered_by == "device"
    measured["local_query_us"] = 1e6 * (time.perf_counter() - started) / QUERIES
    for number in range(QUERIES // 10):
        assert agent.ask(f"what about lamp {number}", mode="central").answered_by == "central"
    measured["serving"] = resident_mb()
    return measured


def main() -> None:
    if len(sys.argv) == 4:
        print(json.dumps(serve(Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), sys.argv[3])))
        return
    import grpc

    from protos.fedge.central.v1 import central_pb2, central_pb2_grpc

    class Central(central_pb2_grpc.CentralServicer):
        def Answer(self, request: central_pb2.AnswerRequest, context: grpc.ServicerContext) -> central_pb2.AnswerResponse:  # noqa: N802
            return central_pb2.AnswerResponse(label=LABELS[0], answered_by="central", price_usd=0.001)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = release_folder(folder / "published")
        server = grpc.server(futures.ThreadPoolExecutor(2))
        central_pb2_grpc.add_CentralServicer_to_server(Central(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        model_mb = (folder / "published" / "infer.onnx").stat().st_size / 2**20
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        done = subprocess.run(
            [sys.executable, __file__, str(folder), key.hex(), f"127.0.0.1:{port}"],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        server.stop(None)
    if done.returncode:
        raise SystemExit(done.stderr)
    measured = json.loads(done.stdout)
    print(
        json.dumps({"unit": "MB resident", "model_mb": round(model_mb, 2), **{k: round(v, 1) for k, v in measured.items()}})
    )
    if measured["serving"] > LIMIT_MB:
        raise SystemExit(f"{measured['serving']:.0f} MB are resident, at most {LIMIT_MB} are allowed")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
