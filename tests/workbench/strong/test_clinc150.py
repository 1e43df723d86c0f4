"""On a fifth of the real data: 30 intents, so that it is quick. The whole of it is measured by the benchmarks."""

import dataclasses
import os

import numpy as np
import pytest

from aggregator.workbench.workloads import load_workload

INTENTS = 30


@pytest.fixture(scope="module")
def fifth():
    if not os.environ.get("FEDGE_DATA"):
        pytest.skip("FEDGE_DATA does not name a folder with clinc150")
    whole = load_workload("clinc150", seed=bytes(32))
    kept = np.append(np.arange(0, 150, 150 // INTENTS), whole.oos_index)
    draw = np.random.default_rng(0)

    def part(split, in_scope, strange):
        mine = draw.permutation(np.flatnonzero(np.isin(split.labels, kept)))
        inside = whole.in_scope(split)[mine]
        return split.take(np.concatenate([mine[inside][:in_scope], mine[~inside][:strange]]))

    return dataclasses.replace(whole, server=part(whole.server, 1500, 50), test=part(whole.test, 450, 100))


def test_in_and_out_of_scope_queries_are_answered_well(either, fifth, train):
    model = train(fifth)
    right = model.predict(fifth.test.queries).argmax(axis=1) == fifth.test.labels
    inside = fifth.in_scope(fifth.test)
    with_embeddings = model.name.startswith("MiniLM")
    assert right[inside].mean() >= (0.93 if with_embeddings else 0.88)
    assert right[~inside].mean() >= (0.80 if with_embeddings else 0.70)
