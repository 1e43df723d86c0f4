"""A release in memory and as a folder: manifest, signature and the two files whose hashes the manifest lists.

Writing is all or nothing (a folder of another name, then one rename). Reading verifies everything before it returns
anything. A release holds no code: an ONNX graph from an allow-list and plain arrays. What trains them is
the device's own (`fedge.architectures`).
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedge.errors import InputError, VerificationError
from fedge.release.encoder import encoder_sha256
from fedge.release.manifest import FILE_NAMES, INFER, MAX_MANIFEST_BYTES, WEIGHTS, Manifest
from fedge.release.onnx_checks import MAX_MODEL_BYTES, check_model
from fedge.release.signing import SIGNATURE_BYTES, sign, verify
from fedge.release.weights import (
    MAX_WEIGHTS_BYTES,
    Weights,
    read_safetensors,
    structure_sha256,
    weights_sha256,
)

MANIFEST_NAME, SIGNATURE_NAME = "manifest.json", "manifest.sig"
RELEASE_DOMAIN = "fedge/release/1"
_CAPS = {
    MANIFEST_NAME: MAX_MANIFEST_BYTES,
    SIGNATURE_NAME: SIGNATURE_BYTES,
    INFER: MAX_MODEL_BYTES,
    WEIGHTS: MAX_WEIGHTS_BYTES,
}


@dataclass(frozen=True, slots=True)
class Release:
    """A manifest, the files that it lists, and the release key's signature on the manifest's bytes."""

    manifest: Manifest
    files: Mapping[str, bytes]
    signature: bytes

    @property
    def release_id(self) -> str:
        """The manifest's content address."""
        return self.manifest.release_id

    def weights(self) -> Weights:
        """The trainable tensors (a fresh copy)."""
        return read_safetensors(self.files[WEIGHTS])


def file_hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """Hex SHA-256 of each file, as ``Manifest.files`` wants them."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def missing_files(manifest: Manifest, have: Container[str]) -> tuple[str, ...]:
    """Names of the files whose hash is not in ``have``: all that a device must download."""
    return tuple(name for name in FILE_NAMES if manifest.files[name] not in have)


def sign_release(manifest: Manifest, files: Mapping[str, bytes], release_key: Ed25519PrivateKey) -> Release:
    """A signed release, verified as a device will verify it. Raises VerificationError when the parts do not fit."""
    release = Release(manifest, dict(files), sign(release_key, RELEASE_DOMAIN, manifest.to_bytes()))
    verify_release(release, release_key.public_key())
    return release


def verify_release(release: Release, release_key: Ed25519PublicKey) -> None:
    """Signature, hashes, weights, model and base. Raises VerificationError that names the first thing that fails."""
    verify(release_key, RELEASE_DOMAIN, release.manifest.to_bytes(), release.signature)
    if set(release.files) != set(FILE_NAMES):
        raise VerificationError(f"release: holds {sorted(release.files)}, expected {sorted(FILE_NAMES)}")
    for name in FILE_NAMES:
        if len(release.files[name]) > _CAPS[name]:
            raise VerificationError(f"release: {name} has {len(release.files[name])} bytes, over {_CAPS[name]}")
        if hashlib.sha256(release.files[name]).hexdigest() != release.manifest.files[name]:
            raise VerificationError(f"release: {name} does not have the hash that the manifest lists")
    weights = read_safetensors(release.files[WEIGHTS])
    if weights_sha256(weights) != release.manifest.weights_sha256:
        raise VerificationError("release: the weights do not have the hash that the manifest lists")
    if structure_sha256(weights) != release.manifest.structure_sha256:
        raise VerificationError("release: the weights do not have the structure that the manifest lists")
    try:
        check_model(release.files[INFER])
        encoder = encoder_sha256(release.files[INFER])
    except VerificationError as error:
        raise VerificationError(f"{INFER}: {error}") from None
    if encoder != release.manifest.encoder_sha256:
        raise VerificationError("release: the encoder does not have the hash that the manifest lists")


def write_release(folder: Path, release: Release, *, replace: bool = False) -> None:
    """Writes ``release`` as ``folder`` at once. Raises InputError where something else stands and ``replace`` is false."""
    contents = {
        MANIFEST_NAME: release.manifest.to_bytes(),
        SIGNATURE_NAME: release.signature,
        **{name: release.files[name] for name in FILE_NAMES},
    }
    if folder.exists() and not replace:
        if all((folder / name).is_file() and (folder / name).read_bytes() == data for name, data in contents.items()):
            return
        raise InputError(f"{folder} exists and holds something else: choose another folder or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new = staging / "new"
        new.mkdir()
        for name, data in contents.items():
            with (new / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():
            folder.rename(staging / "old")
        new.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def read_release(folder: Path, release_key: Ed25519PublicKey) -> Release:
    """The release in ``folder``, fully verified; other files in it are ignored. Raises VerificationError."""
    contents = {name: _read(folder / name, _CAPS[name]) for name in (MANIFEST_NAME, SIGNATURE_NAME, *FILE_NAMES)}
    return assemble_release(contents.pop(MANIFEST_NAME), contents.pop(SIGNATURE_NAME), contents, release_key=release_key)


def assemble_release(
    manifest: bytes, signature: bytes, files: Mapping[str, bytes], *, release_key: Ed25519PublicKey
) -> Release:
    """A verified release from its parts as they came over the wire. Raises VerificationError."""
    verify(release_key, RELEASE_DOMAIN, manifest, signature)  # before anything is parsed
    release = Release(Manifest.from_bytes(manifest), dict(files), signature)
    verify_release(release, release_key)
    return release


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise VerificationError(f"release: cannot read {path}: {error.strerror}") from None
    if len(data) > max_bytes:
        raise VerificationError(f"release: {path} is larger than {max_bytes} bytes")
    return data
