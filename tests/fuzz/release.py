"""What a release is made of: manifest, signed documents, certificate, weights, models, the folder, keys and canonical JSON."""

import json
import struct
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import onnx
from program import Program, edited_bytes
from sessions import altered
from table import Target

from fedge.errors import InputError
from fedge.features import features_from_mapping
from fedge.release import (
    INFER,
    STEP,
    WEIGHTS,
    CertificateDocument,
    Manifest,
    SignedDocument,
    assemble_release,
    check_model,
    file_hashes,
    read_safetensors,
    sign,
    weights_sha256,
    write_safetensors,
)
from fedge.release.canonical import from_canonical, to_canonical
from fedge.release.folder import MANIFEST_NAME, RELEASE_DOMAIN, SIGNATURE_NAME, read_release
from fedge.release.signing import load_private_key, load_public_key
from fedge.routing import certify_grid  # noqa: F401
