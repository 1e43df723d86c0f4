"""The strong model for text: kernel ridge regression on MiniLM sentence embeddings with TF-IDF n-grams beside them.

Without the optional extra the n-grams stand alone, and the model's name says so. Trains on the server's own part, nothing
else.

Out of scope: examples of it are few and say little about all there is, so they belong to no label, and a query is judged by
how near it is to the known ones: by its best score. How a score turns into a probability is learned from the left-out
scores of the server's own examples (`calibration`), weighted as on the workload's natural mixture, so that the largest
probability is the decision of the best accuracy there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregator.workbench.strong import minilm
from aggregator.workbench.strong.calibration import Calibration, fit_calibration
from aggregator.workbench.strong.lexical import LexicalVectors, fit_lexical_vectors
from aggregator.workbench.strong.ridge import MAX_EXAMPLES, KernelRidge, fit_kernel_ridge
from aggregator.workbench.workloads.base import Workload
from fedge.errors import InputError
from fedge.features import Query, normalized_text
from fedge.randomness import derive, generator

# Tried on clinc150 (half of its training queries): widths 1 and 2, penalties 0.1 and 0.3 and lexical lengths 0 to 0.7 lie
# within half a point of each other. An MLP on the same vectors is equal in scope, slower to train and worse out of scope.
_WIDTH, _WIDTH_ALONE = 1.0, 0.5
_PENALTY = 0.1
_LEXICAL_LENGTH = 0.6  # of the lexical vector beside an embedding of length 1
_DIMENSIONS, _DIMENSIONS_ALONE = 512, 1024


@dataclass(frozen=True, slots=True, eq=False)
class SentenceVectors:
    """Texts to float32 [n, D]: the embedding (where MiniLM is installed), then the lexical vector."""

    encoder: "minilm.SentenceEncoder | None"
    lexical: LexicalVectors

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text."""
        lexical = self.lexical.encode(texts)
        if self.encoder is None:
            return lexical
        return np.concatenate([self.encoder.encode(texts), lexical * np.float32(_LEXICAL_LENGTH)], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class TextModel:
    """Texts to probabilities over all labels; labels that the server's part lacks have none."""

    name: str
    vectors: SentenceVectors
    ridge: KernelRidge
    calibration: Calibration
    known: NDArray[np.int64]  # [K]: which label each score speaks of
    oos: int | None
    classes: int

    def predict(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Probabilities float32 [n, C]. Raises InputError for a query that is no text."""
        probabilities = np.zeros((len(queries), self.classes), dtype=np.float32)
        if len(queries) == 0:
            return probabilities
        within, strange = self.calibration.probabilities(self.ridge.scores(self.vectors.encode(_texts(queries))))
        probabilities[:, self.known] = within
        if self.oos is not None:
            probabilities[:, self.oos] = strange
        return probabilities

    def stored(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What the model is made of: plain values, and arrays by name. MiniLM's own weights stay in its package."""
        plain = {
            "name": self.name,
            "minilm": self.vectors.encoder is not None,
            "width": self.ridge.width,
            "calibration": asdict(self.calibration),
            "oos": self.oos,
            "classes": self.classes,
        }
        ridge = {f"ridge.{part}": getattr(self.ridge, part) for part in ("examples", "squares", "weights")}
        return plain, {"known": self.known, **ridge, **self.vectors.lexical.arrays()}

    @staticmethod
    def of_stored(plain: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> "TextModel":
        """The inverse of `stored`. Raises InputError where the model needs MiniLM and it is not installed."""
        scope = plain["calibration"]["scope"]
        return TextModel(
            name=plain["name"],
            vectors=SentenceVectors(minilm.SentenceEncoder() if plain["minilm"] else None, LexicalVectors.of_arrays(arrays)),
            ridge=KernelRidge(arrays["ridge.examples"], arrays["ridge.squares"], arrays["ridge.weights"], plain["width"]),
            calibration=Calibration(plain["calibration"]["sharpness"], None if scope is None else (scope[0], scope[1])),
            known=arrays["known"],
            oos=plain["oos"],
            classes=plain["classes"],
        )


def train_text_model(workload: Workload, seed: bytes, *, progress: Callable[[str], None]) -> TextModel:
    """Fit on the server's part, at most ``MAX_EXAMPLES`` of it. The same workload and seed give the same model."""
    rows = _rows(workload, generator(seed, "strong model", "rows"))
    labels, inside = workload.server.labels[rows], workload.in_scope(workload.server)[rows]
    if not inside.any():
        raise InputError(f"workload {workload.name!r}: the server's part has no query in scope to learn from")
    texts = _texts([workload.server.query(int(row)) for row in rows])
    encoder = minilm.SentenceEncoder() if minilm.is_installed() else None
    dimensions = _DIMENSIONS_ALONE if encoder is None else _DIMENSIONS
    lexical = fit_lexical_vectors(texts, dimensions=dimensions, seed=derive(seed, "strong model"))
    vectors = SentenceVectors(encoder, lexical)
    progress(f"encoding {len(texts)} queries of the server's part for central's strong model")
    examples = vectors.encode(texts)

    progress("training central's strong model")
    known = np.unique(labels[inside])
    targets = (labels[:, None] == known).astype(np.float32)
    width = _WIDTH_ALONE if encoder is None else _WIDTH
    ridge, left_out = fit_kernel_ridge(examples, targets, width=width, penalty=_PENALTY)
    calibration = fit_calibration(left_out, targets.argmax(axis=1), inside, oos_share=workload.oos_share)
    return TextModel(
        name=(
            "TF-IDF n-grams, kernel ridge regression (MiniLM is not installed)"
            if encoder is None
            else "MiniLM-L6 embeddings and TF-IDF n-grams, kernel ridge regression"
        ),
        vectors=vectors,
        ridge=ridge,
        calibration=calibration,
        known=known,
        oos=workload.oos_index,
        classes=len(workload.labels),
    )


def _texts(queries: Sequence[Query]) -> list[str]:
    """Normalized as the content hash does, so that equal queries get equal answers."""
    for query in queries:
        if not isinstance(query, str):
            raise InputError(f"this model takes text, not {type(query).__name__}: send a sentence")
    return [normalized_text(str(query)) for query in queries]


def _rows(workload: Workload, draw: np.random.Generator) -> NDArray[np.int64]:
    """int64 [n], ascending: one row of the server's part for each distinct text, at most ``MAX_EXAMPLES``, labels in turn.

    A text that stood there twice would be known to the model even when one of the two is left out.
    """
    texts = _texts([workload.server.query(row) for row in range(len(workload.server))])
    rows = np.array(list({text: row for row, text in reversed(list(enumerate(texts)))}.values()), dtype=np.int64)
    shuffled = draw.permutation(rows)
    labels = workload.server.labels[shuffled]
    turn = np.empty(len(rows), dtype=np.int64)  # the how-manieth of its label a row is
    for label in np.unique(labels):
        turn[labels == label] = np.arange(int((labels == label).sum()))
    return np.sort(shuffled[np.argsort(turn, kind="stable")[:MAX_EXAMPLES]])
