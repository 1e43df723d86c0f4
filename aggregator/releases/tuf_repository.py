"""The TUF repository: what the registry says, in the form that devices trust without trusting who hands it to them.

Every file of a release is one target named by its hash, so that a file that did not change is not downloaded again; two
small pointers say which release each channel is at. The release key signs what is offered, the snapshot and timestamp keys
that it is whole and fresh; the root, kept offline, names those keys. Several processes may work on one repository: a lock
file keeps them apart. Nothing here judges a release: the registry did.

The files of a TUF repository's folder, and nothing of keys: written whole or not at all, old ones removed after a while.

metadata/  1.root.json ... N.targets.json N.snapshot.json timestamp.json
targets/   files/ and channels/, each file under its hash and name
"""

import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # not in an __all__
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # not in an __all__
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from aggregator.releases.registry import ReleaseRegistry
from aggregator.releases.tuf_keys import (
    ONLINE,
    Online,
    keep_beside,
    make_online,
    make_root_keys,
    online_signer,
    root_signers,
    settle_online,
)
from fedge.errors import InputError, VerificationError
from fedge.release import CANARY, CHANNELS, STABLE, ChannelPointer, Manifest
from fedge.release.channels import MAX_WITHDRAWN, file_path, pointer_path, signature_path

T = TypeVar("T", Root, Snapshot, Targets, Timestamp)

_VERSIONED = re.compile(r"([0-9]+)\.(root|targets|snapshot)\.json")
OLD_FILES_S = 24 * 3600.0
"""Files that nothing names any more stay this long, for devices that are in the middle of a download."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file durably; a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, staging = tempfile.mkstemp(prefix=".", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(staging).chmod(0o644)
    Path(staging).replace(path)


class MetadataFolder:
    """Reads and writes the four roles and the targets of one repository."""

    def __init__(self, folder: Path) -> None:
        self.metadata = folder / "metadata"
        self.targets = folder / "targets"

    @property
    def root_file(self) -> Path:
        """The newest root's file. Raises InputError where there is none."""
        versions = [int(path.name.partition(".")[0]) for path in self.metadata.glob("*.root.json")]
        if not versions:
            raise InputError(f"{self.metadata} holds no TUF repository: run `fedge server init`")
        return self.metadata / f"{max(versions)}.root.json"

    def root(self) -> Metadata[Root]:
        """The newest root."""
        return self._read(self.root_file, Root)

    def timestamp(self) -> Metadata[Timestamp]:
        """The present timestamp."""
        return self._read(self.metadata / "timestamp.json", Timestamp)

    def snapshot(self) -> Metadata[Snapshot]:
        """The snapshot that the timestamp names."""
        version = self.timestamp().signed.snapshot_meta.version
        return self._read(self.metadata / f"{version}.snapshot.json", Snapshot)

    def offered(self) -> Metadata[Targets]:
        """The targets that the snapshot names."""
        version = self.snapshot().signed.meta["targets.json"].version
        return self._read(self.metadata / f"{version}.targets.json", Targets)

    def write_metadata(self, name: str, data: bytes) -> None:
        """Put a metadata file in place."""
        write_whole(self.metadata / name, data)

    def write_target(self, target: TargetFile, data: bytes) -> None:
        """Put a target in place where it is not there yet."""
        path = self._target_path(target)
        if not (path.is_file() and path.stat().st_size == len(data)):
            write_whole(path, data)

    def has_target(self, target: TargetFile) -> bool:
        """Return whether a target's file is in place."""
        return self._target_path(target).is_file()

    def remove_old(self, *, named: Collection[TargetFile], now: float) -> None:
        """Remove targets that nobody names and superseded metadata, once they are a day old; never a root."""
        current = {f"{self.snapshot().signed.version}.snapshot.json", f"{self.offered().signed.version}.targets.json"}
        keep = {self._target_path(target) for target in named}
        for path in self.metadata.iterdir():
            match = _VERSIONED.fullmatch(path.name)
            if match and match[2] != "root" and path.name not in current:
                _remove_if_old(path, now)
        for path in self.targets.glob("*/*"):
            if path not in keep:
                _remove_if_old(path, now)

    def _target_path(self, target: TargetFile) -> Path:
        return self.targets / target.get_prefixed_paths()[0]

    @staticmethod
    def _read(path: Path, kind: type[T]) -> Metadata[T]:
        try:
            metadata = Metadata[T].from_bytes(path.read_bytes())
        except (OSError, DeserializationError) as error:
            raise InputError(f"{path} cannot be read: {error}") from None
        if not isinstance(metadata.signed, kind):
            raise InputError(f"{path} is not {kind.type} metadata")
        return metadata


def _remove_if_old(path: Path, now: float) -> None:
    try:
        if now - path.stat().st_mtime > OLD_FILES_S:
            path.unlink()
    except FileNotFoundError:
        pass


_DAY_S = 24 * 3600.0
_SIGNED = "signed-targets.json"
_RENEWED_AT = 0.5
"""A signature is renewed when less than this part of its life is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """Days until each role's metadata expires. The timestamp's is how long a device can be kept from seeing news."""

    root_days: float = 365.0
    targets_days: float = 180.0
    snapshot_days: float = 7.0
    timestamp_days: float = 1.0

    def days(self, role: str) -> float:
        """Of ``root``, ``targets``, ``snapshot`` or ``timestamp``."""
        return float(getattr(self, f"{role}_days"))


class TufRepository:
    """One repository in a folder: ``repository/`` is public, ``keys/`` is the server's, ``root/`` belongs offline."""

    def __init__(self, folder: Path, *, lifetimes: Lifetimes | None = None, clock: Callable[[], float] = time.time) -> None:
        self.public = folder / "repository"
        self.keys = folder / "keys"
        self.root_keys = folder / "root"
        self._folder = folder
        self._lifetimes = lifetimes or Lifetimes()
        self._clock = clock
        self._files = MetadataFolder(self.public)

    @property
    def exists(self) -> bool:
        """Whether there is a repository."""
        return (self.public / "metadata" / "timestamp.json").is_file()

    def create(self, *, root_keys: int = 1, threshold: int = 1) -> None:
        """Makes keys and an empty repository; ``threshold`` of ``root_keys`` must sign a change of the root.

        Raises InputError where there is one already.
        """
        if not 1 <= threshold <= root_keys:
            raise InputError(f"a threshold of {threshold} does not fit {root_keys} root keys")
        if self._files.metadata.is_dir() and any(self._files.metadata.glob("*.root.json")):
            raise InputError(f"{self.public} holds a TUF repository already")
        with self._locked():
            signers = make_root_keys(self.root_keys, root_keys)
            root = Root(expires=self._expiry("root"), consistent_snapshot=True)
            root.roles["root"].threshold = threshold
            for signer in signers:
                root.add_key(signer.public_key, "root")
            for role in ONLINE:
                root.add_key(make_online(self.keys, role).public_key, role)
            self._write_root(root, signers, beside=self.root_keys)
            nothing = ChannelPointer(release_id=None, version=0, certificate=None, share=0.0)
            offered = {pointer_path(channel): nothing.to_bytes() for channel in CHANNELS}
            targets = Targets(expires=self._expiry("targets"), targets=self._put(offered))
            snapshot, timestamp = Snapshot(), Timestamp()
            snapshot.version = timestamp.version = 0  # writing counts up
            self._write_online(root, targets, snapshot, timestamp)

    def root(self) -> bytes:
        """The newest root metadata: what a device is given when it joins."""
        return self._files.root_file.read_bytes()

    def publish(self, registry: ReleaseRegistry) -> bool:
        """Offer what the registry says now; False, and nothing is signed, where that is offered already.

        Where the release key is on another machine it is offered once that has signed it (`take_signed`).
        Safe to repeat: after a crash between registry and repository the next call puts things right.
        """
        with self._locked():
            offered = offered_targets(registry)
            old = self._files.offered().signed
            named = self._put(offered)
            if not self.signs_targets:
                changed = self._publish_signed(named, old)
            elif changed := named != old.targets:
                targets = Targets(version=old.version + 1, expires=self._expiry("targets"), targets=named)
                root = self._files.root().signed
                self._write_online(root, targets, self._files.snapshot().signed, self._files.timestamp().signed)
            kept = [*named.values(), *self._files.offered().signed.targets.values()]
            self._files.remove_old(named=kept, now=self._clock())
        return changed

    @property
    def signs_targets(self) -> bool:
        """Whether the key of the targets is at hand."""
        return any(self.keys.glob("release.key*"))

    def targets_version(self) -> int:
        """Return the version of the targets that are offered."""
        return int(self._files.offered().signed.version)

    def lacks(self, registry: ReleaseRegistry) -> bool:
        """Return whether something that the registry says is not offered yet."""
        return _lacks(_named(offered_targets(registry)), self._files.offered().signed)

    def take_root(self, data: bytes) -> None:
        """Take the next root, which another machine signed with the present root keys. Raises VerificationError."""
        with self._locked():
            present, following = self._files.root().signed, read_root(data)
            metadata = Metadata[Root].from_bytes(data)
            try:
                for root in (present, following):
                    root.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
            except RepositoryError as error:
                raise VerificationError(f"the new TUF root is not signed by the present one's keys: {error}") from None
            if following.version == present.version + 1:
                self._files.write_metadata(f"{following.version}.root.json", data)
            elif following.version > present.version:
                raise VerificationError(f"TUF root {following.version} does not follow root {present.version}")

    def take_signed(self, data: bytes) -> None:
        """Take targets that another machine signed; `publish` offers them. Raises VerificationError."""
        with self._locked():
            self._verify_targets(data)
            write_whole(self._folder / _SIGNED, data)

    def _publish_signed(self, named: Mapping[str, TargetFile], old: Targets) -> bool:
        path = self._folder / _SIGNED
        if not path.is_file():
            return False
        data = path.read_bytes()
        signed = self._verify_targets(data)
        is_newer = signed.version > old.version and not _lacks(named, signed)
        if not is_newer or not all(self._files.has_target(target) for target in signed.targets.values()):
            return False
        snapshot, timestamp = self._files.snapshot().signed, self._files.timestamp().signed
        self._write_targets(self._files.root().signed, signed.version, data, snapshot, timestamp)
        return True

    def _verify_targets(self, data: bytes) -> Targets:
        try:
            metadata = Metadata[Targets].from_bytes(data)
            self._files.root().signed.verify_delegate("targets", metadata.signed_bytes, metadata.signatures)
        except (DeserializationError, RepositoryError) as error:
            raise VerificationError(f"the signed targets do not verify under the TUF root: {error}") from None
        return metadata.signed

    def refresh(self) -> tuple[str, ...]:
        """Sign anew what has less than half of its life left; returns the roles. To be called every few minutes.

        The targets are signed anew only where their key is at hand.
        """
        with self._locked():
            root = self._files.root().signed
            targets, snapshot = self._files.offered().signed, self._files.snapshot().signed
            timestamp = self._files.timestamp().signed
            due = [role for role, expires in self._expiries() if self._due(role, expires)]
            if "targets" in due:
                targets.version, targets.expires = targets.version + 1, self._expiry("targets")
                self._write_online(root, targets, snapshot, timestamp)
                return ONLINE
            if "snapshot" in due:
                self._write_snapshot(root, snapshot, timestamp)
                return ("snapshot", "timestamp")
            if "timestamp" in due:
                self._write_timestamp(root, timestamp, timestamp.snapshot_meta)
            return tuple(due)

    def expires(self) -> Mapping[str, float]:
        """When each role's metadata expires, UNIX seconds."""
        root: datetime = self._files.root().signed.expires
        return {role: at.timestamp() for role, at in (("root", root), *self._expiries())}

    def rotate(
        self,
        *,
        root_keys: Path | None = None,
        new_root_keys: Path | None = None,
        count: int = 1,
        threshold: int | None = None,
        online: tuple[Online, ...] = (),
    ) -> int:
        """A new root, signed by the present root keys; returns its version. Devices follow the chain by themselves.

        ``new_root_keys``: a folder for ``count`` new root keys that take over. ``online``: roles that get a new key; the
        old one is worthless as soon as the new root is out. With neither, only the root's expiry is renewed.
        """
        root_keys = root_keys or self.root_keys
        with self._locked():
            root = self._files.root().signed
            signers = [s for s in root_signers(root_keys) if s.public_key.keyid in root.roles["root"].keyids]
            if len(signers) < root.roles["root"].threshold:
                raise InputError(
                    f"{root_keys} holds {len(signers)} of the root keys: {root.roles['root'].threshold} have to sign"
                )
            if new_root_keys is not None:
                signers += _replace_root_keys(root, make_root_keys(new_root_keys, count))
            root.roles["root"].threshold = _threshold(threshold, root)
            for role in online:
                for keyid in list(root.roles[role].keyids):
                    root.revoke_key(keyid, role)
                root.add_key(make_online(self.keys, role, following=True).public_key, role)
            root.version, root.expires = root.version + 1, self._expiry("root")
            self._write_root(root, signers, beside=new_root_keys or root_keys)
            settle_online(self.keys, online)
            if online:
                self._sign_again(root, by=1)
            return root.version

    def advance(self, by: int = 10_000) -> None:
        """Move all versions ahead, after a restored backup: no device then takes what is signed now for older than known."""
        with self._locked():
            self._sign_again(self._files.root().signed, by=by)

    # Signing and writing, always in the order in which devices must find things: the timestamp last.

    def _sign_again(self, root: Root, *, by: int) -> None:
        targets, snapshot = self._files.offered().signed, self._files.snapshot().signed
        timestamp = self._files.timestamp().signed
        targets.version, targets.expires = targets.version + by, self._expiry("targets")
        snapshot.version, timestamp.version = snapshot.version + by - 1, timestamp.version + by - 1
        self._write_online(root, targets, snapshot, timestamp)

    def _write_root(self, root: Root, signers: list[CryptoSigner], *, beside: Path) -> None:
        metadata = Metadata(root)
        for signer in signers:
            metadata.sign(signer, append=True)
        root.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
        self._files.write_metadata(f"{root.version}.root.json", metadata.to_bytes())
        keep_beside(beside, self._files.root_file)

    def _write_online(self, root: Root, targets: Targets, snapshot: Snapshot, timestamp: Timestamp) -> None:
        self._write_targets(root, targets.version, self._signed(root, "targets", targets), snapshot, timestamp)

    def _write_targets(self, root: Root, version: int, data: bytes, snapshot: Snapshot, timestamp: Timestamp) -> None:
        self._files.write_metadata(f"{version}.targets.json", data)
        snapshot.meta["targets.json"] = MetaFile.from_data(version, data, ["sha256"])
        self._write_snapshot(root, snapshot, timestamp)

    def _write_snapshot(self, root: Root, snapshot: Snapshot, timestamp: Timestamp) -> None:
        snapshot.version, snapshot.expires = snapshot.version + 1, self._expiry("snapshot")
        data = self._signed(root, "snapshot", snapshot)
        self._files.write_metadata(f"{snapshot.version}.snapshot.json", data)
        self._write_timestamp(root, timestamp, MetaFile.from_data(snapshot.version, data, ["sha256"]))

    def _write_timestamp(self, root: Root, timestamp: Timestamp, snapshot_meta: MetaFile) -> None:
        timestamp.snapshot_meta = snapshot_meta
        timestamp.version, timestamp.expires = timestamp.version + 1, self._expiry("timestamp")
        self._files.write_metadata("timestamp.json", self._signed(root, "timestamp", timestamp))

    def _signed(self, root: Root, role: Online, signed: Targets | Snapshot | Timestamp) -> bytes:
        metadata: Metadata[Any] = Metadata(signed)
        metadata.sign(online_signer(self.keys, role, root))
        return metadata.to_bytes()

    def _put(self, offered: Mapping[str, bytes]) -> dict[str, TargetFile]:
        named = _named(offered)
        for path, target in named.items():
            self._files.write_target(target, offered[path])
        return named

    def _expiries(self) -> list[tuple[Online, datetime]]:
        files = self._files
        return [
            ("targets", files.offered().signed.expires),
            ("snapshot", files.snapshot().signed.expires),
            ("timestamp", files.timestamp().signed.expires),
        ]

    def _due(self, role: Online, expires: datetime) -> bool:
        left_s = expires.timestamp() - self._clock()
        if role == "targets" and not self.signs_targets:
            return False
        return left_s < _RENEWED_AT * self._lifetimes.days(role) * _DAY_S

    def _expiry(self, role: str) -> datetime:
        at = self._clock() + self._lifetimes.days(role) * _DAY_S
        return datetime.fromtimestamp(at, UTC).replace(microsecond=0)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def read_root(data: bytes) -> Root:
    """Return the root in TUF metadata, whose signatures are the caller's to check. Raises VerificationError."""
    try:
        metadata = Metadata[Root].from_bytes(data)
    except DeserializationError as error:
        raise VerificationError(f"the TUF root cannot be read: {error}") from None
    if not isinstance(metadata.signed, Root):
        raise VerificationError("the TUF root is metadata of another role")
    return metadata.signed


def _named(offered: Mapping[str, bytes]) -> dict[str, TargetFile]:
    return {path: TargetFile.from_data(path, data, ["sha256"]) for path, data in offered.items()}


def _lacks(named: Mapping[str, TargetFile], targets: Targets) -> bool:
    return any(targets.targets.get(path) != target for path, target in named.items())


def offered_targets(registry: ReleaseRegistry) -> dict[str, bytes]:
    """Every target by its path: the two pointers, and the files of all candidates, the active release and the one before."""
    withdrawn = tuple(registry.withdrawn()[-MAX_WITHDRAWN:])
    canary = registry.canary()
    offered: dict[str, bytes] = {}
    stable = _pointer(registry, registry.active(), 0.0, withdrawn, offered)
    first = stable if canary is None else _pointer(registry, canary.release_id, canary.share, withdrawn, offered)
    offered[pointer_path(STABLE)], offered[pointer_path(CANARY)] = stable.to_bytes(), first.to_bytes()
    for release_id in _kept(registry):
        manifest, signature = registry.manifest(release_id)
        offered[file_path(release_id)], offered[signature_path(release_id)] = manifest, signature
        for digest in Manifest.from_bytes(manifest).files.values():
            offered[file_path(digest)] = registry.file(digest)
    return offered


def _pointer(
    registry: ReleaseRegistry, release_id: str | None, share: float, withdrawn: tuple[str, ...], offered: dict[str, bytes]
) -> ChannelPointer:
    """Where a channel points; the certificate's document is added to what is ``offered``."""
    if release_id is None:
        return ChannelPointer(release_id=None, version=0, certificate=None, share=share, withdrawn=withdrawn)
    certificate, document = None, registry.certificate(release_id)
    if document is not None:
        data = document.to_bytes()
        certificate = hashlib.sha256(data).hexdigest()
        offered[file_path(certificate)] = data
    version = Manifest.from_bytes(registry.manifest(release_id)[0]).version
    return ChannelPointer(release_id=release_id, version=version, certificate=certificate, share=share, withdrawn=withdrawn)


def _kept(registry: ReleaseRegistry) -> list[str]:
    releases = registry.releases()
    live = [release.release_id for release in releases if release.state in ("candidate", "active")]
    retired = [release.release_id for release in releases if release.state == "retired"][-1:]
    return live + [release_id for release_id in retired if registry.has_files(release_id)]


def _replace_root_keys(root: Root, signers: list[CryptoSigner]) -> list[CryptoSigner]:
    for keyid in list(root.roles["root"].keyids):
        root.revoke_key(keyid, "root")
    for signer in signers:
        root.add_key(signer.public_key, "root")
    return signers


def _threshold(wanted: int | None, root: Root) -> int:
    keys = len(root.roles["root"].keyids)
    threshold = min(root.roles["root"].threshold, keys) if wanted is None else wanted
    if not 1 <= threshold <= keys:
        raise InputError(f"a threshold of {threshold} does not fit {keys} root keys")
    return threshold
