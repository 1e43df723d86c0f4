"""Central scores a probe as the device does: the same label, and local exactly where the device would have kept it."""

import importlib.util
from pathlib import Path

import pytest

from aggregator.central import ReleaseScores
from aggregator.central.release_scores import THRESHOLD_GRACE_S
from aggregator.releases.registry import ReleaseRegistry
from fedge.costs import PriceBook
from fedge.errors import InputError
from fedge.release import CertificateDocument
from fedge.routing import Policy

NOW = 1_767_225_600.0


def _load(path: Path):
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_parts = _load(Path(__file__).parent.parent / "edge_client" / "conftest.py")
release_key, make_release, certify = _parts.release_key, _parts.make_release, _parts.certify
make_bench, queries = _parts.make_bench, _parts.queries


@pytest.fixture
def registry(tmp_path, release_key):
    return ReleaseRegistry(tmp_path, release_key.public_key())


@pytest.fixture
def scores(registry):
    return ReleaseScores(registry, policy=Policy.default(), central_price_usd=PriceBook.load_default().central_price_usd)


def test_what_central_says_of_a_probe_is_what_the_device_recorded(
    registry, scores, make_bench, make_release, certify, queries
):
    release = make_release()
    registry.publish(release, at=NOW)
    document = certify(release, rate=1.0)
    registry.add_certificate(CertificateDocument.from_bytes(document), at=NOW)
    bench = make_bench()
    bench.source.publish(release, document)
    bench.agent.sync()
    bench.agent.ask_many(list(queries), topics=None)
    stored = bench.store.probes.all()
    assert len(stored) == len(queries) and 0 < sum(probe.would_stay_local for probe in stored) < len(stored)
    got = scores.score(release.release_id, [probe.query for probe in stored], now=NOW)
    assert [score.label for score in got] == [probe.predicted_label for probe in stored]
    assert [score.is_local for score in got] == [probe.would_stay_local for probe in stored]


def test_without_a_certificate_or_after_its_end_nothing_stays_local(registry, scores, make_release, certify, queries):
    release = make_release()
    registry.publish(release, at=NOW)
    some = list(queries[:8])
    assert not any(score.is_local for score in scores.score(release.release_id, some, now=NOW))
    registry.add_certificate(CertificateDocument.from_bytes(certify(release, index=0, life_s=3600)), at=NOW)
    assert any(score.is_local for score in scores.score(release.release_id, some, now=NOW + 1))
    assert not any(score.is_local for score in scores.score(release.release_id, some, now=NOW + 3600 + THRESHOLD_GRACE_S))


def test_a_device_that_still_has_the_certificate_before_is_not_undercounted(
    registry, scores, make_release, certify, queries
):
    release = make_release()
    registry.publish(release, at=NOW)

    def local(now: float) -> int:
        return sum(score.is_local for score in scores.score(release.release_id, list(queries), now=now))

    registry.add_certificate(CertificateDocument.from_bytes(certify(release, index=0)), at=NOW)
    lax = local(NOW)
    registry.add_certificate(CertificateDocument.from_bytes(certify(release, index=3, round_number=2)), at=NOW + 10)
    assert local(NOW + 10) == lax
    assert local(NOW + 10 + THRESHOLD_GRACE_S + 1) < lax


def test_an_unknown_release_is_an_error(scores, queries):
    with pytest.raises(InputError):
        scores.score("ab" * 32, list(queries[:1]), now=NOW)
