"""Hot swaps under load: threads ask one device without pause while its release is replaced again and again.

    python -m benchmarks.hot_swaps [--swaps 1000] [--threads 4]

Every release is signed, fetched, verified, loaded beside the running one, self-tested, written to disk and swapped in, as on
a device. Each answer is checked against the weights of the very release that it names: one that mixes two, or that is
missing, counts as failed. Fails where a query did.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.results import Result, document
from edge_client.inference.escalation import EscalationFailed
from edge_client.inference.pipeline import Agent, Device
from edge_client.inference.query import Answer
from edge_client.power.accounting import EnergyMeter
from edge_client.releases.health_window import ReleaseWatch, WatchRules
from edge_client.releases.inference import ReleaseLoader
from edge_client.releases.manager import Latest, ReleaseManager, ReleasePieces
from edge_client.releases.storage import FolderShelf
from edge_client.store import open_file
from fedge.architectures import DenseHead
from fedge.costs import PriceBook, load_profiles
from fedge.features import PixelFeatures
from fedge.release import (
    Manifest,
    Release,
    encoder_sha256,
    file_hashes,
    sign_release,
    structure_sha256,
    weights_sha256,
    write_safetensors,
)
from fedge.routing import Policy

PIXELS, LABELS = 64, 10
_CLEAR = 1e-3
"""Queries whose two best logits are nearer than this are left out of the check: rounding may decide them."""


class Workshop:
    """Makes releases, each with a head of its own, and is where the device fetches them."""

    def __init__(self, seed: int = 1) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.heads: dict[str, NDArray[np.float32]] = {}
        self._random = np.random.default_rng(seed)
        self._newest: Release | None = None

    def make(self, version: int) -> None:
        """A new release, offered from now on."""
        head = self._random.normal(size=(PIXELS, LABELS)).astype(np.float32)
        weights = {"head.weight": head, "head.bias": np.zeros(LABELS, np.float32)}
        model = _model(head)
        files = {"infer.onnx": model, "weights.safetensors": write_safetensors(weights)}
        queries = self._random.random((4, PIXELS), dtype=np.float32)
        manifest = Manifest(
            version=version,
            workload="swaps",
            labels=tuple(f"label-{number}" for number in range(LABELS)),
            oos_label=None,
            features=PixelFeatures(PIXELS).to_mapping(),
            files=file_hashes(files),
            architecture=DenseHead(PIXELS, LABELS).to_mapping(),
            encoder_sha256=encoder_sha256(model),
            weights_sha256=weights_sha256(weights),
            structure_sha256=structure_sha256(weights),
            threshold_grid=(0.5, 0.9),
            temperature=1.0,
            confidence="max_probability",
            price_book="bench",
            self_test={"queries": queries.tolist(), "logits": (queries @ head).tolist()},
            metrics={},
            parent=None,
            training={
                "learning_rate": 0.1,
                "batch_size": 4,
                "epochs": 1,
                "clip_norm": 1.0,
                "example_clip_norm": 8.0,
                "weight_cap": 4,
            },
        )
        release = sign_release(manifest, files, self.key)
        self.heads[release.release_id] = head
        self._newest = release

    def latest(self) -> Latest:
        """The newest release."""
        return Latest(self._newest.release_id if self._newest else None, None)

    def fetch(self, release_id: str, have: Collection[str]) -> ReleasePieces:
        """Its pieces."""
        release = self._newest
        assert release is not None
        files = {release.manifest.files[name]: data for name, data in release.files.items()}
        missing = {digest: data for digest, data in files.items() if digest not in have}
        return ReleasePieces(release.manifest.to_bytes(), release.signature, missing)


class NoCentral:
    """No query may leave in this benchmark."""

    def answer(self, request: Any, timeout_s: float) -> Any:
        """Never."""
        raise EscalationFailed("no central here")

    def answer_many(self, requests: Any, timeout_s: float) -> Any:
        """Never."""
        return [EscalationFailed("no central here") for _ in requests]


@dataclass
class Load:
    """Threads that ask until told to stop, and what they saw."""

    agent: Agent
    heads: dict[str, NDArray[np.float32]]
    asked: int = 0
    failed: list[str] = field(default_factory=list)
    releases: set[str] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, seed: int) -> None:
        """One thread's work."""
        random = np.random.default_rng(seed)
        while not self.stop.is_set():
            query = random.random(PIXELS, dtype=np.float32)
            started = time.perf_counter()
            try:
                answer = self.agent.ask(query, mode="local-only")
                wrong = self._wrong(query, answer)
            except Exception as error:  # any at all is a failed query
                answer, wrong = None, f"{type(error).__name__}: {error}"
            took = time.perf_counter() - started
            with self.lock:
                self.asked += 1
                self.seconds.append(took)
                if answer is not None and answer.release is not None:
                    self.releases.add(answer.release)
                if wrong is not None:
                    self.failed.append(wrong)

    def _wrong(self, query: NDArray[np.float32], answer: Answer) -> str | None:
        if answer.release is None or answer.answered_by != "device":
            return f"answered by {answer.answered_by} under release {answer.release}"
        logits = query @ self.heads[answer.release]
        best, second = np.sort(logits)[-1], np.sort(logits)[-2]
        expected = f"label-{int(np.argmax(logits))}"
        return None if answer.answer == expected or best - second < _CLEAR else f"{answer.answer} instead of {expected}"


def swap_under_load(folder: Path, *, swaps: int, threads: int) -> tuple[Load, float]:
    """What the threads saw while the release was swapped ``swaps`` times, and how many seconds that took."""
    workshop = Workshop()
    workshop.make(1)
    store = open_file(folder / "device.sqlite")
    manager = ReleaseManager(
        workshop,
        shelf=FolderShelf(folder / "releases", workshop.key.public_key()),
        store=store,
        loader=ReleaseLoader(workshop.key.public_key()),
        watch=ReleaseWatch(store, WatchRules(health_s=0.0), time.time),
    )
    manager.sync()
    meter = EnergyMeter(PriceBook.load_default(), load_profiles()["raspberry-pi-4"])
    device = Device(
        device_id="bench", probe_key=b"k" * 32, policy=Policy.default(), meter=meter, clock=time.time,
        stopwatch=time.perf_counter,
    )  # fmt: skip
    load = Load(Agent(device, store=store, releases=manager, central=NoCentral()), workshop.heads)
    workers = [threading.Thread(target=load.ask, args=(seed,)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    started = time.perf_counter()
    try:
        for version in range(2, swaps + 2):
            workshop.make(version)
            if not manager.sync().changed:
                raise SystemExit(f"version {version} was not taken")
    finally:
        load.stop.set()
        for worker in workers:
            worker.join()
    took = time.perf_counter() - started
    manager.close()
    store.close()
    return load, took


def _model(head: NDArray[np.float32]) -> bytes:
    nodes = [
        helper.make_node("Identity", ["pixels"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "head.weight"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "swaps",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", PIXELS])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", LABELS]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", PIXELS]),
        ],
        [numpy_helper.from_array(head, "head.weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def main() -> None:
    """Run it and print the result as JSON; exit code 1 where a query failed."""
    parser = argparse.ArgumentParser(description="Hot swaps under load")
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=4)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fedge-swaps-") as folder:
        load, took = swap_under_load(Path(folder), swaps=wanted.swaps, threads=wanted.threads)
    result = Result(
        bench="releases.hot_swap",
        case={"swaps": wanted.swaps, "threads": wanted.threads},
        unit="failed queries",
        ours=len(load.failed),
        peers={},
        repetitions=1,
        detail={
            "queries": load.asked,
            "releases_that_answered": len(load.releases),
            "median_ask_ms": 1000 * statistics.median(load.seconds),
            "longest_ask_ms": 1000 * max(load.seconds),
            "seconds": took,
        },
    )
    print(json.dumps(document([result]), indent=2))
    if load.failed:
        raise SystemExit(f"{len(load.failed)} of {load.asked} queries failed, the first: {load.failed[0]}")


if __name__ == "__main__":
    main()
