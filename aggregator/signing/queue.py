"""The server's side: rounds wait for signatures, a request says what is wanted, and a reply is checked and put to use.

Nothing here can read an enrollment or release key.
"""

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aggregator.fleet.authority import Authority
from aggregator.fleet.published import publish
from aggregator.releases.publication import tuf_repository
from aggregator.releases.registry import ReleaseRegistry
from aggregator.releases.signer import SigningInterruptedError
from aggregator.releases.tuf_repository import offered_targets
from aggregator.settings import ServerHome
from aggregator.signing.documents import (
    Pending,
    SigningReply,
    SigningRequest,
    UnsignedCertificate,
    UnsignedRelease,
    read_document,
)
from fedge.errors import InputError
from fedge.identity import TrustRoot
from fedge.identity.files import make_private_folder
from fedge.release import CANARY, STABLE, CertificateDocument, ChannelPointer, Manifest, Release, verify_release
from fedge.release.channels import file_path, pointer_path

POLL_S = 0.5
DAY_S = 24 * 3600.0
VISIT_DAYS = 5.0
"""A visit is due when the list of revocations is this old: devices want one of at most seven days."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SignatureQueue:
    """A `ReleaseSigner` that waits for the signing machine. ``folder`` holds what a round waits for, and the reply."""

    folder: Path
    release_key: Ed25519PublicKey
    stop: Event = field(default_factory=Event)
    poll_s: float = POLL_S

    @property
    def pending_file(self) -> Path:
        """What a round waits for."""
        return self.folder / "pending.json"

    @property
    def reply_file(self) -> Path:
        """The last reply that was imported."""
        return self.folder / "reply.json"

    def pending(self) -> Pending:
        """Return what a round waits for; an empty value where none does."""
        return read_document(Pending, self.pending_file) if self.pending_file.is_file() else Pending()

    def clear(self) -> None:
        """Forget what a round waited for that is no more."""
        self.pending_file.unlink(missing_ok=True)
        self.reply_file.unlink(missing_ok=True)

    def sign_release(self, manifest: Manifest, files: Mapping[str, bytes]) -> Release:
        """Wait until the signing machine has signed the release. Raises SigningInterruptedError."""
        unsigned = UnsignedRelease(manifest=manifest.to_bytes(), files=dict(files))
        release_id = hashlib.sha256(unsigned.manifest).hexdigest()
        what = f"release {release_id[:12]} (version {manifest.version})"
        signature = self._wait(Pending(release=unsigned), what, release_id).signature
        release = Release(manifest, dict(files), signature or b"")
        verify_release(release, self.release_key)
        return release

    def sign_certificate(self, release_id: str, statement: bytes) -> CertificateDocument:
        """Wait until the signing machine has signed the statement. Raises SigningInterruptedError."""
        pending = Pending(certificate=UnsignedCertificate(release_id=release_id, statement=statement))
        reply = self._wait(pending, f"the certificate of release {release_id[:12]}", release_id)
        document = CertificateDocument.from_bytes(reply.certificate or b"")
        if document.verify(self.release_key, release_id) != statement:
            raise InputError(f"the reply's certificate of release {release_id[:12]} is another one than was asked for")
        return document

    def answers(self, reply: SigningReply) -> bool:
        """Return whether a reply has the signature that a round waits for. Raises VerificationError for a wrong one."""
        pending = self.pending()
        if pending.release is not None and reply.signature is not None:
            release = Release(
                Manifest.from_bytes(pending.release.manifest), dict(pending.release.files), reply.signature
            )
            if release.release_id != reply.release_id:
                return False
            verify_release(release, self.release_key)
            return True
        if pending.certificate is not None and reply.certificate is not None:
            document = CertificateDocument.from_bytes(reply.certificate)
            if document.release_id != pending.certificate.release_id:
                return False
            return document.verify(self.release_key, document.release_id) == pending.certificate.statement
        return False

    def _wait(self, pending: Pending, what: str, release_id: str) -> SigningReply:
        make_private_folder(self.folder)
        self.clear()
        pending.write(self.pending_file)
        _log.warning("%s awaits its signature: run `fedge keys export`, and `fedge keys sign` on the signing machine", what)
        while not self.reply_file.is_file():
            if self.stop.wait(self.poll_s):
                raise SigningInterruptedError(f"{what} was not signed before the rounds were stopped: the round is given up")
        reply = read_document(SigningReply, self.reply_file)
        self.clear()
        return reply


@dataclass(frozen=True, slots=True)
class SplitServer:
    """A server whose enrollment and release keys are on another machine."""

    home: ServerHome

    def export(self) -> SigningRequest:
        """Return everything that is to be signed now. Raises InputError where the keys were not split."""
        authority, registry, settings = self._authority(), self._registry(), self.home.settings()
        pending = self._queue().pending()
        targets = offered_targets(registry)
        if pending.release is not None:
            _add_release(targets, pending.release)
        if pending.certificate is not None:
            _point_to(targets, registry, pending.certificate.release_id, canary_share=settings.releases.canary_share)
        return SigningRequest(
            federation=authority.trust().ca_name,
            devices=authority.awaiting(),
            revoked={
                device.device_id: device.reason or "" for device, _ in authority.devices() if device.revoked_at is not None
            },
            targets_version=tuf_repository(self.home, settings).targets_version(),
            targets=targets,
            root=tuf_repository(self.home, settings).root(),
            pending=pending,
        )

    def take(self, reply: SigningReply) -> list[str]:
        """Verify a reply and put it to use; return what was done, for people. Raises InputError and VerificationError."""
        authority, registry, settings, queue = self._authority(), self._registry(), self.home.settings(), self._queue()
        now, repository = time.time(), tuf_repository(self.home, settings)
        is_awaited = queue.answers(reply)
        authority.take_signed(reply.revocations, list(reply.certificates), now=now)
        publish(authority, self.home, settings.names, now=now)
        done = [f"{len(reply.certificates)} certificates of devices are stored"]
        if reply.root is not None:
            repository.take_root(reply.root)
            done.append("the TUF root is renewed")
        if reply.targets is not None:
            repository.take_signed(reply.targets)
            if repository.publish(registry):
                done.append("what was decided about releases is offered to devices")
        if is_awaited:
            reply.write(queue.reply_file)
            done.append(f"the round that waited for a signature on {(reply.release_id or '')[:12]} goes on")
        elif reply.signature is not None or reply.certificate is not None:
            done.append("no round waits for the signature in this reply any more: it is left unused")
        return done

    def awaits(self) -> list[str]:
        """Return what waits for the signing machine, for people."""
        authority, pending, now = self._authority(), self._queue().pending(), time.time()
        count = len(authority.awaiting())
        waiting = [f"{count} {'device' if count == 1 else 'devices'} to enroll"] if count else []
        listed = authority.trust().read_revocations(authority.signed_revocations(now=now), now)
        age_days = (now - listed.issued_at) / DAY_S
        waiting += [f"the list of revocations, which is {age_days:.0f} days old"] if age_days > VISIT_DAYS else []
        waiting += ["a release"] if pending.release is not None else []
        waiting += ["a certificate"] if pending.certificate is not None else []
        if not waiting and tuf_repository(self.home, self.home.settings()).lacks(self._registry()):
            waiting.append("a decision about a release")
        return waiting

    def _authority(self) -> Authority:
        authority = Authority(self.home.authority)
        if not authority.is_presigned:
            raise InputError(f"{self.home.folder} holds its enrollment and release keys itself: see `fedge keys split`")
        return authority

    def _registry(self) -> ReleaseRegistry:
        return ReleaseRegistry(self.home.registry, TrustRoot.from_bytes(self.home.trust.read_bytes()).release_key)

    def _queue(self) -> SignatureQueue:
        return SignatureQueue(self.home.signing, TrustRoot.from_bytes(self.home.trust.read_bytes()).release_key)


def _add_release(targets: dict[str, bytes], release: UnsignedRelease) -> None:
    targets[file_path(hashlib.sha256(release.manifest).hexdigest())] = release.manifest
    for data in release.files.values():
        targets[file_path(hashlib.sha256(data).hexdigest())] = data


def _point_to(targets: dict[str, bytes], registry: ReleaseRegistry, release_id: str, *, canary_share: float) -> None:
    """Let the channels say what the round will decide: the certified release for all, or for the canary first.

    A wrong guess costs another visit: the server offers only what its registry says.
    """
    is_tried_first = 0 < canary_share < 1 and registry.active() != release_id
    version = Manifest.from_bytes(registry.manifest(release_id)[0]).version
    for channel in (CANARY,) if is_tried_first else (STABLE, CANARY):
        old = ChannelPointer.from_bytes(targets[pointer_path(channel)])
        share = canary_share if is_tried_first else 0.0
        pointer = ChannelPointer(
            release_id=release_id, version=version, certificate=None, share=share, withdrawn=old.withdrawn
        )
        targets[pointer_path(channel)] = pointer.to_bytes()

