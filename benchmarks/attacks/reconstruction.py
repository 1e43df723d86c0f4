"""Reconstruct training examples from one secure sum of updates, as an aggregator that ships a hostile base or head can.

The devices hold real digits and make their updates with the device's own code: release checks, normalized embeddings,
clipping per example, shares, encoding. A secure sum is the sum of the encoded vectors to the last bit, so the masks are left
out. The aggregator is free in all that a release may hold: any encoder within the allowed operators, any head, and any
settings within the policy of devices; the wait before a new base trains is taken as over.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from aggregator.workbench.device_model import build_device_model
from aggregator.workbench.model_files import EMBEDDING, run_model, with_head
from aggregator.workbench.workloads import Workload, load_workload, partition
from benchmarks.attacks.result import AttackResult
from edge_client.refusal import SessionRefused
from edge_client.releases.inference import LoadedRelease, ReleaseLoader
from edge_client.rounds.training_checks import check_release, check_update
from edge_client.rounds.updates import make_update
from edge_client.store import DeviceStore, LabelledQuery, open_memory
from edge_client.training_policy import TrainingPolicy
from fedge.architectures import HEAD_BIAS, HEAD_WEIGHT, DenseHead
from fedge.features import content_hash
from fedge.layouts import UpdateLayout
from fedge.randomness import derive, root_seed
from fedge.release import (
    Manifest,
    SelfTest,
    Weights,
    encoder_sha256,
    file_hashes,
    flatten,
    sign_release,
    structure_sha256,
    unflatten,
    weights_sha256,
    write_safetensors,
)
from fedge.secagg import SessionConfig, decode, encode
from fedge.secagg.rotation import padded_length, rotate_back, rotated_scale

DEVICES, EXAMPLES = 30, 36
LEVELS = 16
"""A pixel is one of 17 grey values: k / 16."""
PIXELS = 64
HELD_BELOW = 0.1
"""The attack counts as held while one sum gives less than this share of the examples exactly."""
NEAR = 0.99
"""Cosine from which a reconstruction counts as near to an example."""
SINK = "sink"
"""A label that nobody has: the hostile head gives it all the probability, so a label's column is a sum of its examples."""
TRAINING = {
    "learning_rate": 0.5,
    "batch_size": 256,
    "epochs": 1,
    "clip_norm": 2.0,
    "example_clip_norm": 16.0,
    "weight_cap": 1,
}
"""One full batch, no further weights: what leaves is linear in the examples."""


Exact = tuple[int, bytes]
"""An example as its label and its pixels' levels, int64 [64] as bytes."""
Image = tuple[int, NDArray[np.floating[Any]]]
"""A label and grey values [64]."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Devices with what they remember: ``examples`` float32 [n, 64] and ``labels`` int64 [n] over all of them."""

    workload: Workload
    stores: tuple[DeviceStore, ...]
    examples: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Blocks:
    """An encoder that writes an example into one of ``blocks`` blocks of the embedding, or into none.

    A hash of the pixels draws the block from ``bins`` bins; examples in the other bins write one common coordinate. A block
    holds the pixels, ``packed`` of them to a number, and a 1 that tells the weight.
    """

    blocks: int
    bins: int
    packed: int

    @property
    def block_width(self) -> int:
        """Coordinates of one block."""
        return math.ceil(PIXELS / self.packed) + 1

    @property
    def dimensions(self) -> int:
        """Coordinates of the embedding."""
        return 1 + self.blocks * self.block_width

    def infer(self, head: Weights, *, seed: int) -> bytes:
        """Return the hostile ``infer.onnx``."""
        width = self.block_width
        pack = np.zeros((PIXELS, width), np.float32)
        for pixel in range(PIXELS):
            pack[pixel, pixel // self.packed] = LEVELS * (LEVELS + 1) ** (pixel % self.packed)
        one = np.zeros(width, np.float32)
        one[-1] = self.unit
        draw = np.random.default_rng(seed).integers(1, 1000, (PIXELS, 1)).astype(np.float32) * LEVELS
        constants: dict[str, NDArray[Any]] = {
            "draw": draw,
            "bins": np.array(self.bins, np.float32),
            "range": np.arange(self.blocks, dtype=np.float32)[None, :],
            "pack": pack,
            "one": one,
            "last": np.array([2], np.int64),
            "middle": np.array([1], np.int64),
            "flat": np.array([0, self.blocks * width], np.int64),
            "free": np.array(1, np.float32),
            HEAD_WEIGHT: head[HEAD_WEIGHT],
            HEAD_BIAS: head[HEAD_BIAS],
        }
        nodes = [
            helper.make_node("MatMul", ["pixels", "draw"], ["drawn"]),
            helper.make_node("Round", ["drawn"], ["whole"]),
            helper.make_node("Mod", ["whole", "bins"], ["bin"], fmod=1),
            helper.make_node("Equal", ["bin", "range"], ["hit"]),
            helper.make_node("Cast", ["hit"], ["gate"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["pixels", "pack"], ["packed"]),
            helper.make_node("Round", ["packed"], ["integers"]),
            helper.make_node("Add", ["integers", "one"], ["row"]),
            helper.make_node("Unsqueeze", ["gate", "last"], ["gates"]),
            helper.make_node("Unsqueeze", ["row", "middle"], ["rows"]),
            helper.make_node("Mul", ["gates", "rows"], ["blocks"]),
            helper.make_node("Reshape", ["blocks", "flat"], ["written"]),
            helper.make_node("ReduceSum", ["gate", "middle"], ["any"], keepdims=1),
            helper.make_node("Sub", ["free", "any"], ["common"]),
            helper.make_node("Concat", ["common", "written"], [EMBEDDING], axis=1),
            helper.make_node("Gemm", [EMBEDDING, HEAD_WEIGHT, HEAD_BIAS], ["logits"]),
        ]
        outputs = [("logits", head[HEAD_WEIGHT].shape[1]), (EMBEDDING, self.dimensions)]
        graph = helper.make_graph(
            nodes,
            "hostile",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", PIXELS])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in outputs],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()

    @property
    def unit(self) -> float:
        """The weight's coordinate, as large as a packed number may be."""
        return float((LEVELS + 1) ** self.packed)

    def read(self, change: NDArray[np.float64]) -> tuple[set[Exact], list[Image]]:
        """Return what a summed change [D, C] of the weights shows: exact examples, and images of them."""
        exact: set[Exact] = set()
        images: list[Image] = []
        written = change[1:].reshape(self.blocks, self.block_width, -1)
        for block in written:
            for label, column in enumerate(block.T[:-1]):
                weight = column[-1] / self.unit
                if weight < 1e-6:  # empty
                    continue
                numbers = column[:-1] / weight
                whole = np.rint(numbers)
                places = [whole // (LEVELS + 1) ** place % (LEVELS + 1) for place in range(self.packed)]
                levels = np.stack(places, axis=1).ravel()[:PIXELS]
                exact.add((label, levels.astype(np.int64).tobytes()))
                images.append((label, numbers / LEVELS if self.packed == 1 else levels / LEVELS))
        return exact, images


def exfiltrating_release(*, seed: int) -> AttackResult:
    """Play a base that writes examples into places of their own, and tell how many come out of one sum exactly."""
    fleet = _fleet(seed)
    bins = len(fleet.examples) // 10  # as many blocks as give one example a label and block
    encoders = {
        "identity": Blocks(blocks=1, bins=1, packed=1),
        "hash": Blocks(blocks=3, bins=3, packed=1),
        "sparse": Blocks(blocks=3, bins=bins, packed=1),
        "packed": Blocks(blocks=11, bins=bins, packed=3),
    }
    shares, notes = {}, []
    for name, encoder in encoders.items():
        head = _sink_head(encoder.dimensions, len(fleet.workload.labels))
        loaded = _loaded(fleet.workload, encoder.infer(head, seed=seed), head)
        change, gave = _sum(fleet, loaded, seed=seed)
        exact, images = encoder.read(change[HEAD_WEIGHT])
        shares[name] = _exact_share(fleet, exact)
        notes.append(f"{name} {shares[name]:.1%} exactly, {_near_share(fleet, images):.1%} nearly ({gave} devices gave)")
    best = max(shares.values())
    public = _near_share(fleet, zip(fleet.workload.server.labels.tolist(), _pixels(fleet.workload), strict=True))
    note = f"{'; '.join(notes)}; {public:.1%} are near to the server's own examples; {len(fleet.examples)} examples"
    return AttackResult("exfiltrating_release", best < HELD_BELOW, "leaked", best, "share of examples", note)


def fishing_head(*, seed: int) -> AttackResult:
    """Play an honest base under a head that is sure of all but one class, and invert the sum by least squares."""
    fleet = _fleet(seed)
    workload = fleet.workload
    model = build_device_model(workload, derive(root_seed(seed), "fishing"), warm_start=True)
    architecture = model.architecture
    inputs = model.features.encode(workload.server.queries)
    seen = architecture.normalize(run_model(model.infer_int8, inputs, [EMBEDDING])[EMBEDDING])
    inverse, *_ = np.linalg.lstsq(seen, _pixels(workload), rcond=None)
    exact: set[Exact] = set()
    images: list[Image] = []
    gave = []
    for label in range(len(workload.labels)):
        head = {HEAD_WEIGHT: 50 * model.head[HEAD_WEIGHT], HEAD_BIAS: 50 * model.head[HEAD_BIAS]}
        head[HEAD_BIAS][label] = -1e4  # no example of this class is answered rightly: it alone gives a full gradient
        loaded = _loaded(workload, with_head(model.infer_int8, head), head, labels=workload.labels)
        change, devices = _sum(fleet, loaded, seed=seed)
        gave.append(devices)
        # The class's own column holds its own examples alone: no other example gives it any probability.
        column, weight = change[HEAD_WEIGHT][:, label], change[HEAD_BIAS][label]
        if weight > 1e-9:
            image = np.clip(column / weight @ inverse, 0, 1)
            images.append((label, image))
            exact.add((label, np.rint(image * LEVELS).astype(np.int64).tobytes()))
    share = _exact_share(fleet, exact)
    note = (
        f"one sum for each of {len(workload.labels)} classes, {min(gave)} to {max(gave)} of {DEVICES} devices gave; "
        f"{share:.1%} exactly, {_near_share(fleet, images):.1%} nearly: a column is the mean of its class"
    )
    return AttackResult("fishing_head", share < HELD_BELOW, "leaked", share, "share of examples", note)


def _fleet(seed: int) -> Fleet:
    """Deal digits to devices, as unevenly as a simulated fleet does, and let each remember its labeled share."""
    workload = load_workload("digits", seed=derive(root_seed(seed), "reconstruction"), data_file=None, devices=DEVICES)
    pools = partition(workload, DEVICES, alpha=0.3, seed=root_seed(seed))
    stores, rows = [], []
    for pool in pools:
        store, chosen = open_memory(), pool[:EXAMPLES]
        queries = [np.rint(workload.devices.queries[row] * LEVELS).astype(np.float32) / LEVELS for row in chosen]
        labels = [workload.labels[workload.devices.labels[row]] for row in chosen]
        store.memory.add(
            [
                LabelledQuery(content_hash(query), query, label, "correction", 0.0)
                for query, label in zip(queries, labels, strict=True)
            ]
        )
        stores.append(store)
        rows += [(query, workload.labels.index(label)) for query, label in zip(queries, labels, strict=True)]
    return Fleet(
        workload, tuple(stores), np.array([query for query, _ in rows]), np.array([label for _, label in rows], np.int64)
    )


def _pixels(workload: Workload) -> NDArray[np.float32]:
    """The pictures of the server's own part."""
    return np.asarray(workload.server.queries, dtype=np.float32)


def _sink_head(dimensions: int, labels: int) -> Weights:
    """A head that gives all the probability to one more label, the last."""
    bias = np.zeros(labels + 1, np.float32)
    bias[-1] = 100.0
    return {HEAD_WEIGHT: np.zeros((dimensions, labels + 1), np.float32), HEAD_BIAS: bias}


def _loaded(workload: Workload, infer: bytes, head: Weights, *, labels: Sequence[str] | None = None) -> LoadedRelease:
    """Sign the hostile release, and load it as a device does."""
    key = Ed25519PrivateKey.generate()
    files = {"infer.onnx": infer, "weights.safetensors": write_safetensors(head)}
    dimensions, classes = head[HEAD_WEIGHT].shape
    manifest = Manifest(
        version=1,
        workload=workload.name,
        labels=tuple(labels or (*workload.labels, SINK)),
        oos_label=None,
        features=workload.features.to_mapping(),
        files=file_hashes(files),
        architecture=DenseHead(dimensions, classes).to_mapping(),
        encoder_sha256=encoder_sha256(infer),
        weights_sha256=weights_sha256(head),
        structure_sha256=structure_sha256(head),
        threshold_grid=(0.5,),
        temperature=1.0,
        confidence="max_probability",
        price_book="benchmark",
        self_test=SelfTest(queries=[], logits=[]),
        metrics={},
        parent=None,
        training=TRAINING,
    )
    release = sign_release(manifest, files, key)
    by_hash = {manifest.files[name]: data for name, data in files.items()}
    return ReleaseLoader(key.public_key()).load(manifest.to_bytes(), release.signature, by_hash)


def _sum(fleet: Fleet, loaded: LoadedRelease, *, seed: int) -> tuple[Mapping[str, NDArray[np.float64]], int]:
    """Return the secure sum of the updates of all devices whose checks the release passes, and how many these are."""
    policy, manifest = TrainingPolicy(base_wait_s=0.0), loaded.release.manifest
    head = loaded.release.weights()
    length = len(flatten(head))
    rotation = derive(root_seed(seed), "rotation")
    config = SessionConfig(
        reals=padded_length(length),
        integers=UpdateLayout().integers,
        bits=32,
        cohort_max=32,
        scale=rotated_scale(TRAINING["clip_norm"], padded_length(length)),
        clip_norm=TRAINING["clip_norm"],
        weight_cap=int(TRAINING["weight_cap"]),
        n_min=8,
        deadline=3600.0,
    )
    total, gave = np.zeros(config.length, np.uint32), 0
    for number, store in enumerate(fleet.stores):
        try:
            check_release(policy, manifest, store, now=0.0)
            training = derive(root_seed(seed), "training", number)
            update = make_update(store, loaded, seed=training, max_share=policy.max_example_share)
            check_update(policy, update, store)
        except SessionRefused:
            continue
        total += encode(*update.coordinates(config, rotation), config, derive(root_seed(seed), "rounding", number))
        gave += 1
    summed = decode(total, gave, config).reals if gave else np.zeros(config.reals)
    reals = rotate_back(summed, rotation, length)
    shape = {name: array.astype(np.float32) for name, array in head.items()}
    parts = unflatten(np.arange(len(reals), dtype=np.float32), shape)
    return {name: reals[part.astype(np.int64)] for name, part in parts.items()}, gave


def _exact_share(fleet: Fleet, found: set[Exact]) -> float:
    """The share of all examples whose pixels and label are among ``found``."""
    levels = np.rint(fleet.examples * LEVELS).astype(np.int64)
    return float(np.mean([(int(label), row.tobytes()) in found for row, label in zip(levels, fleet.labels, strict=True)]))


def _near_share(fleet: Fleet, images: Iterable[Image]) -> float:
    """The share of all examples to which an image of their label has a cosine of at least NEAR."""
    near = np.zeros(len(fleet.examples), bool)
    unit = fleet.examples / np.linalg.norm(fleet.examples, axis=1, keepdims=True)
    for label, image in images:
        norm = float(np.linalg.norm(image))
        if norm > 0:
            near |= (fleet.labels == label) & (unit @ (image / norm) >= NEAR)
    return float(near.mean())
