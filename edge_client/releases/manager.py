"""Which release a device runs: fetched, verified, loaded beside the running one, tested on this machine, swapped at once.

A release and its certificate are one desired state: both hold, or nothing changes. Versions never go back, and neither do
certificates. A refusal says why and leaves the device answering as before.
"""

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from edge_client.releases.health_window import ReleaseWatch
from edge_client.releases.inference import LoadedRelease, ReleaseLoader
from edge_client.releases.storage import Shelf
from edge_client.store import DeviceStore, HealthCounts, InstalledRelease
from fedge.errors import VerificationError
from fedge.release import CertificateDocument, Release
from fedge.routing import CertificateStatement

CLOCK_SLACK_S = 3600.0
"""How far a device's clock may be behind the server's: a clock that lost its time is further off."""


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
        """The certified threshold, or None while there is none or it has expired: then everything escalates.

        So it is where the clock stands before the certificate was issued: such a clock cannot tell whether it has expired.
        """
        if self.statement is None or not self.statement.issued_at - CLOCK_SLACK_S <= now < self.statement.expires_at:
            return None
        return self.statement.threshold


@dataclass(frozen=True, slots=True)
class Synced:
    """Outcome of a look at the source. ``changed``: the device answers with another release or certificate than before."""

    changed: bool
    downloaded_bytes: int


class ReleaseManager:
    """Holds what is active and brings it to the desired state. Safe between threads.

    With a ``watch`` a swap opens a health window, in which a release that does badly is given up for the one before; what
    was given up is never installed again. Without one (simulation) a release stays until the next one.
    """

    def __init__(
        self,
        source: ReleaseSource,
        *,
        shelf: Shelf,
        store: DeviceStore,
        loader: ReleaseLoader,
        watch: ReleaseWatch | None = None,
    ) -> None:
        self._source = source
        self._shelf = shelf
        self._store = store
        self._watch = watch
        self.loader = loader
        self._beside: OrderedDict[str, LoadedRelease] = OrderedDict()
        self._active: Active | None = None
        self._before: Active | None = None
        """Loaded as long as the device may have to go back to it at once."""
        self._loading = threading.RLock()  # held over downloads
        self._switching = threading.RLock()  # held for a moment: an answer that fails must not wait for a download

    @property
    def active(self) -> Active | None:
        """What the device answers with; one reference, so a reader never sees half of a swap."""
        return self._active

    def restore(self) -> bool:
        """Take up the release that was installed when the device stopped, without the network. False where there is none.

        A release in its health window under which the process ended too often gives way to the one before. Raises
        VerificationError where what was kept no longer verifies.
        """
        with self._loading:
            installed = self._store.installed.get()
            if installed is None:
                return False
            if self._watch is not None and (reason := self._watch.starting(installed.release_id)) is not None:
                self._go_back(installed, reason)
                return self._active is not None
            try:
                self._active = self._from_shelf(installed)
            except VerificationError as error:
                if self._watch is None or self._store.health.before() is None:
                    raise
                self._go_back(installed, f"it could not be loaded at a start: {error}")
            return self._active is not None

    def sync(self) -> Synced:
        """Bring the device to the source's desired state. Raises a FedgeError, and changes nothing, where it is refused."""
        with self._loading:
            self._settle()
            latest = self._source.latest()
            if latest.release_id is None or (self._watch is not None and self._watch.refused(latest.release_id)):
                return Synced(changed=False, downloaded_bytes=0)
            installed = self._store.installed.get()
            same = self._active is not None and self._active.loaded.release_id == latest.release_id
            if same and installed is not None and installed.certificate == latest.certificate:
                return Synced(changed=False, downloaded_bytes=0)
            loaded, downloaded = self.obtain(latest.release_id)
            publication = installed.publication if installed else 0
            withdrawn = installed is not None and installed.release_id in latest.withdrawn
            if not withdrawn:
                self._refuse_older(loaded, installed)
            statement = self._read_certificate(latest.certificate, latest.release_id)
            if statement is not None:
                if not withdrawn:
                    self._refuse_older_certificate(statement, publication)
                downloaded += len(latest.certificate or b"")
                publication = max(publication, statement.round)
            self._shelf.put(loaded.release)
            version = loaded.release.manifest.version
            changed = InstalledRelease(latest.release_id, version, latest.certificate, publication)
            self._swap(Active(loaded, statement, publication), changed, keep=not withdrawn)
            return Synced(changed=True, downloaded_bytes=downloaded)

    def obtain(self, release_id: str) -> tuple[LoadedRelease, int]:
        """A release loaded beside the active one, which stays as it is, and the bytes downloaded for it (0 if it was there).

        For training on a base, or for scoring probes under a candidate. Raises a FedgeError where it is refused.
        """
        with self._loading:
            if self._active is not None and self._active.loaded.release_id == release_id:
                return self._active.loaded, 0
            if release_id in self._beside:
                self._beside.move_to_end(release_id)
                return self._beside[release_id], 0
            have = self._files_by_hash()
            self._refuse_given_up(release_id)
            pieces = self._source.fetch(release_id, have.keys())
            loaded = self._load(release_id, pieces, have)
            self._beside[release_id] = loaded
            while len(self._beside) > 1:
                self._beside.popitem(last=False)
            return loaded, pieces.size_bytes

    def is_desired(self, release_id: str) -> bool:
        """Return whether the device runs this release, or its own channel says that it should: only then it trains on it.

        Raises a FedgeError where the source cannot be reached.
        """
        active = self._active
        if active is not None and active.loaded.release_id == release_id:
            return True
        with self._loading:
            return self._source.latest().release_id == release_id

    # The health window.

    def failed(self, active: Active, error: Exception) -> bool:
        """The model of ``active`` failed at a query. True where the device answers with something else from now on.

        Raises the error again where nobody watches.
        """
        if self._watch is None:
            raise error
        reason = self._watch.note(active.loaded.release_id, errors=1)
        if reason is not None:
            self.give_up(active.loaded.release_id, f"{reason}, last: {type(error).__name__}: {str(error)[:200]}")
        return self._active is not active

    def note(self, active: Active, *, answered: int, routed: int, escalated: int) -> None:
        """Queries were answered while ``active`` was."""
        if self._watch is None:
            return
        release_id = active.loaded.release_id
        reason = self._watch.note(release_id, answered=answered, routed=routed, escalated=escalated)
        if reason is not None:
            self.give_up(release_id, reason)

    def give_up(self, release_id: str, reason: str) -> None:
        """Go back to the release before ``release_id``, if that is the one in use, and never take it again."""
        with self._switching:
            installed = self._store.installed.get()
            if installed is not None and installed.release_id == release_id:
                self._go_back(installed, reason)

    def health_counts(self, release_id: str) -> HealthCounts:
        """How a release did here, as far as no secure sum has carried it yet."""
        if self._watch is None:
            return HealthCounts(release_id, 0, 0, 0, 0)
        return self._watch.pending(release_id)

    def close(self) -> None:
        """The process ends as it should: to be called last, or the end counts as a crash under the release."""
        active = self._active
        if self._watch is not None and active is not None:
            self._watch.stopping(active.loaded.release_id)

    def _settle(self) -> None:
        """Let go of the release before, once the present one's window is over."""
        active = self._active
        if self._watch is not None and active is not None and self._watch.settled(active.loaded.release_id):
            self._before = None
            self._shelf.drop_others(active.loaded.release_id)

    def _swap(self, active: Active, installed: InstalledRelease, *, keep: bool) -> None:
        """Answer with ``active`` from now on; queries in flight end as they began. ``keep``: what ran stays at hand."""
        with self._switching:
            before = self._store.installed.get() if keep else None
            if self._active is not None and self._active.loaded.release_id == installed.release_id:
                before = self._store.health.before()  # only the certificate changes
            elif self._watch is not None:
                self._before = self._active if keep else None
            with self._store.transaction(durable=self._watch is not None):
                if self._watch is not None:
                    self._watch.begin(installed.release_id, before)
                self._store.installed.set(installed)
            self._active = active
            self._beside.pop(installed.release_id, None)
            others = [before.release_id] if before is not None and self._watch is not None else []
            self._shelf.drop_others(installed.release_id, *others)

    def _go_back(self, installed: InstalledRelease, reason: str) -> None:
        """Give up what is installed for what was before it; without such a release central answers everything."""
        assert self._watch is not None
        with self._switching:
            before = self._store.health.before()
            earlier, self._before = self._before, None
            if before is not None and (earlier is None or earlier.loaded.release_id != before.release_id):
                try:
                    earlier = self._from_shelf(before)
                except VerificationError as error:
                    earlier, reason = None, f"{reason}; the release before it could not be loaded: {error}"
            with self._store.transaction(durable=True):
                self._watch.give_up(installed.release_id, reason)
                self._store.health.set_before(None)
                if before is not None and earlier is not None:
                    publication = max(before.publication, installed.publication)
                    self._store.installed.set(replace(before, publication=publication))
                else:
                    self._store.installed.clear()
            self._active = earlier

    def _from_shelf(self, installed: InstalledRelease) -> Active | None:
        release = self._shelf.get(installed.release_id)
        if release is None:
            return None
        loaded = self.loader.load(release.manifest.to_bytes(), release.signature, _by_hash(release), is_known=True)
        statement = self._read_certificate(installed.certificate, installed.release_id)
        return Active(loaded, statement, installed.publication)

    def _refuse_given_up(self, release_id: str) -> None:
        reason = self._watch.refused(release_id) if self._watch is not None else None
        if reason is not None:
            raise VerificationError(f"release {release_id[:12]} was given up on this device: {reason}")

    def _load(self, release_id: str, pieces: ReleasePieces, have: Mapping[str, bytes]) -> LoadedRelease:
        """Load and test what was fetched; a release that fails, or that ends the process again and again, is given up."""
        if self._watch is not None and (reason := self._watch.trying(release_id)) is not None:
            self._watch.give_up(release_id, reason)
            self._refuse_given_up(release_id)
        try:
            loaded = self.loader.load(pieces.manifest, pieces.signature, {**pieces.files, **have})
            if loaded.release_id != release_id:
                raise VerificationError(
                    f"asked for release {release_id[:12]}, was sent {loaded.release_id[:12]}: it is not loaded"
                )
        except VerificationError as error:
            if self._watch is not None:
                self._watch.give_up(release_id, str(error))
            raise
        if self._watch is not None:
            self._watch.loaded(release_id)
        return loaded

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
