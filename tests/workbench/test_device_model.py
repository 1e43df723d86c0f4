import sys
from dataclasses import replace
from subprocess import run

import numpy as np
import pytest

from aggregator.workbench import training_config
from aggregator.workbench.device_model import build_device_model, quantized
from aggregator.workbench.model_files import run_model, with_head
from aggregator.workbench.workloads import Split, Workload
from fedge.architectures import DescentSettings
from fedge.errors import InputError
from fedge.features import PixelFeatures, TextFeatures
from fedge.randomness import root_seed

SEED = root_seed(7)
WORDS = {"light": "turn the lamp on bright", "music": "play a song loud tune", "time": "what hour clock now is it"}


def texts(rows, draw):
    names = sorted(WORDS)
    labels = draw.integers(0, len(names), rows)
    picked = [" ".join(draw.choice(WORDS[names[label]].split(), 4)) for label in labels]
    return Split(picked, labels.astype(np.int64), np.full(rows, -1))


def workload(server_rows=200):
    draw = np.random.default_rng(0)
    return Workload(
        name="words",
        labels=tuple(sorted(WORDS)),
        oos_label=None,
        features=TextFeatures(buckets=256, max_tokens=48),
        topics={},
        server=texts(server_rows, draw),
        devices=texts(50, draw),
        test=texts(100, draw),
        test_device=np.full(100, -1),
        data_sha256="0" * 64,
        note="",
    )


@pytest.fixture(scope="module", autouse=True)
def short_recipe():
    with pytest.MonkeyPatch.context() as patch:
        text = training_config.TEXT
        short = replace(text, dimensions=16, encoder=replace(text.encoder, epochs=8, batch_size=16))
        patch.setattr(training_config, "TEXT", short)
        yield


@pytest.fixture(scope="module")
def cold():
    return build_device_model(workload(), SEED)


@pytest.fixture(scope="module")
def warm():
    calls = []
    model = build_device_model(workload(), SEED, warm_start=True, progress=lambda done, of: calls.append((done, of)))
    assert calls == [(epoch, 8) for epoch in range(1, 9)]
    return model


def test_first_head_knows_nothing_and_survives_quantization(cold):
    assert not any(array.any() for array in cold.head.values())
    files = quantized(cold, cold.head)
    assert files.agreement == 1.0
    assert np.array(files.self_test_logits).shape == (len(cold.self_test_queries), 3)
    assert not np.array(files.self_test_logits).any()


def test_warm_head_answers_the_test_part_and_passes_the_quality_gate(warm):
    files = quantized(warm, warm.head)
    assert files.agreement >= 0.985
    test = workload().test
    logits = run_model(files.infer, warm.features.encode(test.queries), ["logits"])["logits"]
    assert np.mean(logits.argmax(axis=1) == test.labels) > 0.9


def test_self_test_logits_come_from_the_int8_file(warm):
    files = quantized(warm, warm.head)
    alone = [
        run_model(files.infer, warm.features.encode([query]), ["logits"])["logits"][0] for query in warm.self_test_queries
    ]
    np.testing.assert_array_equal(np.array(files.self_test_logits, np.float32), alone)


def test_a_head_trained_on_int8_embeddings_learns_from_zero(cold):
    server, weights, size = workload().server, dict(cold.head), int(cold.training["batch_size"])
    settings = DescentSettings(l2=float(cold.training["l2"]))
    embedding = run_model(quantized(cold, cold.head).infer, cold.features.encode(server.queries), ["embedding"])["embedding"]
    for start in range(0, 160, size):
        rows = slice(start, start + size)
        batch = (embedding[rows], server.labels[rows], np.ones(size, np.float32))
        rate = float(cold.training["learning_rate"])
        weights = cold.architecture.step(weights, *batch, learning_rate=rate, settings=settings).weights
    test = workload().test
    logits = run_model(with_head(cold.infer_int8, weights), cold.features.encode(test.queries), ["logits"])["logits"]
    assert np.mean(logits.argmax(axis=1) == test.labels) > 0.9


def test_the_held_out_queries_trained_nothing_and_are_a_share_of_the_server_part(cold):
    assert len(cold.holdout_labels) == round(len(workload().server) * training_config.TEXT.holdout_share)


def test_one_seed_gives_equal_bytes_whatever_the_head_starts_from(cold, warm):
    assert with_head(warm.infer_int8, cold.head) == cold.infer_int8
    assert with_head(warm.infer, cold.head) == cold.infer
    assert warm.architecture == cold.architecture


def test_pixels_make_a_device_model_too():
    draw = np.random.default_rng(1)
    labels = draw.integers(0, 2, 160).astype(np.int64)
    pixels = np.clip(0.5 * labels[:, None] + 0.3 * draw.random((160, 64)), 0, 1).astype(np.float32)
    part = Split(pixels, labels, labels)
    pictures = replace(workload(), features=PixelFeatures(size=64), labels=("0", "1"), server=part, devices=part, test=part)
    model = build_device_model(pictures, SEED, warm_start=True)
    files = quantized(model, model.head)
    logits = run_model(files.infer, pictures.features.encode(pixels), ["logits"])["logits"]
    assert np.mean(logits.argmax(axis=1) == labels) > 0.95


def test_a_server_part_too_small_to_hold_some_out_is_refused():
    with pytest.raises(InputError, match="at least"):
        build_device_model(workload(server_rows=2), SEED)


def test_exporting_a_round_needs_no_torch():
    code = "import sys; import aggregator.workbench.device_model; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
