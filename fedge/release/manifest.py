"""What a release consists of: the signed list of hashes, labels, thresholds and training settings.

A manifest is its canonical JSON; the SHA-256 of those bytes is the release's id. Reading accepts exactly what writing makes:
no unknown keys, no missing ones, no other spelling. It never touches files.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Literal, TypedDict, cast

from fedge.architectures import Architecture, architecture_from_mapping
from fedge.errors import InputError, VerificationError
from fedge.release.canonical import from_canonical, hex_bytes, require_keys, to_canonical
from fedge.release.weights import structure_sha256

INFER, WEIGHTS = "infer.onnx", "weights.safetensors"
FILE_NAMES = (INFER, WEIGHTS)
MAX_MANIFEST_BYTES = 4 * 2**20
MAX_LABELS = 10_000
MAX_GRID = 1024
MAX_SELF_TEST = 256
Confidence = Literal["max_probability", "margin"]
_TRAINING_KEYS = ("learning_rate", "batch_size", "epochs", "clip_norm", "example_clip_norm", "weight_cap")
_WORKLOAD = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


class SelfTest(TypedDict):
    """Inputs with the outputs expected of ``infer.onnx``: texts or pixel vectors, and one row of logits [C] for each."""

    queries: list[str] | list[list[float]]
    logits: list[list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The signed description of one release. Raises InputError on construction when a field is unusable."""

    version: int
    """Counts up with every release that becomes active."""
    workload: str
    labels: tuple[str, ...]
    """The order of the logits."""
    oos_label: str | None
    """The one of ``labels`` that means "none of these", or None."""
    features: Mapping[str, Any]
    """The feature specification, as ``fedge.features.features_from_mapping`` reads it."""
    files: Mapping[str, str]
    """Hex SHA-256 of each of ``FILE_NAMES``."""
    architecture: Mapping[str, Any]
    """The name and sizes of what is trained, as ``fedge.architectures.architecture_from_mapping`` reads them."""
    encoder_sha256: str
    """Hex SHA-256 of the frozen base (``fedge.release.encoder_sha256``): equal for every release of one base."""
    weights_sha256: str
    structure_sha256: str
    threshold_grid: tuple[float, ...]
    """Confidence thresholds, ascending."""
    temperature: float
    confidence: Confidence
    price_book: str
    """Version of the price book that this release's figures were made with."""
    self_test: SelfTest
    metrics: Mapping[str, float]
    parent: str | None
    """Id of the release that this one was trained from."""
    training: Mapping[str, float | str]
    """At least learning_rate, batch_size, epochs, clip_norm, example_clip_norm and weight_cap, all positive."""

    def __post_init__(self) -> None:
        _check(self)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        mapping: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("architecture", "features", "files", "metrics", "training"):
            mapping[name] = dict(mapping[name])
        mapping["threshold_grid"] = [float(threshold) for threshold in self.threshold_grid]
        mapping["temperature"] = float(self.temperature)
        return to_canonical(mapping)

    @staticmethod
    def from_bytes(data: bytes) -> "Manifest":
        """Reads what ``to_bytes`` wrote. Raises VerificationError for anything else."""
        mapping = from_canonical(data, what="manifest", max_bytes=MAX_MANIFEST_BYTES)
        if isinstance(mapping.get("files"), dict) and "step.onnx" in mapping["files"]:
            raise VerificationError(
                "manifest: this release was made by an older fedge and brings its own training step: make and publish a "
                "release with this version"
            )
        require_keys(mapping, [field.name for field in fields(Manifest)], what="manifest")
        for name in ("labels", "threshold_grid"):
            if not isinstance(mapping[name], list):
                raise VerificationError(f"manifest: {name} is not a list")
            mapping[name] = tuple(mapping[name])
        try:
            manifest = Manifest(**mapping)
            if manifest.to_bytes() != data:
                raise VerificationError("manifest: a number is spelled in another way than fedge writes it")
        except InputError as error:
            raise VerificationError(str(error)) from None
        return manifest

    def trained(self) -> Architecture:
        """Return the architecture of the trainable weights."""
        return architecture_from_mapping(self.architecture)

    @property
    def architecture_text(self) -> str:
        """The architecture as canonical JSON, by which a session's task names it."""
        return to_canonical(dict(self.architecture)).decode()

    @property
    def release_id(self) -> str:
        """Hex SHA-256 of the canonical bytes: the content address of the release."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def _check(manifest: Manifest) -> None:
    _require(_whole(manifest.version) and 0 <= manifest.version < 2**31, "version", manifest.version)
    _require(_text(manifest.workload) and _WORKLOAD.fullmatch(manifest.workload), "workload", manifest.workload)
    _check_labels(manifest)
    _require(_object(manifest.features), "features", manifest.features)
    _require(_object(manifest.files) and set(manifest.files) == set(FILE_NAMES), "files", manifest.files)
    for name in FILE_NAMES:
        _check_hash(manifest.files[name], name)
    _check_hash(manifest.weights_sha256, "weights_sha256")
    _check_hash(manifest.structure_sha256, "structure_sha256")
    _check_hash(manifest.encoder_sha256, "encoder_sha256")
    _check_architecture(manifest)
    if manifest.parent is not None:
        _check_hash(manifest.parent, "parent")
    grid = manifest.threshold_grid
    _require(isinstance(grid, tuple), "threshold_grid", grid)
    _require(0 < len(grid) <= MAX_GRID and all(map(_number, grid)), "threshold_grid", grid)
    _require(all(low < high for low, high in pairwise(grid)), "threshold_grid", grid)
    _require(_number(manifest.temperature) and manifest.temperature > 0, "temperature", manifest.temperature)
    _require(manifest.confidence in ("max_probability", "margin"), "confidence", manifest.confidence)
    _require(_text(manifest.price_book) and len(manifest.price_book) <= 200, "price_book", manifest.price_book)
    _require(_object(manifest.metrics) and all(map(_number, manifest.metrics.values())), "metrics", manifest.metrics)
    _check_training(manifest.training)
    _check_self_test(manifest.self_test, len(manifest.labels))


def _check_labels(manifest: Manifest) -> None:
    labels = manifest.labels
    _require(isinstance(labels, tuple), "labels", labels)
    _require(0 < len(labels) <= MAX_LABELS, "labels", labels)
    _require(all(_text(label) and 0 < len(label) <= 200 for label in labels), "labels", labels)
    _require(len(set(labels)) == len(labels), "labels", labels)
    _require(manifest.oos_label is None or manifest.oos_label in labels, "oos_label", manifest.oos_label)


def _check_architecture(manifest: Manifest) -> None:
    _require(_object(manifest.architecture), "architecture", manifest.architecture)
    try:
        architecture = architecture_from_mapping(manifest.architecture)
    except InputError as error:
        raise InputError(f"manifest: {error}") from None
    if architecture.classes != len(manifest.labels):
        raise InputError(f"manifest: a head of {architecture.classes} classes does not fit {len(manifest.labels)} labels")
    _require(
        manifest.structure_sha256 == structure_sha256(architecture.zeros()), "structure_sha256", manifest.structure_sha256
    )


def _check_training(training: Mapping[str, float | str]) -> None:
    _require(_object(training), "training", training)
    for key, value in training.items():
        _require(_number(value) or (_text(value) and len(cast(str, value)) <= 200), f"training.{key}", value)
    for key in _TRAINING_KEYS:
        setting = training.get(key)
        _require(_number(setting) and cast(float, setting) > 0, f"training.{key}", setting)
    for key in ("batch_size", "epochs"):
        _require(_whole(training[key]), f"training.{key}", training[key])


def _check_self_test(self_test: SelfTest, labels: int) -> None:
    _require(_object(self_test), "self_test", self_test)
    _require(set(self_test) == {"queries", "logits"}, "self_test", self_test)
    queries, logits = self_test["queries"], self_test["logits"]
    _require(isinstance(queries, list), "self_test.queries", queries)
    _require(isinstance(logits, list), "self_test.logits", logits)
    _require(len(queries) <= MAX_SELF_TEST, "self_test.queries", queries)
    _require(all(map(_text, queries)) or all(map(_numbers, queries)), "self_test.queries", queries)
    _require(len(logits) == len(queries), "self_test.logits", logits)
    _require(all(_numbers(row) and len(row) == labels for row in logits), "self_test.logits", logits)


def _check_hash(value: object, name: str) -> None:
    try:
        hex_bytes(value, 32, what=name)
    except VerificationError as error:
        raise InputError(f"manifest: {error}") from None


def _require(holds: object, name: str, value: object) -> None:
    if not holds:
        raise InputError(f"manifest: {name} cannot be {str(value)[:120]!r}")


def _whole(value: object) -> bool:
    return type(value) is int


def _number(value: object) -> bool:
    return type(value) in (int, float) and abs(cast(float, value)) < 1e300 and math.isfinite(cast(float, value))


def _numbers(value: object) -> bool:
    return isinstance(value, list) and all(map(_number, value))


def _text(value: object) -> bool:
    return isinstance(value, str)


def _object(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_text, value))
