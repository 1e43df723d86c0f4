import dataclasses
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.errors import InputError, VerificationError
from fedge.release import FILE_NAMES, Manifest, to_canonical


@pytest.fixture(scope="module")
def manifest(parts):
    return parts.some_release().manifest


def test_a_manifest_comes_back_and_its_id_is_the_hash_of_its_bytes(manifest):
    data = manifest.to_bytes()
    assert Manifest.from_bytes(data) == manifest
    assert manifest.release_id == hashlib.sha256(data).hexdigest()
    assert json.loads(data)["labels"] == ["a", "b", "none"]


def changed(manifest, **changes):
    return to_canonical(json.loads(manifest.to_bytes()) | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": -1},
        {"version": True},
        {"version": 1.0},
        {"version": 2**40},
        {"workload": "../etc"},
        {"workload": ""},
        {"labels": []},
        {"labels": ["a", "a"]},
        {"labels": ["a", 2]},
        {"labels": ["a", ["b"]]},
        {"labels": "ab"},
        {"labels": ["a", "b"]},
        {"labels": ["a", "b", "x" * 201], "oos_label": "a"},
        {"oos_label": "unknown"},
        {"features": []},
        {"files": {}},
        {"files": dict.fromkeys(FILE_NAMES, "00")},
        {"files": dict.fromkeys((*FILE_NAMES, "run.py"), "00" * 32)},
        {"files": dict.fromkeys(FILE_NAMES, "AB" * 32)},
        {"weights_sha256": None},
        {"structure_sha256": "zz" * 32},
        {"parent": "abc"},
        {"threshold_grid": []},
        {"threshold_grid": [0.5, 0.5]},
        {"threshold_grid": [0.9, 0.1]},
        {"threshold_grid": [0, 1]},
        {"threshold_grid": ["a"]},
        {"threshold_grid": 0.5},
        {"threshold_grid": [i / 2000 for i in range(1025)]},
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"temperature": 1},
        {"temperature": "1"},
        {"confidence": "energy"},
        {"price_book": 3},
        {"self_test": {}},
        {"self_test": {"queries": ["a"], "logits": []}},
        {"self_test": {"queries": ["a"], "logits": [[1.0]]}},
        {"self_test": {"queries": ["a", [0.5]], "logits": [[1.0, 1.0, 1.0]] * 2}},
        {"self_test": {"queries": "a", "logits": [[1.0, 1.0, 1.0]]}},
        {"self_test": {"queries": [], "logits": [], "more": 1}},
        {"metrics": {"a": "b"}},
        {"metrics": {"a": True}},
        {"training": {}},
        {"training": {"learning_rate": 0.1, "batch_size": 1.5, "epochs": 1, "clip_norm": 1, "weight_cap": 1}},
        {"training": {"learning_rate": 0.0, "batch_size": 1, "epochs": 1, "clip_norm": 1, "weight_cap": 1}},
        {"training": {"learning_rate": "a", "batch_size": 1, "epochs": 1, "clip_norm": 1, "weight_cap": 1}},
        {"more": 1},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_a_manifest_with_an_unusable_field_is_refused(manifest, changes):
    with pytest.raises(VerificationError) as refused:
        Manifest.from_bytes(changed(manifest, **changes))
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("name", sorted(Manifest.__dataclass_fields__))
def test_a_manifest_without_one_of_its_fields_is_refused(manifest, name):
    mapping = json.loads(manifest.to_bytes())
    del mapping[name]
    with pytest.raises(VerificationError, match=f"missing {name}"):
        Manifest.from_bytes(to_canonical(mapping))


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: text + " ",
        lambda text: text.replace(":", ": ", 1),
        lambda text: text.replace('"workload"', '"\\u0077orkload"'),
        lambda text: text.replace('"temperature":1.5', '"temperature":1.50'),
        lambda text: text.replace('"temperature":1.5', '"temperature":15e-1'),
        lambda text: text.replace('"confidence":', '"confidence":"margin","confidence":', 1),
        lambda text: text.replace('"temperature":1.5', '"temperature":NaN'),
        lambda text: text.replace('"temperature":1.5', '"temperature":1e999'),
        lambda text: "[" * 100_000,
        lambda text: "9" * 5000,
        lambda text: "null",
        lambda text: "",
    ],
)
def test_any_other_spelling_is_refused(manifest, spell):
    text = manifest.to_bytes().decode()
    assert spell(text) != text
    with pytest.raises(VerificationError):
        Manifest.from_bytes(spell(text).encode())


def test_an_oversized_manifest_is_refused_before_it_is_parsed():
    with pytest.raises(VerificationError, match="more than"):
        Manifest.from_bytes(b"[" * (5 * 2**20))


def test_a_release_of_an_older_version_is_refused_in_one_line(manifest):
    mapping = json.loads(manifest.to_bytes())
    del mapping["architecture"], mapping["encoder_sha256"]
    mapping["files"]["step.onnx"] = "00" * 32
    text = json.dumps(mapping, sort_keys=True, separators=(",", ":"))
    with pytest.raises(VerificationError, match="made by an older fedge and brings its own training step: make and publish"):
        Manifest.from_bytes(text.encode())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": {"name": "dense-head-v9", "dimensions": 2, "classes": 3}}, "unknown to this fedge"),
        ({"architecture": {"name": "dense-head-v1", "dimensions": 2, "classes": 2}}, "2 classes does not fit 3 labels"),
        ({"architecture": {"name": "dense-head-v1", "dimensions": 3, "classes": 3}}, "structure_sha256"),
        ({"encoder_sha256": "no hash"}, "encoder_sha256"),
    ],
)
def test_an_architecture_that_does_not_fit_cannot_stand_in_a_manifest(manifest, changes, words):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(manifest, **changes)


def test_an_unusable_manifest_cannot_be_made(parts):
    weights = parts.some_weights()
    with pytest.raises(InputError, match="temperature"):
        parts.manifest_of(dict.fromkeys(FILE_NAMES, b""), weights, temperature=float("nan"))
    with pytest.raises(InputError, match="labels"):
        parts.manifest_of(dict.fromkeys(FILE_NAMES, b""), weights, labels=["a", "none"])


@given(st.data())
def test_a_mutated_manifest_is_refused_or_is_another_manifest_with_another_id(manifest, data):
    original = manifest.to_bytes()
    start = data.draw(st.integers(0, len(original)))
    stop = data.draw(st.integers(start, min(len(original), start + 8)))
    mutated = original[:start] + data.draw(st.binary(max_size=8)) + original[stop:]
    try:
        found = Manifest.from_bytes(mutated)
    except VerificationError:
        return
    assert found.to_bytes() == mutated
    assert (found.release_id == manifest.release_id) == (mutated == original)
