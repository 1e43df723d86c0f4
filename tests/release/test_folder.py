import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedge.errors import InputError, VerificationError
from fedge.release import (
    FILE_NAMES,
    WEIGHTS,
    Release,
    assemble_release,
    file_hashes,
    missing_files,
    read_release,
    sign,
    sign_release,
    verify_release,
    write_release,
    write_safetensors,
)
from fedge.release.folder import RELEASE_DOMAIN

NAMES = ("manifest.json", "manifest.sig", *FILE_NAMES)


@pytest.fixture(scope="module")
def release(parts):
    return parts.some_release()


@pytest.fixture(scope="module")
def key(parts):
    return parts.RELEASE_KEY.public_key()


@pytest.fixture
def folder(release, tmp_path):
    write_release(tmp_path / "r", release)
    return tmp_path / "r"


def test_a_release_comes_back_from_its_folder(release, key, folder):
    again = read_release(folder, key)
    assert again == release
    assert again.release_id == release.release_id
    assert write_safetensors(again.weights()) == release.files[WEIGHTS]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["r"]


def test_writing_again_changes_nothing_and_another_release_needs_consent(parts, release, key, folder):
    write_release(folder, release)
    other = parts.some_release(2.0)
    with pytest.raises(InputError, match="exists"):
        write_release(folder, other)
    assert read_release(folder, key) == release
    write_release(folder, other, replace=True)
    assert read_release(folder, key) == other
    assert sorted(path.name for path in folder.parent.iterdir()) == ["r"]


def test_a_failed_write_leaves_the_old_release(parts, release, key, folder):
    other = parts.some_release(2.0)
    broken = Release(other.manifest, {**other.files, WEIGHTS: "not bytes"}, other.signature)
    with pytest.raises(TypeError):
        write_release(folder, broken, replace=True)
    assert read_release(folder, key) == release
    assert sorted(path.name for path in folder.parent.iterdir()) == ["r"]


def test_another_key_does_not_open_it(parts, folder, release):
    with pytest.raises(VerificationError, match="signature"):
        read_release(folder, parts.OTHER_KEY.public_key())
    forged = parts.some_release(key=parts.OTHER_KEY)
    with pytest.raises(VerificationError, match="signature"):
        verify_release(forged, parts.RELEASE_KEY.public_key())


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(folder, key, name):
    (folder / name).unlink()
    with pytest.raises(VerificationError, match=name):
        read_release(folder, key)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_folder_gives_the_original_or_a_verification_error(folder, release, key, name, data):
    path = folder / name
    original = path.read_bytes()
    start = data.draw(st.integers(0, len(original)))
    stop = data.draw(st.integers(start, min(len(original), start + 6)))
    mutated = original[:start] + data.draw(st.binary(max_size=6)) + original[stop:]
    path.write_bytes(mutated)
    try:
        found = read_release(folder, key)
    except VerificationError:
        assert mutated != original
    else:
        assert found == release
        assert mutated == original
    finally:
        path.write_bytes(original)


def test_files_of_two_releases_cannot_be_mixed(parts, release, key):
    other = parts.some_release(2.0)
    mixed = Release(release.manifest, {**release.files, WEIGHTS: other.files[WEIGHTS]}, release.signature)
    with pytest.raises(VerificationError, match="weights"):
        verify_release(mixed, key)
    with pytest.raises(VerificationError, match="holds"):
        verify_release(Release(release.manifest, {**release.files, "run.py": b""}, release.signature), key)


def test_a_release_whose_parts_do_not_fit_cannot_be_signed(parts):
    weights = parts.some_weights()
    files = {"infer.onnx": parts.infer_model(), WEIGHTS: write_safetensors(weights)}
    manifest = parts.manifest_of(files, weights)
    broken = {**files, "infer.onnx": b"no model"}
    with pytest.raises(VerificationError, match=r"infer\.onnx"):
        sign_release(dataclasses.replace(manifest, files=file_hashes(broken)), broken, parts.RELEASE_KEY)
    with pytest.raises(VerificationError, match="encoder does not have the hash"):
        sign_release(parts.manifest_of(files, weights, encoder_sha256="00" * 32), files, parts.RELEASE_KEY)
    with pytest.raises(VerificationError, match="weights do not have the hash"):
        sign_release(parts.manifest_of(files, parts.some_weights(2.0)), files, parts.RELEASE_KEY)
    with pytest.raises(InputError, match="structure"):
        sign_release(parts.manifest_of(files, weights, structure_sha256="00" * 32), files, parts.RELEASE_KEY)


def test_a_device_asks_only_for_files_that_it_lacks(parts, release, key):
    newer = parts.some_release(2.0, version=2)
    have = {digest: release.files[name] for name, digest in file_hashes(release.files).items()}
    assert missing_files(newer.manifest, have) == (WEIGHTS,)
    assert missing_files(release.manifest, have) == ()
    assert missing_files(newer.manifest, {}) == FILE_NAMES
    files = {name: have.get(newer.manifest.files[name], newer.files[name]) for name in FILE_NAMES}
    assert assemble_release(newer.manifest.to_bytes(), newer.signature, files, release_key=key) == newer


def test_a_manifest_is_not_parsed_before_its_signature_holds(parts, key):
    with pytest.raises(VerificationError, match="signature"):
        assemble_release(b"[" * 100_000, b"\0" * 64, {}, release_key=key)
    text = b"not a manifest"
    with pytest.raises(VerificationError, match="not JSON"):
        assemble_release(text, sign(parts.RELEASE_KEY, RELEASE_DOMAIN, text), {}, release_key=key)
