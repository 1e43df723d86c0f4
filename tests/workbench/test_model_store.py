"""Prepared models come back from their folder as they were, and what is damaged is said in one line."""

from pathlib import Path

import numpy as np
import pytest

from aggregator.workbench.device_model import quantized
from aggregator.workbench.model_store import load_device_model, load_facts, load_strong_model, save_models
from aggregator.workbench.preparation import prepare_models
from aggregator.workbench.workloads import WorkloadFacts
from fedge.errors import InputError

CSV = "text,label\n" + "".join(
    f"{verb} the {thing} {place},{label}\n"
    for verb, label in (("turn on", "on"), ("switch off", "off"), ("where is", "find"))
    for thing in ("lamp", "radio", "heater", "fan")
    for place in ("in the hall", "upstairs", "by the door", "in my room", "outside")
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("home")
    (folder / "queries.csv").write_text(CSV)
    prepared = prepare_models("csv", seed=3, data=folder / "queries.csv", stage=lambda text: None)
    save_models(folder / "models", WorkloadFacts.of(prepared.workload), prepared.strong, prepared.model)
    return folder / "models", prepared


def test_central_answers_the_same_after_a_restart(stored):
    folder, prepared = stored
    queries = prepared.workload.test.queries
    assert load_strong_model(folder).predict(queries).tobytes() == prepared.strong.predict(queries).tobytes()
    assert load_strong_model(folder).name == prepared.strong.name


def test_a_head_becomes_the_same_release_files_after_a_restart(stored):
    folder, prepared = stored
    before, after = prepared.model, load_device_model(folder)
    head = {name: np.full_like(array, 0.25) for name, array in before.head.items()}
    assert quantized(before, head) == quantized(after, head)
    assert (after.architecture, after.labels) == (before.architecture, before.labels)
    assert dict(after.training) == dict(before.training)
    assert load_facts(folder) == WorkloadFacts.of(prepared.workload)


def test_pictures_are_answered_the_same_after_a_restart(tmp_path: Path):
    prepared = prepare_models("digits", seed=1, devices=4, stage=lambda text: None)
    save_models(tmp_path / "models", WorkloadFacts.of(prepared.workload), prepared.strong, prepared.model)
    queries = prepared.workload.test.queries[:50]
    again = load_strong_model(tmp_path / "models")
    assert again.predict(queries).tobytes() == prepared.strong.predict(queries).tobytes()
    head = load_device_model(tmp_path / "models").head
    assert quantized(load_device_model(tmp_path / "models"), head) == quantized(prepared.model, head)


def test_no_file_of_the_folder_is_a_pickle(stored):
    folder, _ = stored
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".json", ".onnx", ".safetensors", ".npz"}


def test_what_is_missing_or_damaged_is_one_line_with_the_remedy(stored, tmp_path: Path):
    _, prepared = stored
    with pytest.raises(InputError, match="run `fedge server init` first"):
        load_facts(tmp_path)
    copy = tmp_path / "models"
    save_models(copy, WorkloadFacts.of(prepared.workload), prepared.strong, prepared.model)
    (copy / "strong" / "arrays.npz").write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match="--force-models"):
        load_strong_model(copy)
