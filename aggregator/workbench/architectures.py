"""The device models as torch modules: a small encoder that is frozen after the server trained it, and a dense head.

Choices: the embedding leaves through a layer normalisation, so that plain gradient steps on any head find numbers of one
size, and int8 a narrow range (whitening it gained nothing with an adaptive server optimizer); nothing but sums, products,
ReLU and layer normalisation, since those round alike on every processor; layers are written as ``x @ weight + bias`` because
ONNX then holds MatMul and Add. Never loads or trains anything.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedge.errors import InputError
from fedge.features import FeatureSpec, PixelFeatures, TextFeatures


class Dense(nn.Module):
    """``x [..., inputs] @ weight [inputs, outputs] + bias [outputs]``, Glorot-uniform at first, or all zeros."""

    def __init__(self, inputs: int, outputs: int, *, zeros: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        if not zeros:
            nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``x @ weight + bias``."""
        return x @ self.weight + self.bias


class TextEncoder(nn.Module):
    """Embedding bag over hashed n-grams, then one hidden layer.

    ``ids`` int64 [n, L] (0 is padding), ``weights`` float32 [n, L] (0 for padding) -> float32 [n, dimensions].
    """

    def __init__(
        self, *, buckets: int, width: int, dimensions: int, dropout: float = 0.4, gram_dropout: float = 0.35
    ) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(buckets + 1, width) * 0.1)
        self.hidden = Dense(width, dimensions)
        self.width, self.dimensions = width, dimensions
        self.dropout, self.gram_dropout = dropout, gram_dropout

    def forward(self, ids: Tensor, weights: Tensor) -> Tensor:
        """The embedding of each text, float32 [n, dimensions]."""
        if self.training:
            # Whole n-grams go missing: a device meets words that the server never saw.
            weights = weights * (torch.rand_like(weights) >= self.gram_dropout)
        bag = (functional.embedding(ids, self.table) * weights.unsqueeze(2)).sum(dim=1)
        # The norm makes the weights' sum irrelevant, so n-grams that went missing need no correction.
        bag = functional.layer_norm(bag, (self.width,))
        bag = functional.dropout(bag, self.dropout, self.training)
        return functional.layer_norm(functional.relu(self.hidden(bag)), (self.dimensions,))


class PixelEncoder(nn.Module):
    """Two hidden layers over grey values: ``pixels`` float32 [n, size] in [0, 1] -> float32 [n, dimensions]."""

    def __init__(self, *, size: int, width: int, dimensions: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.first = Dense(size, width)
        self.hidden = Dense(width, dimensions)
        self.dimensions = dimensions
        self.dropout = dropout

    def forward(self, pixels: Tensor) -> Tensor:
        """The embedding of each picture, float32 [n, dimensions]."""
        x = functional.relu(self.first(pixels))
        x = functional.dropout(x, self.dropout, self.training)
        return functional.layer_norm(functional.relu(self.hidden(x)), (self.dimensions,))


Encoder = TextEncoder | PixelEncoder


class DeviceNetwork(nn.Module):
    """Encoder and head: the encoder's inputs -> ``(logits [n, C], embedding [n, D])``."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = Dense(encoder.dimensions, classes, zeros=True)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and embedding of each row."""
        embedding = self.encoder(*inputs)
        return self.head(embedding), embedding


def encoder_for(features: FeatureSpec, *, dimensions: int) -> Encoder:
    """A fresh encoder for ``features``. Raises InputError for a kind of feature that no encoder reads."""
    if isinstance(features, TextFeatures):
        return TextEncoder(buckets=features.buckets, width=64, dimensions=dimensions)
    if isinstance(features, PixelFeatures):
        return PixelEncoder(size=features.size, width=64, dimensions=dimensions)
    raise InputError(f"no encoder reads features of the kind {features.kind!r}: use 'text' or 'pixels'")
