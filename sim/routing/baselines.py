"""What a learned router has to beat: the prompt's length, and TF-IDF with ridge regression on the gain (scikit-learn).

Each TF-IDF baseline gets its penalty from the same cross-validation on the training half as the router.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from fedge.routing.learned import Floats

VECTORIZERS: dict[str, dict[str, Any]] = {
    "tfidf_ridge": {},
    "tfidf_pairs_ridge": {"ngram_range": (1, 2), "sublinear_tf": True, "min_df": 2},
}
"""scikit-learn's own settings (words), and a stronger variant with word pairs."""
PENALTIES = (1.0, 3.0, 10.0, 30.0)


def prompt_length(prompts: Sequence[str]) -> Floats:
    """Characters: float64 [n]. Long prompts go to the strong model."""
    return np.array([len(prompt) for prompt in prompts], dtype=np.float64)


def tfidf_ridge(
    options: dict[str, Any],
    prompts: Sequence[str],
    gains: Floats,
    held_out: Sequence[str],
    *,
    folds: Sequence[NDArray[np.int64]],
    judge: Callable[[Floats], float],
) -> tuple[Floats, float]:
    """Predicted gains of ``held_out`` and the penalty whose predictions on ``folds`` of the training prompts judge best."""
    found = {penalty: judge(_cross_predicted(options, prompts, gains, folds, penalty)) for penalty in PENALTIES}
    best = max(PENALTIES, key=lambda penalty: found[penalty])
    return _fitted(options, prompts, gains, held_out, best), best


def _cross_predicted(
    options: dict[str, Any], prompts: Sequence[str], gains: Floats, folds: Sequence[NDArray[np.int64]], penalty: float
) -> Floats:
    predicted = np.empty(len(gains))
    for fold in folds:
        others = np.setdiff1d(np.arange(len(gains)), fold)
        left = [prompts[row] for row in others.tolist()]
        predicted[fold] = _fitted(options, left, gains[others], [prompts[row] for row in fold.tolist()], penalty)
    return predicted


def _fitted(options: dict[str, Any], prompts: Sequence[str], gains: Floats, others: Sequence[str], penalty: float) -> Floats:
    vectorizer = TfidfVectorizer(**options)
    try:
        vectors = vectorizer.fit_transform(prompts)
    except ValueError:  # no word at all, or none often enough: nothing to tell prompts apart by
        return np.zeros(len(others))
    ridge = Ridge(alpha=penalty, solver="sparse_cg").fit(vectors, gains)
    return np.asarray(ridge.predict(vectorizer.transform(others)), dtype=np.float64)
