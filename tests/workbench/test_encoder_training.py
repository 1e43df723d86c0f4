import numpy as np
import torch

from aggregator.workbench.architectures import PixelEncoder, TextEncoder
from aggregator.workbench.encoder_training import fit_head, seeded, train_encoder
from aggregator.workbench.training_config import EncoderTraining
from fedge.features import TextFeatures

SHORT = EncoderTraining(epochs=2, batch_size=16)


def pictures(rows=120, seed=0):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, rows).astype(np.int64)
    return {"pixels": np.clip(0.3 * labels[:, None] + 0.3 * draw.random((rows, 16)), 0, 1).astype(np.float32)}, labels


def trained(seed):
    inputs, labels = pictures()
    with seeded(seed):
        encoder = PixelEncoder(size=16, width=8, dimensions=8)
        train_encoder(encoder, inputs, labels, classes=3, training=SHORT)
    return torch.cat([parameter.detach().reshape(-1) for parameter in encoder.parameters()]).numpy()


def test_one_seed_gives_one_encoder_and_another_gives_another():
    np.testing.assert_array_equal(trained(b"1" * 32), trained(b"1" * 32))
    assert not np.array_equal(trained(b"1" * 32), trained(b"2" * 32))


def test_seeded_leaves_torch_as_it_was():
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    with seeded(b"3" * 32):
        torch.rand(3)
        assert torch.get_num_threads() == 1
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_padding_changes_no_text_embedding():
    torch.manual_seed(0)
    encoder = TextEncoder(buckets=64, width=8, dimensions=8).eval()
    inputs = TextFeatures(buckets=64, max_tokens=40).encode(["hello there", "what a long sentence this is for a lamp"])
    both = encoder(*(torch.from_numpy(array) for array in inputs.values()))
    alone = TextFeatures(buckets=64, max_tokens=40).encode(["hello there"])
    assert torch.allclose(both[:1], encoder(*(torch.from_numpy(array) for array in alone.values())), atol=1e-6)


def test_a_fitted_head_separates_what_is_separable():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 200).astype(np.int64)
    embeddings = (np.eye(4)[labels] * 3 + 0.1 * draw.normal(size=(200, 4))).astype(np.float32)
    head = fit_head(embeddings, labels, classes=4)
    assert np.array_equal((embeddings @ head["head.weight"] + head["head.bias"]).argmax(axis=1), labels)
