"""Small workloads made without files, and where the public data sets are, for the tests that need them."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from aggregator.workbench.workloads import Split, Workload
from fedge.features import TextFeatures

# How long an example takes says nothing here: machines that run tests are shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def make_text_workload(groups, *, oos=0, has_users=False, oos_share=0.0):
    """A devices' part of distinct texts, one a group entry, and ``oos`` out-of-scope ones; server and test hold one row."""
    groups = np.asarray(groups, dtype=np.int64)
    texts = [f"ask the assistant for thing number {number}" for number in range(len(groups))]
    texts += [f"out of scope request number {number}" for number in range(oos)]
    labels = np.concatenate([np.zeros(len(groups), dtype=np.int64), np.ones(oos, dtype=np.int64)])
    one = Split(["a"], np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
    return Workload(
        name="toy",
        labels=("thing", "oos") if oos else ("thing",),
        oos_label="oos" if oos else None,
        features=TextFeatures(),
        topics={"thing": "things"},
        server=one,
        devices=Split(texts, labels, np.concatenate([groups, np.full(oos, -1, dtype=np.int64)])),
        test=one,
        test_device=np.full(1, -1, dtype=np.int64),
        data_sha256="",
        note="",
        oos_share=oos_share,
        has_users=has_users,
    )


@pytest.fixture(scope="session")
def text_workload():
    return make_text_workload


@pytest.fixture
def public_data() -> Path:
    folder = os.environ.get("FEDGE_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the public data sets: set FEDGE_DATA to the folder that has them")
    return Path(folder)
