"""The signing machine: it holds the enrollment key and the release keys, and no server ever reaches it.

What it signs it verifies first, as a device would, and against what it signed before: a request comes from a server that may
be in other hands. What no check can tell, a person compares: the fingerprint of a new device's key.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # not in an __all__
from tuf.api.metadata import Metadata, Root, TargetFile, Targets  # type: ignore[attr-defined]  # not in an __all__

from aggregator.fleet.enrollment import Enrolment
from aggregator.releases.tuf_keys import root_signers
from aggregator.releases.tuf_repository import Lifetimes, read_root
from aggregator.signing.documents import Blob, Document, SigningReply, SigningRequest, read_document
from fedge.errors import InputError, VerificationError
from fedge.identity import EnrolmentRequest, TrustRoot, key_fingerprint
from fedge.identity.files import read_file
from fedge.printable import printable
from fedge.release import (
    CHANNELS,
    CertificateDocument,
    ChannelPointer,
    Manifest,
    Release,
    assemble_release,
    load_private_key,
    sign_release,
)
from fedge.release.channels import file_path, pointer_path, signature_path
from fedge.routing.statement import CertificateStatement

DAY_S = 24 * 3600.0
ROOT_RENEWED_S = 90 * DAY_S
"""The TUF root is signed anew when less of its life is left."""
BASE = (
    "workload",
    "labels",
    "oos_label",
    "features",
    "architecture",
    "encoder_sha256",
    "structure_sha256",
    "threshold_grid",
    "confidence",
    "training",
)
"""What a round never changes in a manifest."""


class SigningState(Document):
    """What the signing machine remembers: the newest targets that it signed, and the manifest of its newest release."""

    targets_version: int
    manifest: Blob
    certificate_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What a person has agreed to. ``devices``: the fingerprint of each device to enroll, by id."""

    devices: Mapping[str, str] = field(default_factory=dict)
    releases: bool = False
    new_base: bool = False
    revoked: Collection[str] = ()


class SigningMachine:
    """The folder that `fedge keys split` made. Raises InputError for one that cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._trust = TrustRoot.from_bytes(read_file(folder / "trust.json"))
        identity = load_private_key(folder / "identity.pem")
        self._release_key = load_private_key(folder / "release.pem")
        self._targets_key = load_private_key(folder / "targets.pem")
        public = self._trust.authority_key, self._trust.release_key
        if (identity.public_key(), self._release_key.public_key()) != public:
            raise InputError(f"{folder}: the keys are not those that trust.json names: restore the folder from its copy")
        self._enrolment = Enrolment(folder, identity, ca_name=self._trust.ca_name)

    def devices(self, request: SigningRequest) -> dict[str, EnrolmentRequest]:
        """Return the requests of new devices, by id, whose proofs hold. Raises VerificationError for any other."""
        found: dict[str, EnrolmentRequest] = {}
        for data in request.devices:
            wish = EnrolmentRequest.from_bytes(data)
            wish.verify()
            if wish.ca_name != self._trust.ca_name:
                raise VerificationError(f"the request of {wish.device_id} is for federation {wish.ca_name[:64]!r}")
            found[wish.device_id] = wish
        return found

    def describe(self, request: SigningRequest) -> list[str]:
        """Return one line for each thing that waits, for the person who decides. Raises VerificationError."""
        self._check_federation(request)
        lines = [
            f"enroll {device}: key {key_fingerprint(wish.public_key)}" for device, wish in self.devices(request).items()
        ]
        lines += [f"revoke {device}: {_one_line(request.revoked[device])}" for device in self._to_revoke(request)]
        state = self._state()
        if request.pending.release is not None:
            unsigned = request.pending.release
            release = sign_release(Manifest.from_bytes(unsigned.manifest), unsigned.files, self._release_key)
            lines.append(_describe_release(release, state))
        if request.pending.certificate is not None:
            statement = _read_statement(request.pending.certificate.statement, request.pending.certificate.release_id)
            lines.append(
                f"certify {statement.release_id[:12]}, round {statement.round}: {statement.state}, "
                f"threshold {statement.threshold}, {statement.disagreed} of {statement.seen} probes disagree, "
                f"risk at most {statement.grid_bound}"
            )
        for channel in CHANNELS:
            pointer = ChannelPointer.from_bytes(_target(request.targets, pointer_path(channel)))
            lines.append(f"channel {channel}: release {(pointer.release_id or 'none')[:12]} (version {pointer.version})")
        return lines

    def sign(self, request: SigningRequest, approval: Approval, *, now: float, days: float) -> SigningReply:
        """Sign what was approved, and certificates ahead for ``days`` days for all devices that are enrolled.

        Raises InputError and VerificationError; then nothing is signed or remembered.
        """
        self._check_federation(request)
        wishes = self.devices(request)
        for device, fingerprint in approval.devices.items():
            if device not in wishes:
                raise InputError(f"--accept {device}: this request has no such device; it has {', '.join(wishes) or 'none'}")
            found = key_fingerprint(wishes[device].public_key)
            if found != fingerprint:
                raise VerificationError(
                    f"--accept {device}: the request is for the key {found}, not {fingerprint}: somebody else asks in the "
                    "device's name, or the fingerprint is mistyped"
                )
        signed = self._sign_releases(request, approval, now=now) if approval.releases else {}
        for device in approval.devices:
            self._enrolment.issue(wishes[device].to_bytes(), now=now)
        for device in {*self._to_revoke(request), *approval.revoked}:
            self._enrolment.revoke(device, now=now, reason=request.revoked.get(device, "revoked on the signing machine"))
        return SigningReply(
            revocations=self._enrolment.signed_revocation_list(now=now),
            certificates=self._enrolment.issue_ahead(
                now=now, until=now + days * DAY_S, lifetime_s=self._state().certificate_s
            ),
            **signed,
        )

    def _sign_releases(self, request: SigningRequest, approval: Approval, *, now: float) -> dict[str, str | bytes | None]:
        targets, pending, state = dict(request.targets), request.pending, self._state()
        release_id = signature = certificate = None
        if pending.release is not None:
            manifest = Manifest.from_bytes(pending.release.manifest)
            _check_release(manifest, state, targets, new_base=approval.new_base)
            release = sign_release(manifest, pending.release.files, self._release_key)
            release_id, signature = release.release_id, release.signature
            targets[file_path(release_id)], targets[signature_path(release_id)] = pending.release.manifest, signature
            state = state.model_copy(update={"manifest": pending.release.manifest})
        if pending.certificate is not None:
            release_id, statement = pending.certificate.release_id, pending.certificate.statement
            _read_statement(statement, release_id)
            certificate = CertificateDocument.sign(self._release_key, release_id, statement).to_bytes()
            _add_certificate(targets, release_id, certificate)
        _check_targets(targets, self._release_key)
        version = 1 + max(request.targets_version, state.targets_version)
        metadata = Targets(
            version=version,
            expires=_moment(now + Lifetimes().targets_days * DAY_S),
            targets={path: TargetFile.from_data(path, data, ["sha256"]) for path, data in targets.items()},
        )
        signed = _signed(metadata, [CryptoSigner(self._targets_key)])
        state.model_copy(update={"targets_version": version}).write(self.folder / "state.json")
        return {
            "targets": signed,
            "release_id": release_id,
            "signature": signature,
            "certificate": certificate,
            "root": self._renewed_root(request.root, now=now),
        }

    def _renewed_root(self, data: bytes, *, now: float) -> bytes | None:
        """Return the next TUF root, with the same keys, where the present one runs out soon."""
        root = read_root(data)
        if root.expires.timestamp() - now > ROOT_RENEWED_S:
            return None
        signers = [one for one in root_signers(self.folder / "root") if one.public_key.keyid in root.roles["root"].keyids]
        root.version, root.expires = root.version + 1, _moment(now + Lifetimes().root_days * DAY_S)
        return _signed(root, signers)

    def _check_federation(self, request: SigningRequest) -> None:
        if request.federation != self._trust.ca_name:
            raise InputError(
                f"the request is of federation {request.federation[:64]!r}, the keys are of {self._trust.ca_name!r}"
            )

    def _to_revoke(self, request: SigningRequest) -> list[str]:
        return [
            one.device_id for one in self._enrolment.devices() if one.revoked_at is None and one.device_id in request.revoked
        ]

    def _state(self) -> SigningState:
        return read_document(SigningState, self.folder / "state.json")


def _one_line(text: str) -> str:
    """Return the server's words as they cannot pass for lines of ours."""
    return printable(" ".join(text[:200].split()))


def _describe_release(release: Release, state: SigningState) -> str:
    manifest = release.manifest
    metrics = json.dumps(dict(manifest.metrics), sort_keys=True)
    changed = _changed_base(manifest, state)
    base = f"ANOTHER BASE ({', '.join(changed)} differ)" if changed else "the same base as the last one"
    return (
        f"sign release {release.release_id[:12]}, version {manifest.version} after {(manifest.parent or 'none')[:12]}: "
        f"{base}, weights {manifest.weights_sha256[:12]}, {metrics}"
    )


def _changed_base(manifest: Manifest, state: SigningState) -> list[str]:
    last = Manifest.from_bytes(state.manifest)
    return [name for name in BASE if getattr(manifest, name) != getattr(last, name)]


def _check_release(manifest: Manifest, state: SigningState, targets: Mapping[str, bytes], *, new_base: bool) -> None:
    """Raise VerificationError for a release that no round of this federation can have made."""
    if (changed := _changed_base(manifest, state)) and not new_base:
        raise VerificationError(
            f"release version {manifest.version} has another {', '.join(changed)} than the last one: rounds change the head "
            "alone. If you made a new base yourself, give --new-base"
        )
    active = ChannelPointer.from_bytes(_target(targets, pointer_path("stable")))
    if manifest.version <= active.version:
        raise VerificationError(f"release version {manifest.version} is not above {active.version}, which devices run")


def _read_statement(statement: bytes, release_id: str) -> CertificateStatement:
    """Return the statement, once its claims are shown to follow from its counts. Raises VerificationError."""
    read = CertificateStatement.from_bytes(statement)
    if read.release_id != release_id:
        raise VerificationError(f"the statement is about release {read.release_id[:12]}, not {release_id[:12]}")
    return read


def _add_certificate(targets: dict[str, bytes], release_id: str, certificate: bytes) -> None:
    digest = hashlib.sha256(certificate).hexdigest()
    targets[file_path(digest)] = certificate
    for channel in CHANNELS:
        pointer = ChannelPointer.from_bytes(_target(targets, pointer_path(channel)))
        if pointer.release_id == release_id:
            targets[pointer_path(channel)] = replace(pointer, certificate=digest).to_bytes()


def _check_targets(targets: Mapping[str, bytes], release_key: Ed25519PrivateKey) -> None:
    """Raise VerificationError unless each channel leads to a release and certificate that this machine signed."""
    public = release_key.public_key()
    pointers = {pointer_path(channel) for channel in CHANNELS}
    for path, data in targets.items():
        if path not in pointers and not path.startswith("signatures/") and path != file_path(_digest(data)):
            raise VerificationError(f"target {path[:100]!r} is no file, signature or channel of fedge")
    for path in sorted(pointers):
        pointer = ChannelPointer.from_bytes(_target(targets, path))
        if pointer.release_id is None:
            continue
        manifest = _target(targets, file_path(pointer.release_id))
        if _digest(manifest) != pointer.release_id:
            raise VerificationError(f"{path}: release {pointer.release_id[:12]} is another one")
        files = {name: _target(targets, file_path(digest)) for name, digest in Manifest.from_bytes(manifest).files.items()}
        signature = _target(targets, signature_path(pointer.release_id))
        release = assemble_release(manifest, signature, files, release_key=public)
        if release.manifest.version != pointer.version:
            raise VerificationError(f"{path}: says version {pointer.version}, the release {release.manifest.version}")
        if pointer.certificate is not None:
            document = CertificateDocument.from_bytes(_target(targets, file_path(pointer.certificate)))
            document.verify(public, pointer.release_id)


def _target(targets: Mapping[str, bytes], path: str) -> bytes:
    if path not in targets:
        raise VerificationError(f"the request lacks {path[:100]}")
    return targets[path]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _signed(signed: Root | Targets, signers: list[CryptoSigner]) -> bytes:
    metadata: Metadata[Any] = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    data: bytes = metadata.to_bytes()
    return data


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC).replace(microsecond=0)
