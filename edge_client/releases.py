"""Which release a device runs: fetched, verified, loaded beside the running one, tested on this machine, swapped at once.

A release and its certificate are one desired state: both hold, or nothing changes. Versions never go back, and neither do
certificates. A refusal says why and leaves the device answering as before.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from edge_client.loading import LoadedRelease, ReleaseLoader
from edge_client.shelf import Shelf
from edge_client.store import DeviceStore, InstalledRelease
from fedge.errors import VerificationError
from fedge.release import CertificateDocument, Release
from fedge.routing import CertificateStatement


@dataclass(frozen=True, slots=True)
class Latest:
    """What the fleet should run: a release's id and the signed certificate document for it; either may not be there yet.

    ``withdrawn``: releases that were taken back. Only a device that runs one of them goes to an older version.
    """

    release_id: str | None
    certificate: bytes | None
    withdrawn: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ReleasePieces:
    """A release as it travels: ``files`` by hex SHA-256, without those that the device said it has."""

    manifest: bytes
    signature: bytes
    files: Mapping[str, bytes]

    @property
    def size_bytes(self) -> int:
        """What the device downloads."""
        return len(self.manifest) + len(self.signature) + sum(map(len, self.files.values()))


class ReleaseSource(Protocol):
    """Where releases come from."""

    def latest(self) -> Latest:
        """The desired state. Raises a FedgeError where the source cannot be reached."""

    def fetch(self, release_id: str, have: Collection[str]) -> ReleasePieces:
        """The pieces of a release, files whose hash is in ``have`` left out. Raises a FedgeError where it cannot."""


@dataclass(frozen=True, slots=True)
class Active:
    """What a device answers with now. ``publication``: number of the newest threshold publication that it knows of."""

    loaded: LoadedRelease
    statement: CertificateStatement | None
    publication: int

    def threshold(self, now: float) -> float | None:
        """The certified threshold, or None while there is none or it has expired: then everything escalates."""
        if self.statement is None or now >= self.statement.expires_at:
            return None
        return self.statement.threshold


@dataclass(frozen=True, slots=True)
class Synced:
    """Outcome of a look at the source. ``changed``: the device answers with another release or certificate than before."""

    changed: bool
    downloaded_bytes: int


class ReleaseManager:
    """Holds what is active and brings it to the desired state."""

    def __init__(self, source: ReleaseSource, *, shelf: Shelf, store: DeviceStore, loader: ReleaseLoader) -> None:
        self._source = source
        self._shelf = shelf
        self._store = store
        self.loader = loader
        self._beside: OrderedDict[str, LoadedRelease] = OrderedDict()
        self._active: Active | None = None

    @property
    def active(self) -> Active | None:
        """What the device answers with; one reference, so a reader never sees half of a swap."""
        return self._active

    def restore(self) -> bool:
        """Take up the release that was installed when the device stopped, without the network. False where there is none.

        Raises VerificationError where what was kept no longer verifies.
        """
        installed = self._store.installed.get()
        release = self._shelf.get(installed.release_id) if installed else None
        if installed is None or release is None:
            return False
        loaded = self.loader.load(release.manifest.to_bytes(), release.signature, _by_hash(release))
        statement = self._read_certificate(installed.certificate, installed.release_id)
        self._active = Active(loaded, statement, installed.publication)
        return True

    def sync(self) -> Synced:
        """Bring the device to the source's desired state. Raises a FedgeError, and changes nothing, where it is refused."""
        latest = self._source.latest()
        if latest.release_id is None:
            return Synced(changed=False, downloaded_bytes=0)
        installed = self._store.installed.get()
        same = self._active is not None and self._active.loaded.release_id == latest.release_id
        if same and installed is not None and installed.certificate == latest.certificate:
            return Synced(changed=False, downloaded_bytes=0)
        loaded, downloaded = self.obtain(latest.release_id)
        publication = installed.publication if installed else 0
        self._refuse_older(loaded, installed)
        statement = self._read_certificate(latest.certificate, latest.release_id)
        if statement is not None:
            self._refuse_older_certificate(statement, publication)
            downloaded += len(latest.certificate or b"")
            publication = statement.round
        self._shelf.put(loaded.release)
        self._store.installed.set(
            InstalledRelease(latest.release_id, loaded.release.manifest.version, latest.certificate, publication)
        )
        self._active = Active(loaded, statement, publication)
        self._beside.pop(latest.release_id, None)
        self._shelf.drop_others(latest.release_id)
        return Synced(changed=True, downloaded_bytes=downloaded)

    def obtain(self, release_id: str) -> tuple[LoadedRelease, int]:
        """A release loaded beside the active one, which stays as it is, and the bytes downloaded for it (0 if it was there).

        For training on a base, or for scoring probes under a candidate. Raises a FedgeError where it is refused.
        """
        if self._active is not None and self._active.loaded.release_id == release_id:
            return self._active.loaded, 0
        if release_id in self._beside:
            self._beside.move_to_end(release_id)
            return self._beside[release_id], 0
        have = self._files_by_hash()
        pieces = self._source.fetch(release_id, have.keys())
        loaded = self.loader.load(pieces.manifest, pieces.signature, {**pieces.files, **have})
        if loaded.release_id != release_id:
            raise VerificationError(
                f"asked for release {release_id[:12]}, was sent {loaded.release_id[:12]}: it is not loaded"
            )
        self._beside[release_id] = loaded
        while len(self._beside) > 1:
            self._beside.popitem(last=False)
        return loaded, pieces.size_bytes

    def _files_by_hash(self) -> dict[str, bytes]:
        known = [*self._beside.values(), *([self._active.loaded] if self._active else [])]
        return {digest: data for loaded in known for digest, data in _by_hash(loaded.release).items()}

    def _read_certificate(self, document: bytes | None, release_id: str) -> CertificateStatement | None:
        if document is None:
            return None
        payload = CertificateDocument.from_bytes(document).verify(self.loader.release_key, release_id)
        statement = CertificateStatement.from_bytes(payload)
        if statement.release_id != release_id:
            raise VerificationError(f"the certificate speaks of release {statement.release_id[:12]}, not {release_id[:12]}")
        return statement

    @staticmethod
    def _refuse_older(loaded: LoadedRelease, installed: InstalledRelease | None) -> None:
        version = loaded.release.manifest.version
        if installed is None or loaded.release_id == installed.release_id or version > installed.version:
            return
        raise VerificationError(
            f"release {loaded.release_id[:12]} has version {version}, this device has version {installed.version}: "
            "an older or equal version is not installed"
        )

    def _refuse_older_certificate(self, statement: CertificateStatement, publication: int) -> None:
        current = self._active.statement if self._active else None
        older = statement.round < publication
        if current is not None and current.round == statement.round:
            older = statement.issued_at < current.issued_at
        if older:
            raise VerificationError(
                f"the certificate of round {statement.round} is older than the one of round {publication} "
                "that this device had: it is not installed"
            )


def _by_hash(release: Release) -> dict[str, bytes]:
    return {release.manifest.files[name]: data for name, data in release.files.items()}
