import numpy as np
import pytest

from edge_client.releases.loading import ReleaseLoader
from edge_client.rounds.probe_counts import probe_counts
from edge_client.store import Probe, open_memory
from fedge.features import content_hash
from fedge.routing import Policy

GRID = (0.5, 0.6, 0.7, 0.8, 0.9)


def query_of(confidence: float, scale: float) -> np.ndarray:
    """A query of which a head of this scale says left with this confidence: the logits differ by 2 * scale * (a - b)."""
    gap = np.log(confidence / (1 - confidence)) / (2 * scale)
    return np.array([gap, 0, 0, 0], dtype=np.float32)


def store_with(*probes: tuple[float, str, int], scale: float):
    """(confidence under the candidate, central's label, publication it came in under)."""
    store = open_memory()
    for confidence, central, publication in probes:
        query = query_of(confidence, scale)
        store.fates.settle({content_hash(query): True}, at=0.0)
        store.probes.record([Probe(content_hash(query), query, central, "right", 0.1, "old", publication, False, 0.0)])
    return store


@pytest.fixture
def candidate(make_release, release_key):
    release = make_release(scale=3.0)
    files = {release.manifest.files[name]: data for name, data in release.files.items()}
    return ReleaseLoader(release_key.public_key()).load(release.manifest.to_bytes(), release.signature, files)


def test_probes_are_binned_by_what_the_candidate_says_of_them(candidate):
    store = store_with(
        (0.55, "left", 1), (0.65, "right", 1), (0.66, "left", 1), (0.95, "left", 1), (0.97, "up", 1), scale=3.0
    )
    counts = probe_counts(candidate, store, policy=Policy.default(), publication=1, central_price_usd=0.001)
    assert counts.seen.tolist() == [1, 2, 0, 0, 2]
    assert counts.disagreed.tolist() == [0, 1, 0, 0, 1]


def test_only_probes_since_the_last_publication_are_new(candidate):
    store = store_with((0.55, "left", 3), (0.65, "right", 4), (0.95, "left", 5), scale=3.0)
    counts = probe_counts(candidate, store, policy=Policy.default(), publication=4, central_price_usd=0.001)
    assert counts.seen.tolist() == [1, 1, 0, 0, 1]
    assert counts.new_seen.tolist() == [0, 1, 0, 0, 1]
    assert counts.new_disagreed.tolist() == [0, 1, 0, 0, 0]


def test_probes_that_no_threshold_would_keep_local_are_not_counted(candidate):
    store = store_with((0.65, "right", 1), (0.95, "left", 1), scale=3.0)
    pinned = Policy.from_toml('[labels.left]\nrule = "always-central"')
    counts = probe_counts(candidate, store, policy=pinned, publication=0, central_price_usd=0.001)
    assert not counts.seen.any()
    dear = Policy.from_toml("error_price_usd = 0.01")  # an error costs ten questions: local from a confidence of 0.9 on
    counts = probe_counts(candidate, store, policy=dear, publication=0, central_price_usd=0.001)
    assert counts.seen.tolist() == [0, 0, 0, 0, 1]


def test_without_probes_there_is_nothing_to_say(candidate):
    counts = probe_counts(candidate, open_memory(), policy=Policy.default(), publication=0, central_price_usd=0.001)
    for histogram in (counts.seen, counts.disagreed, counts.new_seen, counts.new_disagreed):
        assert histogram.dtype == np.int64
        assert histogram.tolist() == [0] * 5
