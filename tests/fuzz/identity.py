"""Who is who: enrolment requests, X.509 certificates, the trust root, the revocation list, and reports of devices."""

import json

from google.protobuf.message import DecodeError
from program import Program, edited_bytes, edited_json
from release import spelled
from sessions import altered, private_key, verify_certificate
from sessions import certificate as issued
from table import Target, scratch

from aggregator.fleet.enrollment import Enrolment
from fedge.errors import FedgeError
from fedge.identity import EnrolmentRequest, RevocationList, TrustRoot, check_device_id, load_identity, request_certificate
from fedge.identity.enrolment import ENROLMENT_DOMAIN, _claim
from fedge.identity.revocation import REVOCATION_DOMAIN
from fedge.presence import Presence
from fedge.release import SignedDocument, save_private_key, sign
from protos.fedge.fleet.v1 import presence_pb2 as pb

AUTHORITY, DEVICE = private_key("authority"), private_key("device-01")
REQUEST = request_certificate("authority", "device-01", DEVICE).to_bytes()
CERTIFICATE = issued("device-01")
TRUST = TrustRoot("authority", *(private_key(name).public_key() for name in ("authority", "release", "round"))).to_bytes()
REVOCATIONS = RevocationList(2, 1_000.0, frozenset({"device-02", "device-03"})).sign(AUTHORITY)
REPORT = Presence(release="ab" * 32, given_up="cd" * 32, supply="battery", sensor="ina219", profile="p", queue=7).to_proto()
HOME = scratch("identity")
ENROLMENT = Enrolment(HOME / "authority", AUTHORITY, ca_name="authority")


def request(data):
    EnrolmentRequest.from_bytes(data).verify()


def enrolment(data):
    """A request edited and, where it is still one, proven again: what the authority itself is handed."""
    mapping = edited_json(json.loads(REQUEST), Program(data))
    try:
        claim = _claim(mapping["ca_name"], mapping["device_id"], bytes.fromhex(mapping["public_key"]))
        mapping["proof"] = sign(DEVICE, ENROLMENT_DOMAIN, claim).hex()
    except (TypeError, KeyError, ValueError, AttributeError, FedgeError):
        pass
    ENROLMENT.issue(spelled(mapping), now=1_000.0)


def certificate(data):
    verify_certificate(data)


def signed_certificate(data):
    """A certificate whose signed part is edited and signed again by the authority."""
    inner, algorithm = _parts(CERTIFICATE)
    inner = edited_bytes(inner, Program(data))
    signature = AUTHORITY.sign(inner)
    verify_certificate(_wrapped(0x30, inner + algorithm + _wrapped(0x03, b"\0" + signature)))


def _parts(der):
    """(the signed part, the algorithm's identifier) of a certificate, each with its own DER header."""
    start = _header(der, 0)
    middle = _end(der, start)
    return der[start:middle], der[middle : _end(der, middle)]


def _header(der, at):
    return at + 2 + (der[at + 1] & 0x7F if der[at + 1] & 0x80 else 0)


def _end(der, at):
    size = der[at + 1]
    if size & 0x80:
        size = int.from_bytes(der[at + 2 : _header(der, at)], "big")
    return _header(der, at) + size


def _wrapped(tag, content):
    return (
        bytes([tag, 0x82]) + len(content).to_bytes(2, "big") + content
        if len(content) > 127
        else bytes([tag, len(content)]) + content
    )


def stored_identity(data):
    (HOME / "device").mkdir(exist_ok=True)
    key = HOME / "device" / "identity.pem"
    if not key.exists():
        save_private_key(key, DEVICE)
    (HOME / "device" / "identity.der").write_bytes(data)
    load_identity(HOME / "device", AUTHORITY.public_key(), now=1_000.0)


def trust(data):
    """A trust root; after a first byte of 1 a program edits one."""
    TrustRoot.from_bytes(spelled(edited_json(json.loads(TRUST), Program(data[1:]))) if data[:1] == b"\1" else data)


def revocations(data):
    """A signed list; after a first byte of 1 its payload is edited and signed again."""
    if data[:1] == b"\1":
        payload = SignedDocument.from_bytes(REVOCATIONS).payload
        edited = spelled(edited_json(json.loads(payload), Program(data[1:])))
        data = SignedDocument.sign(AUTHORITY, REVOCATION_DOMAIN, edited).to_bytes()
    RevocationList.verify(data, AUTHORITY.public_key(), not_older_than=500.0)


def presence(data):
    """A report: bytes, or after a first byte of 1 a program that edits one."""
    message = pb.ReportRequest()
    try:
        message.ParseFromString(altered(REPORT, Program(data[1:])) if data[:1] == b"\1" else data)
    except DecodeError as error:  # what gRPC itself refuses never reaches fedge
        raise FedgeError("gRPC refuses it") from error
    assert Presence.from_proto(message).to_proto().ByteSize() < 400


def device_id(data):
    check_device_id(data.decode("utf-8", "surrogateescape"))


TARGETS = {
    "identity.request": Target(decode=request, seeds=(REQUEST,)),
    "identity.enrolment": Target(decode=enrolment, seeds=(b"",), runs=200),
    "identity.certificate": Target(decode=certificate, seeds=(CERTIFICATE,)),
    "identity.signed_certificate": Target(decode=signed_certificate, seeds=(b"",)),
    "identity.stored": Target(decode=stored_identity, seeds=(CERTIFICATE,), runs=1_000),
    "identity.trust": Target(decode=trust, seeds=(TRUST, b"\1")),
    "identity.revocations": Target(decode=revocations, seeds=(REVOCATIONS, b"\1"), runs=2_000),
    "identity.presence": Target(decode=presence, seeds=(REPORT.SerializeToString(), b"\1")),
    "identity.device_id": Target(decode=device_id, seeds=(b"device-01",)),
}
