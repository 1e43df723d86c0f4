"""The prepared models of one workload in a folder: ONNX, safetensors, JSON and numpy arrays, never pickle.

What a server needs at run time, so that neither rounds nor central trains anything when it starts. The folder is written
beside its place and then renamed: it is there as a whole or not at all.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregator.workbench.device_model import DeviceModel
from aggregator.workbench.strong import StrongModel, TrainedModel
from aggregator.workbench.workloads.facts import WorkloadFacts
from fedge.architectures import DenseHead
from fedge.errors import InputError
from fedge.features import features_from_mapping
from fedge.release import read_safetensors, write_safetensors

FORMAT = 2
_FACTS, _DEVICE, _STRONG = "workload.json", "device", "strong"
_ONNX = ("infer", "infer_int8")


def save_models(folder: Path, facts: WorkloadFacts, strong: TrainedModel, model: DeviceModel) -> None:
    """Write all of it as ``folder``, replacing what stood there. Raises InputError for a model that cannot be stored."""
    staging = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(mode=0o700, parents=True)
    _write_json(staging / _FACTS, {"format": FORMAT, **facts.to_mapping()})
    _save_device_model(staging / _DEVICE, model)
    _save_strong_model(staging / _STRONG, strong)
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)


def load_facts(folder: Path) -> WorkloadFacts:
    """Names and sizes. Raises InputError where nothing was prepared."""
    if not (folder / _FACTS).is_file():
        raise InputError(f"no models are prepared in {folder}: run `fedge server init` first")
    mapping = _read_json(folder / _FACTS)
    if mapping.pop("format", None) != FORMAT:
        raise InputError(f"the models in {folder} are not of format {FORMAT}: run `fedge server init --force-models`")
    return WorkloadFacts.from_mapping(mapping)


def load_device_model(folder: Path) -> DeviceModel:
    """The device model, as `build_device_model` made it. Raises InputError."""
    facts, part = load_facts(folder), folder / _DEVICE
    plain, arrays = _read_json(part / "model.json"), _read_arrays(part / "holdout.npz")
    try:
        files = {name: (part / f"{name}.onnx").read_bytes() for name in _ONNX}
        head = read_safetensors((part / "head.safetensors").read_bytes())
    except OSError as error:
        raise _unreadable(part, error) from None
    queries = [query if isinstance(query, str) else np.array(query, np.float32) for query in plain["self_test_queries"]]
    return DeviceModel(
        features=features_from_mapping(plain["features"]),
        labels=facts.labels,
        architecture=DenseHead.from_mapping(plain["head"]),
        head=head,
        training=plain["training"],
        holdout={name: array for name, array in arrays.items() if name != "labels"},
        holdout_labels=arrays["labels"],
        self_test_queries=tuple(queries),
        **files,
    )


def load_strong_model(folder: Path) -> StrongModel:
    """Central's model, as `train_strong_model` made it. Raises InputError."""
    facts, part = load_facts(folder), folder / _STRONG
    plain, arrays = _read_json(part / "model.json"), _read_arrays(part / "arrays.npz")
    try:
        if facts.pixels:
            from aggregator.workbench.strong.pixels import PixelModel

            return PixelModel.of_stored(plain, arrays)
        from aggregator.workbench.strong.text import TextModel

        return TextModel.of_stored(plain, arrays)
    except (KeyError, TypeError) as error:
        raise _unreadable(part, error) from None


def _save_device_model(part: Path, model: DeviceModel) -> None:
    part.mkdir()
    for name in _ONNX:
        (part / f"{name}.onnx").write_bytes(getattr(model, name))
    (part / "head.safetensors").write_bytes(write_safetensors(model.head))
    _write_arrays(part / "holdout.npz", {**model.holdout, "labels": model.holdout_labels})
    queries = [query if isinstance(query, str) else [float(x) for x in query] for query in model.self_test_queries]
    plain = {
        "features": model.features.to_mapping(),
        "head": {"dimensions": model.architecture.dimensions, "classes": model.architecture.classes},
        "training": dict(model.training),
        "self_test_queries": queries,
    }
    _write_json(part / "model.json", plain)


def _save_strong_model(part: Path, strong: TrainedModel) -> None:
    plain, arrays = strong.stored()
    part.mkdir()
    _write_arrays(part / "arrays.npz", arrays)
    _write_json(part / "model.json", plain)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True), encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object: run `fedge server init --force-models`")
    return value


def _write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    np.savez(path, allow_pickle=False, **arrays)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"the prepared models in {path} cannot be read ({error}): run `fedge server init --force-models`")
