"""What a release is made of: manifest, signed documents, certificate, weights, models, folder, keys, canonical JSON."""

import json
import struct
import sys
from pathlib import Path

import onnx
from program import Program, edited_bytes, edited_json
from sessions import altered
from table import Target, scratch

from fedge.errors import InputError
from fedge.features import features_from_mapping
from fedge.release import (
    INFER,
    WEIGHTS,
    CertificateDocument,
    Manifest,
    SignedDocument,
    assemble_release,
    check_model,
    file_hashes,
    read_release,
    read_safetensors,
    save_private_key,
    save_public_key,
    sign,
    write_release,
)
from fedge.release.canonical import from_canonical, to_canonical
from fedge.release.folder import MANIFEST_NAME, RELEASE_DOMAIN, SIGNATURE_NAME
from fedge.release.signing import load_private_key, load_public_key
from fedge.routing import CertificateStatement, GridTest, RunningBound, clopper_pearson_upper, statement

sys.path.append(str(Path(__file__).parents[1] / "release"))

from parts import RELEASE_KEY, some_release

RELEASE = some_release()
MANIFEST = RELEASE.manifest.to_bytes()
STATEMENT = statement(
    grid=GridTest(20, 0.8, 600, 10, clopper_pearson_upper(10, 600, 0.050000000000000044), 9),
    running=RunningBound(1500, 30),
    release_id=RELEASE.release_id,
    round=7,
    max_risk=0.05,
    tolerance=0.03,
    confidence=0.95,
    probes_are_new=True,
    probe_rate=0.1,
    issued_at=1_790_000_000,
    expires_at=1_790_086_400,
).to_bytes()
DOCUMENT = CertificateDocument.sign(RELEASE_KEY, RELEASE.release_id, STATEMENT).to_bytes()
SIGNED = SignedDocument.sign(RELEASE_KEY, "fedge/fuzz/1", b"payload").to_bytes()


def spelled(value):
    """Canonical bytes, or another spelling where the value has none."""
    try:
        return to_canonical(value)
    except InputError:
        return json.dumps(value).encode()


def edited_document(document, program):
    """A JSON document with its members edited and spelled canonically again."""
    return spelled(edited_json(json.loads(document), program))


def canonical(data):
    value = from_canonical(data, what="fuzz", max_bytes=4_096)
    assert to_canonical(value) == data


def manifest(data):
    """Bytes as they are, or after a first byte of 1 a program that edits a manifest."""
    read = Manifest.from_bytes(edited_document(MANIFEST, Program(data[1:])) if data[:1] == b"\1" else data)
    features_from_mapping(read.features)


def features(data):
    kinds = [{"kind": "pixels", "size": 2}, {"kind": "text", "buckets": 64, "max_tokens": 8, "word_ngrams": 2}]
    program = Program(data)
    mapping = edited_json({**kinds[program.number(2)]} | {"char_ngrams": [3, 5]}, program)
    if isinstance(mapping, dict):
        if mapping.get("kind") == "pixels":
            mapping.pop("char_ngrams", None)
        features_from_mapping(mapping)


def signed_document(data):
    SignedDocument.from_bytes(data).open(RELEASE_KEY.public_key(), "fedge/fuzz/1")


def certificate(data):
    """A certificate document; after a first byte of 1 its statement is edited and signed again."""
    if data[:1] == b"\1":
        payload = edited_document(STATEMENT, Program(data[1:]))
        data = CertificateDocument.sign(RELEASE_KEY, RELEASE.release_id, payload).to_bytes()
    document = CertificateDocument.from_bytes(data)
    CertificateStatement.from_bytes(document.verify(RELEASE_KEY.public_key(), RELEASE.release_id))


def certificate_statement(data):
    CertificateStatement.from_bytes(data)


def weights(data):
    """A safetensors file; after a first byte of 1 a program edits its header, whose length is made to fit again."""
    if data[:1] == b"\1":
        program = Program(data[1:])
        whole = RELEASE.files[WEIGHTS]
        (length,) = struct.unpack("<Q", whole[:8])
        header = json.dumps(edited_json(json.loads(whole[8 : 8 + length]), program)).encode()
        data = struct.pack("<Q", len(header)) + header + whole[8 + length :]
    read_safetensors(data)


def model(data):
    """An ONNX file; after a first byte of 1 or 2 a program edits the release's own model."""
    if data[:1] in (b"\1", b"\2"):
        original = RELEASE.files[INFER]
        data = altered(onnx.ModelProto.FromString(original), Program(data[1:]))
    check_model(data)


def assembled(data):
    """A whole release of which the manifest or one file is edited; hashes and signature are made to fit again."""
    program = Program(data)
    files = dict(RELEASE.files)
    mapping = json.loads(MANIFEST)
    match program.number(4):
        case 0:
            mapping = edited_json(mapping, program)
        case 1:
            files[WEIGHTS] = edited_bytes(files[WEIGHTS], program)
        case 2:
            files[INFER] = altered(onnx.ModelProto.FromString(files[INFER]), program)
        case _:
            files.pop((INFER, WEIGHTS)[program.number(2)])
    if isinstance(mapping, dict) and len(files) == 2 and files != RELEASE.files:
        mapping["files"] = file_hashes(files)
    data = spelled(mapping)
    signature = sign(RELEASE_KEY, RELEASE_DOMAIN, data)
    assemble_release(data, signature, files, release_key=RELEASE_KEY.public_key())


FOLDER = scratch("release")
write_release(FOLDER / "release", RELEASE)
save_private_key(FOLDER / "private.pem", RELEASE_KEY)
save_public_key(FOLDER / "public.pem", RELEASE_KEY.public_key())
PRIVATE, PUBLIC = ((FOLDER / name).read_bytes() for name in ("private.pem", "public.pem"))


def folder(data):
    """The release's folder with one of its files edited."""
    program = Program(data)
    name = (MANIFEST_NAME, SIGNATURE_NAME, INFER, WEIGHTS)[program.number(4)]
    path = FOLDER / "release" / name
    whole = path.read_bytes()
    path.write_bytes(edited_bytes(whole, program))
    try:
        read_release(FOLDER / "release", RELEASE_KEY.public_key())
    finally:
        path.write_bytes(whole)


def private_key_file(data):
    (FOLDER / "private.pem").write_bytes(data)
    load_private_key(FOLDER / "private.pem")


def public_key_file(data):
    (FOLDER / "public.pem").write_bytes(data)
    load_public_key(FOLDER / "public.pem")


TARGETS = {
    "release.canonical": Target(decode=canonical, seeds=(MANIFEST, b'{"a":[1,2.5,null]}'), runs=6_000),
    "release.manifest": Target(decode=manifest, seeds=(MANIFEST, b"\1"), runs=2_000),
    "release.features": Target(decode=features, seeds=(b"", b"\1")),
    "release.document": Target(decode=signed_document, seeds=(SIGNED,)),
    "release.certificate": Target(decode=certificate, seeds=(DOCUMENT, b"\1"), runs=2_000),
    "release.statement": Target(decode=certificate_statement, seeds=(STATEMENT,), runs=2_000),
    "release.weights": Target(decode=weights, seeds=(RELEASE.files[WEIGHTS], b"\1")),
    "release.model": Target(decode=model, seeds=(RELEASE.files[INFER], b"\1", b"\2")),
    "release.assembled": Target(decode=assembled, seeds=(b"", b"\1", b"\2"), runs=300),
    "release.folder": Target(decode=folder, seeds=(b"", b"\2", b"\4"), runs=300),
    "release.private_key": Target(decode=private_key_file, seeds=(PRIVATE,), runs=2_000),
    "release.public_key": Target(decode=public_key_file, seeds=(PUBLIC,), runs=2_000),
}
