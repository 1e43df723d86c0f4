from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_client.releases.inference import ReleaseLoader
from edge_client.releases.manager import Latest, ReleaseManager
from edge_client.releases.storage import FolderShelf, SharedShelf
from edge_client.store import open_memory
from fedge.errors import FedgeError, VerificationError


@pytest.fixture
def loader(release_key):
    return ReleaseLoader(release_key.public_key())


def test_a_release_and_its_certificate_become_active_together(make_bench, make_release, certify):
    bench, release = make_bench(), make_release()
    bench.source.publish(release, certify(release, round_number=4))
    synced = bench.manager.sync()
    active = bench.manager.active
    assert synced.changed
    assert active.loaded.release_id == release.release_id
    assert active.threshold(bench.clock()) == 0.7
    assert active.publication == 4
    assert not bench.manager.sync().changed


def test_the_download_is_what_the_device_lacked(make_bench, make_release, certify):
    bench, first = make_bench(), make_release(scale=1.0, version=1)
    bench.source.publish(first)
    size = sum(map(len, [first.manifest.to_bytes(), first.signature, *first.files.values()]))
    assert bench.manager.sync().downloaded_bytes == size
    second = make_release(scale=2.0, version=2, parent=first.release_id)
    document = certify(second)
    bench.source.publish(second, document)
    # step.onnx is the same file in both releases
    changed = [second.files[name] for name in ("infer.onnx", "weights.safetensors")]
    expected = sum(map(len, [second.manifest.to_bytes(), second.signature, document, *changed]))
    assert bench.manager.sync().downloaded_bytes == expected


def test_without_a_published_release_nothing_happens(make_bench):
    bench = make_bench()
    assert not bench.manager.sync().changed
    assert bench.manager.active is None


def test_a_threshold_ends_when_its_certificate_expires(make_bench, make_release, certify):
    bench, release = make_bench(), make_release()
    bench.source.publish(release, certify(release, life_s=100))
    bench.manager.sync()
    assert bench.manager.active.threshold(bench.clock() + 99) == 0.7
    assert bench.manager.active.threshold(bench.clock() + 100) is None


def test_a_clock_from_before_the_certificate_cannot_tell_that_it_holds(make_bench, make_release, certify):
    bench, release = make_bench(), make_release()
    bench.source.publish(release, certify(release, life_s=100))
    bench.manager.sync()
    issued_at = bench.manager.active.statement.issued_at
    assert bench.manager.active.threshold(issued_at - 3600.0) == 0.7  # a clock that is a little behind
    assert bench.manager.active.threshold(issued_at - 3601.0) is None
    assert bench.manager.active.threshold(0.0) is None  # a board that lost its time


def test_a_certificate_without_a_threshold_leaves_none(make_bench, make_release, certify):
    bench, release = make_bench(), make_release()
    bench.source.publish(release, certify(release, index=None))
    bench.manager.sync()
    assert bench.manager.active.statement.state == "none"
    assert bench.manager.active.threshold(bench.clock()) is None


def refuses(bench, match: str) -> None:
    """A refusal leaves what is active, what is stored, and the next good release untouched."""
    before, stored = bench.manager.active, bench.store.installed.get()
    with pytest.raises(VerificationError, match=match):
        bench.manager.sync()
    assert bench.manager.active is before
    assert bench.store.installed.get() == stored


@pytest.fixture
def running(make_bench, make_release, certify):
    bench, release = make_bench(), make_release(scale=1.0, version=5)
    bench.source.publish(release, certify(release, round_number=5))
    bench.manager.sync()
    return bench


def test_an_older_or_equal_version_is_refused(running, make_release, certify):
    for version in (4, 5):
        release = make_release(scale=3.0, version=version)
        running.source.publish(release, certify(release, round_number=6))
        refuses(running, f"has version {version}, this device has version 5")
    newer = make_release(scale=3.0, version=6)
    running.source.publish(newer, certify(newer, round_number=6))
    assert running.manager.sync().changed


def test_a_certificate_for_another_release_is_refused(running, make_release, certify):
    other, newer = make_release(scale=9.0, version=9), make_release(scale=3.0, version=6)
    running.source.publish(newer, certify(other, round_number=6))
    refuses(running, "is for release")
    running.source.publish(newer, certify(newer, round_number=6, speaks_of=other.release_id))
    refuses(running, "speaks of release")


def test_a_certificate_under_another_key_is_refused(running, make_release, certify):
    newer = make_release(scale=3.0, version=6)
    running.source.publish(newer, certify(newer, round_number=6, key=Ed25519PrivateKey.generate()))
    refuses(running, "does not verify")


def test_a_certificate_never_goes_back(running, make_release, certify):
    release = running.source.releases[running.manager.active.loaded.release_id]
    running.source.publish(release, certify(release, round_number=4, index=0))
    refuses(running, "older than")
    running.source.publish(release, certify(release, round_number=5, index=0, issued_at=1_767_225_599))
    refuses(running, "older than")
    newer = make_release(scale=3.0, version=6)
    running.source.publish(newer, certify(newer, round_number=4))
    refuses(running, "older than")


def test_a_withdrawn_certificate_leaves_no_threshold_and_is_not_taken_back(running, certify):
    release = running.source.releases[running.manager.active.loaded.release_id]
    running.source.publish(release, None)
    running.manager.sync()
    assert running.manager.active.threshold(running.clock()) is None
    assert running.manager.active.publication == 5
    running.source.publish(release, certify(release, round_number=4))
    refuses(running, "older than")


def test_a_newer_certificate_of_the_same_release_replaces_the_threshold(running, certify):
    release = running.source.releases[running.manager.active.loaded.release_id]
    fetched = len(running.source.fetched)
    running.source.publish(release, certify(release, round_number=6, index=4))
    assert running.manager.sync().changed
    assert running.manager.active.threshold(running.clock()) == 0.9
    assert len(running.source.fetched) == fetched


def test_a_release_with_an_altered_file_is_refused(running, make_release):
    newer = make_release(scale=3.0, version=6)
    bad = replace(newer, files={**newer.files, "infer.onnx": newer.files["infer.onnx"][:-1] + b"\0"})
    running.source.publish(bad)
    refuses(running, "hash")


def test_a_release_under_another_key_is_refused(running, make_release):
    newer = make_release(scale=3.0, version=6)
    running.source.publish(replace(newer, signature=bytes(64)))
    refuses(running, "does not verify")


def test_a_source_that_sends_another_release_is_refused(running, make_release):
    newer, other = make_release(scale=3.0, version=6), make_release(scale=4.0, version=7)
    running.source.releases[newer.release_id] = other
    running.source.desired = Latest(newer.release_id, None)
    refuses(running, "asked for release")


def test_a_release_that_this_machine_computes_differently_is_refused(running, make_release):
    running.source.publish(make_release(scale=3.0, version=6, shift=0.1))
    refuses(running, "self-test")


def test_a_source_that_cannot_be_reached_changes_nothing(running, monkeypatch):
    def unreachable():
        raise FedgeError("no route")

    monkeypatch.setattr(running.source, "latest", unreachable)
    before = running.manager.active
    with pytest.raises(FedgeError, match="no route"):
        running.manager.sync()
    assert running.manager.active is before


def test_a_candidate_is_loaded_beside_the_active_release(running, make_release):
    active = running.manager.active
    candidate = make_release(scale=3.0, version=6)
    running.source.releases[candidate.release_id] = candidate
    loaded, downloaded = running.manager.obtain(candidate.release_id)
    assert downloaded > 0
    assert running.manager.obtain(candidate.release_id) == (loaded, 0)
    assert running.manager.active is active
    assert running.manager.obtain(active.loaded.release_id) == (active.loaded, 0)
    # promoting it costs nothing more
    running.source.publish(candidate)
    assert running.manager.sync().downloaded_bytes == 0


def test_a_device_that_restarts_goes_on_without_the_network(
    make_release, certify, release_key, loader, make_bench, tmp_path
):
    source, store = make_bench().source, open_memory()
    release = make_release()
    source.publish(release, certify(release, round_number=3))

    def manager():
        shelf = FolderShelf(tmp_path, release_key.public_key())
        return ReleaseManager(source, shelf=shelf, store=store, loader=ReleaseLoader(release_key.public_key()))

    first = manager()
    assert not first.restore()
    first.sync()
    source.fetched.clear()
    again = manager()
    assert again.restore()
    assert again.active.threshold(1_767_225_600.0) == 0.7
    assert again.active.publication == 3
    assert not again.sync().changed
    assert source.fetched == []
    assert [path.name for path in tmp_path.iterdir()] == [release.release_id]


def test_only_the_installed_release_stays_on_the_shelf(make_release, release_key, loader, make_bench, tmp_path):
    source = make_bench().source
    shelf = FolderShelf(tmp_path, release_key.public_key())
    manager = ReleaseManager(source, shelf=shelf, store=open_memory(), loader=loader)
    (tmp_path / "notes").mkdir()
    for version in (1, 2):
        release = make_release(scale=version, version=version)
        source.publish(release)
        manager.sync()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([release.release_id, "notes"])


def test_a_damaged_shelf_is_refused_at_the_start(make_release, release_key, loader, make_bench, tmp_path):
    source, store, release = make_bench().source, open_memory(), make_release()
    source.publish(release)
    shelf = FolderShelf(tmp_path, release_key.public_key())
    ReleaseManager(source, shelf=shelf, store=store, loader=loader).sync()
    (tmp_path / release.release_id / "infer.onnx").write_bytes(b"not a model")
    with pytest.raises(VerificationError):
        ReleaseManager(source, shelf=shelf, store=store, loader=loader).restore()


def test_a_fleet_verifies_and_loads_a_release_once(make_release, loader, make_bench, monkeypatch):
    source, shelf, release = make_bench().source, SharedShelf(), make_release()
    source.publish(release)
    managers = [ReleaseManager(source, shelf=shelf, store=open_memory(), loader=loader) for _ in range(5)]
    # One release's bytes in memory, as a simulated fleet has them.
    pieces = source.fetch(release.release_id, set())
    monkeypatch.setattr(source, "fetch", lambda *_: pieces)
    for manager in managers:
        manager.sync()
    assert len({id(manager.active.loaded) for manager in managers}) == 1


def test_nothing_of_a_release_is_read_before_its_signature_held(loader):
    with pytest.raises(VerificationError, match="signature"):
        loader.load(b"not even JSON", bytes(64), {})


def test_equal_looking_bytes_that_are_other_objects_are_verified_again(make_release, loader):
    release = make_release()
    files = {release.manifest.files[name]: data for name, data in release.files.items()}
    manifest = release.manifest.to_bytes()
    loaded = loader.load(manifest, release.signature, files)
    assert loader.load(manifest, release.signature, files) is loaded
    altered = {**files, release.manifest.files["infer.onnx"]: b"other bytes under the same name"}
    with pytest.raises(VerificationError):
        loader.load(manifest, release.signature, altered)
    without = {key: data for key, data in files.items() if key != release.manifest.files["infer.onnx"]}
    with pytest.raises(VerificationError):
        loader.load(manifest, release.signature, without)
