"""What the clinc150 workload promises, on the public file (skipped where it is absent) and on copies that are not it."""

import gzip
import json

import numpy as np
import pytest

from aggregator.workbench.workloads import load_workload, partition
from fedge.errors import InputError
from fedge.randomness import root_seed

SEED = root_seed(1)
PINNED = "36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0"


@pytest.fixture
def clinc150(public_data):
    return load_workload("clinc150", seed=SEED)


def test_parts_labels_topics_and_hash(clinc150):
    assert (len(clinc150.server), len(clinc150.devices), len(clinc150.test)) == (7550, 10_650, 5500)
    assert len(clinc150.labels) == 151 and clinc150.labels[-1] == clinc150.oos_label == "oos"
    assert len(set(clinc150.topics.values())) == 10 and clinc150.topics["pin_change"] == "banking"
    assert clinc150.data_sha256 == PINNED
    assert clinc150.oos_share == pytest.approx(1000 / 5500)
    for split, in_scope, oos in ((clinc150.server, 50, 50), (clinc150.devices, 70, 150), (clinc150.test, 30, 1000)):
        assert np.bincount(split.labels).tolist() == [in_scope] * 150 + [oos]
        assert set(split.groups[clinc150.in_scope(split)].tolist()) == set(range(10))
        assert set(split.groups[~clinc150.in_scope(split)].tolist()) == {-1}


def test_the_test_part_is_the_files_untouched_and_the_rest_is_used_once(clinc150, public_data):
    raw = json.loads(gzip.decompress((public_data / "clinc150" / "data_full.json.gz").read_bytes()))
    assert clinc150.test.queries == [text for text, _ in raw["test"] + raw["oos_test"]]
    rest = [text for part in ("train", "oos_train", "val", "oos_val") for text, _ in raw[part]]
    assert sorted([*clinc150.server.queries, *clinc150.devices.queries]) == sorted(rest)


def test_the_uneven_split_over_domains_uses_every_query_in_scope(clinc150):
    shares = partition(clinc150, 50, alpha=0.3, seed=SEED)
    assert sum(len(share) for share in shares) == 10_500
    # A Dirichlet(0.3) mixture over 10 domains gives its largest 0.46 on average; an even split would give 0.1.
    largest = [np.bincount(clinc150.devices.groups[share]).max() / len(share) for share in shares]
    assert 0.35 < np.mean(largest) < 0.5


def test_a_copy_named_by_the_person_is_as_good(clinc150, public_data):
    copy = load_workload("clinc150", seed=SEED, data_file=public_data / "clinc150" / "data_full.json.gz")
    assert copy.devices.queries == clinc150.devices.queries


def test_another_file_is_refused_by_its_hash(tmp_path):
    other = tmp_path / "data_full.json"
    other.write_text('{"train": []}')
    with pytest.raises(InputError, match=r"is not the data_full.json that fedge knows \(sha256 "):
        load_workload("clinc150", seed=SEED, data_file=other)
