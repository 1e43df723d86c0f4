import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from aggregator.releases.registry import Move, RegisteredRelease, ReleaseRegistry
from fedge.errors import InputError, VerificationError
from fedge.release import (
    FILE_NAMES,
    WEIGHTS,
    CertificateDocument,
    Manifest,
    Release,
    assemble_release,
    missing_files,
)


@pytest.fixture(scope="module")
def releases(parts):
    """Three releases of the same models, each with other weights."""
    return [parts.some_release(float(version), version=version) for version in (1, 2, 3)]


@pytest.fixture
def registry(parts, tmp_path):
    return ReleaseRegistry(tmp_path / "registry", parts.RELEASE_KEY.public_key())


def states(registry):
    return [entry.state for entry in registry.releases()]


def test_an_empty_registry_has_nothing_to_offer(registry):
    assert (registry.active(), registry.latest_candidate(), registry.releases()) == (None, None, [])
    with pytest.raises(InputError, match="no release"):
        registry.manifest("00" * 32)
    with pytest.raises(InputError, match="no file"):
        registry.file("00" * 32)
    for name in ("../registry.sqlite", "", "AB" * 32):
        with pytest.raises(InputError, match="not a SHA-256"):
            registry.file(name)


def test_a_release_goes_from_candidate_to_active_and_comes_back_whole(registry, releases, parts, tmp_path):
    release_id = registry.publish(releases[0], at=1.0)
    assert registry.publish(releases[0], at=2.0) == release_id == releases[0].release_id
    assert (registry.latest_candidate(), registry.active()) == (release_id, None)
    registry.promote(release_id, at=3.0, reason="canary fine")
    again = ReleaseRegistry(tmp_path / "registry", parts.RELEASE_KEY.public_key())
    assert (again.latest_candidate(), again.active()) == (None, release_id)
    assert again.release(release_id) == releases[0]
    assert again.releases() == [RegisteredRelease(release_id, 1, "active", False)]
    assert again.history() == [
        Move(release_id, "candidate", 1.0, "published"),
        Move(release_id, "active", 3.0, "canary fine"),
    ]


def test_a_device_downloads_only_the_files_that_it_lacks(registry, releases, parts):
    for release in releases[:2]:
        registry.publish(release, at=1.0)
    have = {releases[0].manifest.files[name]: releases[0].files[name] for name in FILE_NAMES}
    manifest, signature = registry.manifest(releases[1].release_id)
    wanted = Manifest.from_bytes(manifest)
    lacking = missing_files(wanted, have)
    assert lacking == (WEIGHTS,)
    have |= {wanted.files[name]: registry.file(wanted.files[name]) for name in lacking}
    files = {name: have[digest] for name, digest in wanted.files.items()}
    assert assemble_release(manifest, signature, files, release_key=parts.RELEASE_KEY.public_key()) == releases[1]


def test_promotion_retires_the_active_release_and_rejects_older_candidates(registry, releases):
    ids = [registry.publish(release, at=1.0) for release in releases]
    registry.promote(ids[0], at=2.0, reason="first")
    registry.promote(ids[2], at=3.0, reason="better")
    assert states(registry) == ["retired", "rejected", "active"]
    assert registry.active() == ids[2]
    for release_id in ids:
        with pytest.raises(InputError, match="not candidate"):
            registry.promote(release_id, at=4.0, reason="again")


def test_a_rollback_goes_back_to_the_last_good_release_and_says_why(registry, releases):
    ids = [registry.publish(releases[0], at=1.0)]
    with pytest.raises(InputError, match="no earlier release"):
        registry.rollback(at=1.0, reason="x")
    registry.promote(ids[0], at=1.0, reason="first")
    with pytest.raises(InputError, match="no earlier release"):
        registry.rollback(at=1.0, reason="x")
    ids.append(registry.publish(releases[1], at=2.0))
    registry.promote(ids[1], at=2.0, reason="second")
    assert registry.rollback(at=3.0, reason="errors rose") == ids[0]
    assert states(registry) == ["active", "rolled_back"]
    assert registry.history()[-2:] == [
        Move(ids[1], "rolled_back", 3.0, "errors rose"),
        Move(ids[0], "active", 3.0, f"rollback of {ids[1][:12]}: errors rose"),
    ]


def test_a_version_below_one_that_was_active_is_never_published_again(registry, releases, parts):
    registry.promote(registry.publish(releases[1], at=1.0), at=1.0, reason="")
    with pytest.raises(InputError, match="version 1"):
        registry.publish(releases[0], at=2.0)
    with pytest.raises(InputError, match="version 2"):
        registry.publish(parts.some_release(9.0, version=2), at=2.0)
    assert len(registry.releases()) == 1


def test_a_round_that_is_repeated_after_a_crash_may_publish_its_version_again(registry, parts):
    registry.publish(parts.some_release(1.0, version=1), at=1.0)
    second = registry.publish(parts.some_release(2.0, version=1), at=2.0)
    registry.promote(second, at=3.0, reason="")
    assert states(registry) == ["rejected", "active"]


def test_what_does_not_verify_is_not_stored(registry, releases, parts):
    forged = parts.some_release(key=parts.OTHER_KEY)
    mixed = Release(releases[0].manifest, {**releases[0].files, WEIGHTS: b""}, releases[0].signature)
    for bad in (forged, mixed):
        with pytest.raises(VerificationError):
            registry.publish(bad, at=1.0)
    assert registry.releases() == []


def test_the_newest_certificate_of_a_release_counts(registry, releases, parts):
    release_id = registry.publish(releases[0], at=1.0)
    assert registry.certificate(release_id) is None
    first, second = (CertificateDocument.sign(parts.RELEASE_KEY, release_id, text) for text in (b"a", b"b"))
    registry.add_certificate(first, at=2.0)
    registry.add_certificate(second, at=3.0)
    assert registry.certificate(release_id) == second
    assert registry.releases()[0].has_certificate
    with pytest.raises(VerificationError):
        registry.add_certificate(CertificateDocument.sign(parts.OTHER_KEY, release_id, b"c"), at=4.0)
    with pytest.raises(InputError, match="no release"):
        registry.add_certificate(CertificateDocument.sign(parts.RELEASE_KEY, "00" * 32, b"d"), at=4.0)
    assert registry.certificate(release_id) == second


def test_a_damaged_file_is_found_and_not_handed_out(registry, releases, tmp_path):
    release_id = registry.publish(releases[0], at=1.0)
    path = tmp_path / "registry" / "files" / releases[0].manifest.files[WEIGHTS]
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(VerificationError, match="damaged"):
        registry.release(release_id)


def test_pruning_keeps_what_is_in_use_and_a_pruned_release_cannot_return(registry, releases):
    for release in releases:
        registry.promote(registry.publish(release, at=1.0), at=1.0, reason="")
    assert registry.prune(keep=2) == 1
    assert registry.prune(keep=0) == 1
    assert registry.release(releases[2].release_id) == releases[2]
    with pytest.raises(InputError, match="no file"):
        registry.release(releases[1].release_id)
    with pytest.raises(InputError, match="pruned"):
        registry.rollback(at=2.0, reason="x")
    assert states(registry) == ["retired", "retired", "active"]
    registry.publish(releases[1], at=3.0)
    assert registry.rollback(at=4.0, reason="x") == releases[1].release_id


@pytest.fixture
def machine(parts, releases, tmp_path_factory):
    class RegistryMachine(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.registry = ReleaseRegistry(tmp_path_factory.mktemp("r"), parts.RELEASE_KEY.public_key())
            self.at = 0.0

        def attempt(self, action):
            before = self.registry.history()
            self.at += 1.0
            try:
                action()
            except InputError:
                assert self.registry.history() == before

        @rule(index=st.integers(0, 2))
        def publish(self, index):
            self.attempt(lambda: self.registry.publish(releases[index], at=self.at))

        @rule(index=st.integers(0, 2))
        def promote(self, index):
            self.attempt(lambda: self.registry.promote(releases[index].release_id, at=self.at, reason="p"))

        @rule(index=st.integers(0, 2))
        def reject(self, index):
            self.attempt(lambda: self.registry.reject(releases[index].release_id, at=self.at, reason="r"))

        @precondition(lambda self: self.registry.active())
        @rule()
        def rollback(self):
            self.attempt(lambda: self.registry.rollback(at=self.at, reason="b"))

        @invariant()
        def states_follow_from_the_history(self):
            last = {move.release_id: move.state for move in self.registry.history()}
            assert last == {entry.release_id: entry.state for entry in self.registry.releases()}
            active = [release_id for release_id, state in last.items() if state == "active"]
            assert active == ([self.registry.active()] if self.registry.active() else [])

        @invariant()
        def what_was_active_once_leaves_something_active(self):
            if any(move.state == "active" for move in self.registry.history()):
                assert self.registry.active()

    return RegistryMachine


def test_any_order_of_operations_leaves_at_most_one_active_release_and_a_true_history(machine):
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)),
    )
