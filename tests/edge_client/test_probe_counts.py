import numpy as np
import pytest

from edge_client.releases.inference import ReleaseLoader
from edge_client.rounds.updates import count_probes
from edge_client.store import Probe, ProbeSelection
from fedge.features import content_hash
from fedge.routing import Policy

GRID = (0.5, 0.6, 0.7, 0.8, 0.9)


def query_of(confidence: float, scale: float) -> np.ndarray:
    """A query of which a head of this scale says left with this confidence: the logits differ by 2 * scale * (a - b)."""
    gap = np.log(confidence / (1 - confidence)) / (2 * scale)
    return np.array([gap, 0, 0, 0], dtype=np.float32)


def probes_with(*probes: tuple[float, str], scale: float) -> tuple[Probe, ...]:
    """(confidence under the candidate, central's label)."""
    queries = [query_of(confidence, scale) for confidence, _ in probes]
    return tuple(
        Probe(content_hash(query), query, central, "right", 0.1, "old", 0, False, 0.0)
        for query, (_, central) in zip(queries, probes, strict=True)
    )


@pytest.fixture
def candidate(make_release, release_key):
    release = make_release(scale=3.0)
    files = {release.manifest.files[name]: data for name, data in release.files.items()}
    return ReleaseLoader(release_key.public_key()).load(release.manifest.to_bytes(), release.signature, files)


def count(candidate, fresh=(), old=(), policy=None):
    return count_probes(
        candidate, ProbeSelection(fresh, old), policy=policy or Policy.default(), central_price_usd=0.001
    )


def test_fresh_probes_are_binned_by_what_the_candidate_says_of_them(candidate):
    probes = probes_with((0.55, "left"), (0.65, "right"), (0.66, "left"), (0.95, "left"), (0.97, "up"), scale=3.0)
    counts = count(candidate, fresh=probes)
    assert counts.new_seen.tolist() == [1, 2, 0, 0, 2]
    assert counts.new_disagreed.tolist() == [0, 1, 0, 0, 1]


def test_all_probes_are_counted_on_the_coarse_grid(candidate):
    """Of the grid's five points two stand in the coarse one, 0.6 and 0.9; who is less sure is counted nowhere there."""
    fresh = probes_with((0.55, "left"), (0.95, "up"), scale=3.0)
    old = probes_with((0.65, "right"), (0.85, "left"), (0.97, "left"), scale=3.0)
    counts = count(candidate, fresh=fresh, old=old)
    assert (counts.seen.tolist(), counts.disagreed.tolist()) == ([2, 2], [1, 1])
    assert counts.new_seen.tolist() == [1, 0, 0, 0, 1]


def test_probes_that_no_threshold_would_keep_local_are_not_counted(candidate):
    probes = probes_with((0.65, "right"), (0.95, "left"), scale=3.0)
    pinned = Policy.from_toml('[labels.left]\nrule = "always-central"')
    assert not count(candidate, fresh=probes, policy=pinned).new_seen.any()
    dear = Policy.from_toml("error_price_usd = 0.01")  # an error costs ten questions: local from a confidence of 0.9 on
    assert count(candidate, fresh=probes, policy=dear).new_seen.tolist() == [0, 0, 0, 0, 1]


def test_without_probes_every_count_is_zero(candidate):
    counts = count(candidate)
    for histogram, bins in ((counts.seen, 2), (counts.disagreed, 2), (counts.new_seen, 5), (counts.new_disagreed, 5)):
        assert histogram.dtype == np.int64
        assert histogram.tolist() == [0] * bins
