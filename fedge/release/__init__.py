"""What is shipped to a device: manifest, weights, models, certificate document, and the signatures on them."""

from fedge.release.canonical import from_canonical, require_keys, to_canonical
from fedge.release.channels import CANARY, CHANNELS, STABLE, ChannelPointer, in_canary
from fedge.release.document import CertificateDocument, SignedDocument
from fedge.release.encoder import encoder_sha256
from fedge.release.folder import (
    Release,
    assemble_release,
    file_hashes,
    missing_files,
    read_release,
    sign_release,
    verify_release,
    write_release,
)
from fedge.release.manifest import FILE_NAMES, INFER, WEIGHTS, Confidence, Manifest, SelfTest
from fedge.release.onnx_checks import check_model
from fedge.release.signing import (
    load_private_key,
    load_public_key,
    save_private_key,
    save_public_key,
    sign,
    verify,
)
from fedge.release.weights import (
    Weights,
    flatten,
    read_safetensors,
    structure_sha256,
    unflatten,
    weights_sha256,
    write_safetensors,
)

__all__ = [
    "CANARY",
    "CHANNELS",
    "FILE_NAMES",
    "INFER",
    "STABLE",
    "WEIGHTS",
    "CertificateDocument",
    "ChannelPointer",
    "Confidence",
    "Manifest",
    "Release",
    "SelfTest",
    "SignedDocument",
    "Weights",
    "assemble_release",
    "check_model",
    "encoder_sha256",
    "file_hashes",
    "flatten",
    "from_canonical",
    "in_canary",
    "load_private_key",
    "load_public_key",
    "missing_files",
    "read_release",
    "read_safetensors",
    "require_keys",
    "save_private_key",
    "save_public_key",
    "sign",
    "sign_release",
    "structure_sha256",
    "to_canonical",
    "unflatten",
    "verify",
    "verify_release",
    "weights_sha256",
    "write_release",
    "write_safetensors",
]
